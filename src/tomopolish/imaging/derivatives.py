"""Derivatives of predictions by views, shifts and optics, pair by pair.

See docs/dev/conventions.md, Joint refinement.

Boxes come as those of the correlation windows do; no pair leaves more than a small matrix and a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.imaging.frequencies import TiltFrequencies
from tomopolish.imaging.kept_spectra import KeptSpectra
from tomopolish.imaging.kernels import derivatives as kernels
from tomopolish.imaging.windows import PairBatch, TiltTask, box_spectra, chunks, pair_batch
from tomopolish.physics.fourier import column_multiplicity
from tomopolish.shapes import Array, Complex64, Float, Float32, Int

GEOMETRY = kernels.SCALE
"""Number of unknowns of a pair's geometry, a rotation and a shift; those of optics follow."""

SHIFTS = slice(3, GEOMETRY)
"""A pair's shifts among its unknowns."""
TINY = 1e-9
"""Relative ridge of matrices of single pairs, whose unknowns may change a prediction alike."""

SCALE, BFACTOR, DEFOCUS, ASTIGMATISM, ASTIGMATISM_ASIDE, PHASE_SHIFT = (
    "ln_scale",
    "bfactor",
    "defocus",
    "astigmatism",
    "astigmatism_aside",
    "phase_shift",
)
"""Unknowns of a tilt image's optics: ln s, B (Å²), defocus (Å), half of the difference of the defocus along x
and y and its counterpart along the diagonals (Å), phase shift (degrees)."""

