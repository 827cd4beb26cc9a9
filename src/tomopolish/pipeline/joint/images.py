"""Passes of a joint refinement over the tilt images of one tomogram, one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tomopolish.dataset.model import Tomogram
from tomopolish.dataset.reading import image_alone, overlap, prefetch
from tomopolish.imaging.derivatives import (
    GEOMETRY,
    Comparison,
    PairDerivatives,
    UsedFrequencies,
    used_frequencies,
)
from tomopolish.imaging.devices import Correlator
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.kept_spectra import KeptSpectra, kept_bytes
from tomopolish.imaging.windows import PairGeometry, TiltTask, pair_geometry
from tomopolish.physics.geometry import tomogram_centre_px
from tomopolish.pipeline.joint.held_out import HeldOutPairs, HeldOutValues
from tomopolish.pipeline.joint.state import JointState
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Bool, Float, Float32, Int, Int8
from tomopolish.solve.joint import NormalEquations
from tomopolish.solve.uncertainty import Misfit

NOT_READ: Float32[Array, "0 0"] = np.zeros((0, 0), dtype=np.float32)
"""Stands for a tilt image that is not needed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JointImages:
    """Tilt images, weights and references against which states are compared.

    Attributes
    ----------
    tomogram
        Screened images and input, with refined motion and warp; states are changes of it.
    given
        The input, with which held-out pairs are compared.
    weights
        Frequency weights of each species (`CorrelationWindows.frequency_weights`).
    scales
        Factor by which each species' references are multiplied.
    visible
        Pairs that take part or are held out.
    pair_weights
        Factor of the log-likelihood of each pair: the probability that its particle and its tilt image show
        what the references predict, less where its box has more noise than its tilt image.
    correlator
        Computes derivatives.
    advance
        Called after each image.
    spare_bytes
        Memory that transforms of boxes may take between passes.
    keeps, kept_limit
        Memory for the transforms of the boxes of those species and tilt images for which they are kept, and
        up to which frequency, 1/px.
    shared, kept
        Frequencies of species and tilt images at the input, up to the last limit, and transforms of the boxes
        of their pairs; filled when first used.
    """

    tomogram: Tomogram
    given: Tomogram
    references: Sequence[PreparedReferences]
    weights: Sequence[Float[Array, "G box columns"]]
    scales: Sequence[float]
    visible: Bool[Array, "F P"]
    pair_weights: Float[Array, "F P"]
    held_out: HeldOutPairs | None
    settings: AlignSettings
    correlator: Correlator
    threads: int
    advance: Callable[[], None]
    spare_bytes: int = 0
    keeps: Mapping[tuple[int, int], Int8[Array, "M"]] = field(default_factory=dict)
    kept_limit: float = 0.0
    shared: dict[tuple[int, int], tuple[float, UsedFrequencies]] = field(default_factory=dict)
    kept: dict[tuple[int, int], KeptSpectra] = field(default_factory=dict)

    @property
    def particle_weights(self) -> Float[Array, "P"]:
        """Largest weight of each particle's pairs; its priors have it, too, so that only its pull is less."""
        largest = np.where(self.visible, self.pair_weights, 0.0).max(axis=0, initial=0.0)
        return np.where(largest > 0, largest, 1.0)

    def keeping(self, limit: float) -> JointImages:
        """Return images that keep transforms of boxes between passes, up to a limit, 1/px.

        Kept are those of as many tilt images as fit into the spare memory; these are read once.
        """
        keeps, end = {}, 0
        for tilt in np.flatnonzero(self.visible.any(axis=1)).tolist():
            for number, part in enumerate(self.tomogram.parts):
                box_px, pairs = self.references[number].box_px, int(self.visible[tilt, part].sum())
                needed = kept_bytes(pairs, limit * box_px)
                if pairs and end + needed <= self.spare_bytes:
                    keeps[number, tilt] = slice(end, end + needed)
                    end += needed
        # One block goes back to the system when it is freed; many small ones would stay with the process.
        memory = np.zeros(end, dtype=np.int8)
        return replace(
            self,
            keeps={key: memory[place] for key, place in keeps.items()},
            kept_limit=limit,
            shared={},
            kept={},
        )

    def equations(self, state: JointState, limit: float, *, held_out: bool = True) -> NormalEquations:
        """Return the normal equations at a state.

        Parameters
        ----------
        limit
            Largest frequency, 1/px.
        held_out
            Whether held-out pairs take part.
        """
        view, visible = _View.of(self, self.tomogram, state), self.visible
        if not held_out and self.held_out is not None:
            visible = visible.copy()
            visible[self.held_out.tilts, self.held_out.particles] = False
        result = NormalEquations.zero(visible.shape[0], visible.shape[1], len(state.names))

        def add(tilt: int, image: Float32[Array, "h w"]) -> None:
            for number, chosen in self._by_species(np.flatnonzero(visible[tilt])):
                comparison = view.comparison(number, tilt, image, limit)
                kept = self._spectra(number, comparison, chosen)
                (pairs,) = self.correlator.tilt_derivatives([comparison], chosen, kept)
                view.add_to(result, number, tilt, chosen, pairs)

        self._each(np.flatnonzero(visible.any(axis=1)), add)
        return result

    def held_out_pairs(
        self, at: JointState, states: Sequence[JointState], limit: float
    ) -> tuple[NormalEquations, HeldOutValues]:
        """Return normal equations and values of the held-out pairs.

        Parameters
        ----------
        at
            State at which the equations are, of pairs that are compared with their own half map.
        states
            Values are those of the input and of these states, of pairs that are compared with the half map
            to which their particle did not contribute.
        """
        held = self.held_out
        assert held is not None
        own = _View.of(self, self.tomogram, at)
        before = JointState.of(self.given, at.names)
        others = [_View.of(self, self.given, before), *(_View.of(self, self.tomogram, s) for s in states)]
        result = NormalEquations.zero(self.visible.shape[0], self.visible.shape[1], len(at.names))
        matched, power = (np.zeros((len(others), len(held.tilts))) for _ in range(2))

        def compare(tilt: int, image: Float32[Array, "h w"]) -> None:
            here = np.flatnonzero(held.tilts == tilt)
            for number, chosen in self._by_species(held.particles[here]):
                comparisons = [own.comparison(number, tilt, image, limit)]
                comparisons += [
                    v.comparison(number, tilt, image, limit, other_half=True, values_only=True)
                    for v in others
                ]
                kept = self._spectra(number, comparisons[0], chosen)
                pairs, *values = self.correlator.tilt_derivatives(comparisons, chosen, kept)
                own.add_to(result, number, tilt, chosen, pairs)
                members = self.tomogram.parts[number].start + chosen
                place = here[np.isin(held.particles[here], members)]
                weights = self.pair_weights[tilt, members]
                for i, part in enumerate(values):
                    matched[i, place] = weights * part.matched[:, GEOMETRY]
                    power[i, place] = weights * part.normal[:, GEOMETRY, GEOMETRY]

        self._each(np.unique(held.tilts), compare)
        return result, HeldOutValues(matched=matched, power=power)

    def compared(
        self, states: Sequence[tuple[JointState, bool]], limit: float
    ) -> tuple[list[NormalEquations], Misfit]:
        """Return the normal equations of all pairs at several states, and the misfit at the first.

        Parameters
        ----------
        states
            With whether pairs are compared with the half map to which their particle did not contribute.
        """
        views = [_View.of(self, self.tomogram, state) for state, _ in states]
        size = (*self.visible.shape, len(states[0][0].names))
        results = [NormalEquations.zero(*size) for _ in states]
        squares, components = 0.0, 0.0

        def compare(tilt: int, image: Float32[Array, "h w"]) -> None:
            nonlocal squares, components
            for number, chosen in self._by_species(np.flatnonzero(self.visible[tilt])):
                comparisons = [
                    view.comparison(number, tilt, image, limit, other_half=other)
                    for view, (_, other) in zip(views, states, strict=True)
                ]
                kept = self._spectra(number, comparisons[0], chosen)
                compared = self.correlator.tilt_derivatives(comparisons, chosen, kept)
                for view, result, pairs in zip(views, results, compared, strict=True):
                    view.add_to(result, number, tilt, chosen, pairs)
                weights = self.pair_weights[tilt, self.tomogram.parts[number].start + chosen]
                squares += float(weights @ compared[0].squares_without_shifts())
                components += float(weights.sum()) * (comparisons[0].unknowns - 2)

        self._each(np.flatnonzero(self.visible.any(axis=1)), compare)
        return results, Misfit(squares=squares, components=components)

    def frequencies(self, number: int, tilt: int, limit: float, optics: Sequence[str]) -> UsedFrequencies:
        """Return the frequencies of one species and tilt image up to a limit, 1/px, at the input."""
        made_up_to = self.kept_limit if (number, tilt) in self.keeps else limit
        known = self.shared.get((number, tilt))
        if known is not None and known[0] == made_up_to:
            return known[1] if limit == made_up_to else known[1].up_to(limit * self.references[number].box_px)
        series, reference, weights = self.tomogram.series, self.references[number], self.weights[number]
        used = used_frequencies(
            tilt_frequencies(
                series,
                tilt,
                weights[tilt if len(weights) > 1 else 0],
                self.tomogram.species[number].optics_groups,
                self.settings.weights.cutoff_fraction,
            ),
            reference.box_px,
            series.pixel_size_angstrom,
            made_up_to * reference.box_px,
            optics,
            reference_factor=(
                self.scales[number] * reference.interpolation_gain * reference.weight.signal_fraction
            ),
        )
        self.shared[number, tilt] = made_up_to, used
        return used if limit == made_up_to else used.up_to(limit * reference.box_px)

    def _by_species(self, particles: Int[Array, "N"]) -> Iterator[tuple[int, Int[Array, "B"]]]:
        """Yield the species of some particles, and its particles among them, counted from its first."""
        for number, part in enumerate(self.tomogram.parts):
            own = particles[(particles >= part.start) & (particles < part.stop)] - part.start
            if len(own):
                yield number, own

    def _spectra(self, number: int, comparison: Comparison, chosen: Int[Array, "B"]) -> KeptSpectra | None:
        """Return the kept transforms of a tilt image's pairs, some of which are chosen; None: not kept."""
        key = number, comparison.task.tilt
        if key not in self.keeps:
            return None
        if key not in self.kept:
            pairs = np.flatnonzero(self.visible[key[1], self.tomogram.parts[number]])
            corners, used = comparison.batch(pairs).corners, self.shared[key][1]
            self.kept[key] = KeptSpectra.within(
                self.keeps[key], pairs, corners, used.place, used.image_weight
            )
        kept = self.kept[key]
        return kept if np.isin(chosen, kept.pairs).all() else None

    def _needs_no_image(self, tilt: int) -> bool:
        """Return whether the transforms of all boxes of a tilt image have been kept."""
        present = (n for n, part in enumerate(self.tomogram.parts) if self.visible[tilt, part].any())
        kept = [self.kept.get((number, tilt)) for number in present]
        return all(spectra is not None and spectra.is_filled for spectra in kept)

    def _each(self, tilts: Int[Array, "N"], work: Callable[[int, Array], None]) -> None:
        """Call `work` with every tilt image, those that need not be read first.

        Their order, and with it sums, do not depend on the number of threads.
        """
        is_kept = np.array([self._needs_no_image(int(tilt)) for tilt in tilts], dtype=bool)
        for tilt in tilts[is_kept]:
            work(int(tilt), NOT_READ)
            self.advance()
        memory = self.correlator.host_memory
        ahead = prefetch(
            self.tomogram.series, tilts[~is_kept], image_alone, threads=self.threads, memory=memory
        )
        for _ in overlap(ahead, work, 1):
            self.advance()