ALWAYS = (SCALE, BFACTOR, DEFOCUS)
"""Unknowns whose derivatives are always computed, first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairDerivatives:
    """Products of pairs' derivatives, with all weights; see `kernels.derivatives.pair_derivatives`.

    Attributes
    ----------
    matched
        Of the derivatives with the image.
    normal
        Of the derivatives with each other.
    """

    matched: Float[Array, "B N"]
    normal: Float[Array, "B N N"]

    @classmethod
    def empty(cls, pairs: int, unknowns: int) -> PairDerivatives:
        """Return arrays of the right shapes, uninitialised."""
        return cls(matched=np.empty((pairs, unknowns)), normal=np.empty((pairs, unknowns, unknowns)))

    @property
    def gradient(self) -> Float[Array, "B N"]:
        """Gradient of the log-likelihood."""
        return self.matched - self.normal[:, GEOMETRY]

    def times(self, weights: Float[Array, "B"]) -> PairDerivatives:
        """Return the derivatives of pairs whose log-likelihood is multiplied by a weight."""
        return PairDerivatives(
            matched=self.matched * weights[:, None], normal=self.normal * weights[:, None, None]
        )

    def squares_without_shifts(self) -> Float[Array, "B"]:
        """Return the squared gradients by turns and optics, over those that are expected at the truth."""
        size = self.matched.shape[1]
        chosen = np.delete(np.arange(size), SHIFTS)
        gradient, normal = self.gradient[:, chosen], self.normal[:, chosen][:, :, chosen].copy()
        index = np.arange(len(chosen))
        normal[:, index, index] *= 1 + TINY
        normal[:, index, index] += np.finfo(float).tiny
        solved: Array = np.linalg.solve(normal, gradient[..., None])[..., 0]
        return np.einsum("bi,bi->b", gradient, solved)

    @property
    def log_likelihood(self) -> Float[Array, "B"]:
        """Log-likelihood of the prediction minus that of no prediction."""
        return self.matched[:, GEOMETRY] - self.normal[:, GEOMETRY, GEOMETRY] / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class UsedFrequencies:
    """The frequencies in use in one tilt image up to a limit, as flat lists; see `pair_derivatives`.

    Attributes
    ----------
    number
        Index of each frequency in the list up to a higher limit from which these were selected, or here.
    """

    frequencies: TiltFrequencies
    number: Int[Array, "K"]
    place: Int[Array, "K"]
    kx: Float32[Array, "K"]
    ky: Float32[Array, "K"]
    image_weight: Float32[Array, "K"]
    amplitude: Float32[Array, "K"]
    damping: Float32[Array, "K"]
    rates: Float32[Array, "M K"]
    phase: Float32[Array, "G K"]
    odd: Complex64[Array, "G A"]

    def up_to(self, limit: float) -> UsedFrequencies:
        """Return those up to a lower limit, Fourier px; boxes are still transformed up to the higher one."""
        chosen = np.flatnonzero(self.kx**2 + self.ky**2 <= limit**2)
        return replace(
            self,
            number=self.number[chosen],
            place=self.place[chosen],
            kx=self.kx[chosen],
            ky=self.ky[chosen],
            image_weight=self.image_weight[chosen],
            amplitude=self.amplitude[chosen],
            damping=self.damping[chosen],
            rates=np.ascontiguousarray(self.rates[:, chosen]),
            phase=np.ascontiguousarray(self.phase[:, chosen]),
            odd=np.ascontiguousarray(self.odd[:, chosen]) if self.odd.size else self.odd,
        )

    def changed(self, optics: Float[Array, "U"]) -> UsedFrequencies:
        """Return the frequencies after changes of the unknowns of the optics, in their order."""
        if not optics.any():
            return self
        scale, bfactor, *rest = (np.float32(value) for value in optics)
        return replace(
            self,
            amplitude=self.amplitude * np.exp(scale + bfactor * self.damping),
            phase=self.phase + np.array(rest, dtype=np.float32) @ self.rates,
        )


def used_frequencies(
    frequencies: TiltFrequencies,
    box_px: int,
    pixel_size_angstrom: float,
    limit: float,
    optics: Sequence[str] = ALWAYS,
    reference_factor: Float[Array, "box columns"] | float = 1.0,
) -> UsedFrequencies:
    """List the frequencies in use up to a limit.

    Parameters
    ----------
    limit
        Largest frequency, Fourier px.
    optics
        Unknowns of the optics; they begin with `ALWAYS`.
    reference_factor
        Factor by which the reference is multiplied, on the half plane or the same everywhere.
    """
    cropped = _cropped(frequencies, int(limit) + 1)
    rows, columns = cropped.weight.shape[1:]
    ky = np.stack([np.arange(rows), -np.arange(rows)])[..., None] + np.zeros(columns)
    kx = np.arange(columns) + np.zeros_like(ky)
    used = (np.arange(columns) < cropped.columns_used[..., None]) & (kx**2 + ky**2 <= limit**2)
    used[1, 0] = False
    used &= cropped.signal_weight > 0
    place = np.flatnonzero(used)
    kx, ky = kx.ravel()[place], ky.ravel()[place]
    amplitude = np.sqrt(cropped.signal_weight.reshape(-1)[place].astype(np.float64))
    sign = 1 - 2 * ((kx + ky) % 2)  # e^{2πi k·(s/2)/s}, box centre
    count = column_multiplicity(box_px)[kx.astype(np.int64)]
    per_angstrom = frequencies.defocus_per_angstrom
    rates = {
        DEFOCUS: per_angstrom * (kx**2 + ky**2),
        ASTIGMATISM: per_angstrom * (kx**2 - ky**2),
        ASTIGMATISM_ASIDE: per_angstrom * 2 * kx * ky,
        PHASE_SHIFT: np.full(len(place), -np.pi / 180),
    }
    plane = np.broadcast_to(reference_factor, (box_px, box_px // 2 + 1))
    factor = plane[ky.astype(np.int64) % box_px, kx.astype(np.int64)]
    groups = len(cropped.phase)
    odd = cropped.odd.reshape(groups, -1)
    unit = 1 / (box_px * pixel_size_angstrom)
    return UsedFrequencies(
        frequencies=cropped,
        number=np.arange(len(place)),
        place=place,
        kx=kx.astype(np.float32),
        ky=ky.astype(np.float32),
        image_weight=(sign * count * cropped.weight.reshape(-1)[place] / amplitude).astype(np.float32),
        amplitude=(factor * amplitude).astype(np.float32),
        damping=(-(kx**2 + ky**2) * unit**2 / 4).astype(np.float32),
        rates=np.stack([rates[name] for name in optics[2:]]).astype(np.float32),
        phase=cropped.phase.reshape(groups, -1)[:, place],
        odd=odd[:, place] if odd.size else odd,
    )


def _cropped(frequencies: TiltFrequencies, last: int) -> TiltFrequencies:
    """Return the frequencies up to `last` along both axes."""
    rows, columns = (min(last + 1, size) for size in frequencies.weight.shape[1:])

    def part(plane: Array) -> Array:
        return np.ascontiguousarray(plane[..., :rows, :columns])

    return replace(
        frequencies,
        columns_used=np.minimum(frequencies.columns_used[:, :rows], columns),
        weight=part(frequencies.weight),
        signal_weight=part(frequencies.signal_weight),
        phase=part(frequencies.phase),
        odd=part(frequencies.odd),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Predictions with which the boxes of one tilt image are compared.

    Attributes
    ----------
    task
        Its frequencies are those of `used`.
    other_half
        Whether pairs are compared with the half map to which their particle did not contribute.
    values_only
        Whether no derivatives are needed but that by the logarithm of the scale; others may be zero then.
    """

    task: TiltTask
    used: UsedFrequencies
    other_half: bool = False
    values_only: bool = False

    @property
    def unknowns(self) -> int:
        """Number of unknowns of a pair."""
        return GEOMETRY + 2 + len(self.used.rates)

    def batch(self, chosen: Int[Array, "B"]) -> PairBatch:
        """Return the data of some particles' pairs."""
        batch = pair_batch(self.task, chosen)
        return batch.of_other_half(np.arange(len(chosen))) if self.other_half else batch


def batches_of(
    comparisons: Sequence[Comparison], chosen: Int[Array, "B"], kept: KeptSpectra | None = None
) -> list[PairBatch]:
    """Return the data of some particles' pairs for each comparison, in kept boxes or those of the first."""
    batches = [comparison.batch(chosen) for comparison in comparisons]
    corners = batches[0].corners if kept is None else kept.corners[kept.rows_of(chosen)]
    return [batch.cut_at(corners) for batch in batches]


def tilt_derivatives(
    comparisons: Sequence[Comparison],
    chosen: Int[Array, "B"],
    pool: Executor,
    kept: KeptSpectra | None = None,
) -> list[PairDerivatives]:
    """Return the derivatives of some particles' pairs in one tilt image, in the order of `chosen`.

    Parameters
    ----------
    comparisons
        Of one tilt image, species and resolution; boxes are cut once, where the first expects them.
    kept
        Spectra of these and perhaps more pairs, which take the place of the image's boxes; filled at first.
    """
    first = comparisons[0]
    if kept is not None and not kept.is_filled:
        _fill(kept, first, pool)
    rows = None if kept is None else kept.rows_of(chosen)
    batches = batches_of(comparisons, chosen, kept)
    results = [PairDerivatives.empty(len(chosen), comparison.unknowns) for comparison in comparisons]

    def work(part: Int[Array, "b"]) -> None:
        if kept is None or rows is None:
            spectra = box_spectra(first.task, batches[0].part(part))
        else:
            spectra = kept.weighted(rows[part])
        for comparison, pairs, result in zip(comparisons, batches, results, strict=True):
            result.matched[part], result.normal[part] = _products(
                comparison, pairs.part(part), spectra, are_kept=kept is not None
            )

    for _ in pool.map(work, _chunks(batches[0], first.task.reference.box_px)):
        pass
    return results


def _fill(kept: KeptSpectra, comparison: Comparison, pool: Executor) -> None:
    """Put the spectra of all pairs that are kept."""
    batch = comparison.batch(kept.pairs).cut_at(kept.corners)

    def work(part: Int[Array, "b"]) -> None:
        kept.put(part, box_spectra(comparison.task, batch.part(part)))

    for _ in pool.map(work, _chunks(batch, comparison.task.reference.box_px)):
        pass
    kept.is_filled = True


def _chunks(batch: PairBatch, box_px: int) -> list[Int[Array, "b"]]:
    """Return the pairs in parts, by half map and position, so that the data of a part stay in cache."""
    order = np.lexsort((batch.corners[:, 0], batch.corners[:, 1] // (box_px // 2), batch.half_set))
    return chunks(order, box_px)


def _products(
    comparison: Comparison, batch: PairBatch, spectra: Float32[Array, "B 2 2 R C"], *, are_kept: bool
) -> tuple[Array, Array]:
    """Compute the products of a batch of pairs; see `kernels.derivatives.pair_derivatives`.

    Parameters
    ----------
    spectra
        Of an image's boxes or, if they were kept, the frequencies in use, weighted.
    """
    task, used, unknowns = comparison.task, comparison.used, comparison.unknowns
    pairs_and_image = (
        spectra,
        used.number if are_kept else used.place,
        task.reference.box_px,
        task.reference.flat,
        task.reference.reach,
        batch.half_set,
        batch.views,
        (batch.centre - task.reference.box_px // 2).astype(np.float32),
        used.kx,
        used.ky,
        np.ones_like(used.image_weight) if are_kept else used.image_weight,
        used.amplitude,
    )
    optics = batch.defocus, used.phase, used.odd, batch.optics_group
    matched = np.zeros((len(batch.corners), unknowns))
    normal = np.zeros((len(batch.corners), unknowns, unknowns))
    if comparison.values_only:
        values = np.empty((len(batch.corners), 2))
        kernels.pair_values(*pairs_and_image, *optics, values)
        matched[:, GEOMETRY], normal[:, GEOMETRY, GEOMETRY] = values.T
    else:
        kernels.pair_derivatives(*pairs_and_image, used.damping, used.rates, *optics, matched, normal)
    return matched, normal