@dataclass(frozen=True, kw_only=True, eq=False)
class _View:
    """A state, ready to be compared with images."""

    images: JointImages
    tomogram: Tomogram
    state: JointState
    geometry: tuple[PairGeometry, ...]

    @classmethod
    def of(cls, images: JointImages, origin: Tomogram, state: JointState) -> _View:
        """Project the particles of a state, which is a change of a tomogram."""
        tomogram = state.applied_to(origin)
        series, boxes = tomogram.series, [reference.box_px for reference in images.references]
        return cls(
            images=images,
            tomogram=tomogram,
            state=state,
            geometry=tuple(
                pair_geometry(series, particles, box_px, series.usable)
                for particles, box_px in zip(tomogram.species, boxes, strict=True)
            ),
        )

    def comparison(
        self,
        number: int,
        tilt: int,
        image: Float32[Array, "h w"],
        limit: float,
        *,
        other_half: bool = False,
        values_only: bool = False,
    ) -> Comparison:
        """Return the predictions of one species' pairs; see `Comparison`."""
        images, particles = self.images, self.tomogram.species[number]
        reference = images.references[number]
        used = images.frequencies(number, tilt, limit, self.state.names).changed(self.state.optics[tilt])
        task = TiltTask(
            image=image,
            tilt=tilt,
            geometry=self.geometry[number],
            particles=particles,
            frequencies=used.frequencies,
            reference=reference.transform,
        )
        return Comparison(task=task, used=used, other_half=other_half, values_only=values_only)

    def add_to(
        self,
        equations: NormalEquations,
        number: int,
        tilt: int,
        chosen: Int[Array, "B"],
        pairs: PairDerivatives,
    ) -> None:
        """Add weighted pairs of one species and tilt image to the equations of all species."""
        particles, series = self.tomogram.species[number], self.tomogram.series
        members = self.tomogram.parts[number].start + chosen
        R = series.projections_px[tilt, :3, :3]
        points = particles.positions_px[chosen] - tomogram_centre_px(series.tomogram_size_px)
        if particles.trajectories_px is not None:
            points = points + particles.trajectories_px[chosen, tilt]
        pairs = pairs.times(self.images.pair_weights[tilt, members])
        equations.add(tilt, members, pairs, R, R @ particles.rotations[chosen], points @ R.T)
