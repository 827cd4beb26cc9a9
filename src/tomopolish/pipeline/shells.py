"""Agreement of held-out pairs by spatial frequency, from the windows that the verdict rests on.

A window is the inverse transform of weighted products of image and prediction. Multiplied by a taper T with
T(0) = 1 about a place, and transformed back, it yields the part of the log-likelihood there that each ring
of frequencies contributes; neighbouring rings mix over the width of the taper's transform. Images exactly
like the predictions would yield the same sums over the window Σ p(k) J0(2πk|δ|/s), where p is the radial
average of the predictions' weighted power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import fft2
from scipy.special import j0

from tomopolish.dataset.model import OpticsGroup, TiltSeries
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.pipeline.evidence import held_out_that_show
from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.results.tomogram import BinnedAgreement
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float, Int

MOST_PAIRS = 600
"""Maximum number of held-out pairs that are transformed: more would only take time."""
AT_ONCE = 100
LEAST_SHARE = 0.002
"""Power of a ring, over all power, below which it is left out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Held-out pairs on the scale of the references themselves.

    Attributes
    ----------
    values, power
        As in `CorrelationWindows`, one row per pair.
    moved
        Displacement of the refined from the input place, in samples of the windows.
    owner
        Species of each pair.
    """

    tilts: Int[Array, "K"]
    values: Float[Array, "K n n"]
    power: Float[Array, "K"]
    moved: Float[Array, "K 2"]
    owner: Int[Array, "K"]


def by_frequency(
    fit: Fit,
    references: Sequence[PreparedReferences],
    weights: Sequence[Float[Array, "G s c"] | None],
    settings: AlignSettings,
) -> BinnedAgreement | None:
    """Return the agreement of held-out pairs by spatial frequency, 1/Å; None where no pair was held out.

    Pairs of false particles and empty images do not count.

    Parameters
    ----------
    references, weights
        Of each species with particles in the tomogram.
    """
    pairs, series, windows = _held_out_pairs(fit), fit.tomogram.series, fit.windows
    if pairs is None:
        return None
    samples = pairs.values.shape[-1]
    half = windows.range_px / windows.step_px
    measured = [_ring_sums(pairs.values, moved, half) for moved in (np.zeros_like(pairs.moved), pairs.moved)]
    expected = np.zeros(len(measured[0]))
    for number, (reference, weight) in enumerate(zip(references, weights, strict=True)):
        own = pairs.owner == number
        if weight is None or not own.any():
            continue
        spectrum = np.zeros(len(reference.shell_power))
        for tilt in np.unique(pairs.tilts[own]):
            groups = fit.tomogram.species[number].optics_groups
            power = pairs.power[own & (pairs.tilts == tilt)].sum()
            shells = _predicted_shells(series, int(tilt), weight, groups, reference.shell_power, settings)
            spectrum += shells * (power / max(float(shells.sum()), np.finfo(np.float64).tiny))
        predicted = _predicted_window(spectrum, reference.box_px, windows, samples)
        expected += _ring_sums(predicted[None], np.zeros((1, 2)), half)
    used = expected > LEAST_SHARE * expected.sum()
    used[0] = False  # boxes have no mean
    if not used.any():
        return None
    return BinnedAgreement(
        centres=np.flatnonzero(used) / (samples * windows.step_px * series.pixel_size_angstrom),
        log_likelihood=np.stack(measured, axis=-1)[used],
        power=expected[used],
    )


def _held_out_pairs(fit: Fit) -> _Pairs | None:
    """Return held-out pairs of particles and images that show what is predicted; None without any."""
    windows = fit.windows
    held = held_out_that_show(windows, fit.refinement.problem)
    if held is None or not held.power.sum() > 0:
        return None
    chosen = np.unique(np.linspace(0, len(held) - 1, MOST_PAIRS).round().astype(np.int64))
    place = (held.tilts[chosen], held.particles[chosen])
    owner = fit.tomogram.owner[place[1]]
    factor = np.array(fit.applied)[owner]
    return _Pairs(
        tilts=place[0],
        values=held.values[chosen] / factor[:, None, None],
        power=held.power[chosen] / factor**2,
        moved=fit.refinement.displacements_px[place] / windows.step_px,
        owner=owner,
    )


def _ring_sums(
    values: Float[Array, "K n n"], about: Float[Array, "K 2"], half: float
) -> Float[Array, "rings"]:
    """Return the part of each ring of frequencies in the sum of windows at places, samples from the origin.

    Parameters
    ----------
    half
        Samples from the places to where the taper is zero.
    """
    samples = values.shape[-1]
    frequency = np.fft.fftfreq(samples, 1 / samples)
    ring = np.round(np.hypot(frequency[:, None], frequency)).astype(np.int64).ravel()
    offsets = np.arange(samples) - samples // 2
    total = np.zeros((samples, samples))
    for start in range(0, len(values), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        away = offsets - about[part].T[..., None]  # x and y, pair, sample
        x, y = np.where(np.abs(away) < half, np.cos(np.pi * away / (2 * half)) ** 2, 0.0)
        turn_x, turn_y = np.exp(2j * np.pi / samples * frequency * (samples // 2 + about[part].T[..., None]))
        transform = fft2(values[part] * y[:, :, None] * x[:, None, :])
        transform *= turn_y[:, :, None]
        transform *= turn_x[:, None, :]
        total += transform.real.sum(axis=0)
    return np.bincount(ring, weights=total.ravel()) / samples**2


def _predicted_shells(
    series: TiltSeries,
    tilt: int,
    weight: Float[Array, "G s c"],
    groups: tuple[OpticsGroup, ...],
    shell_power: Float[Array, "shells"],
    settings: AlignSettings,
) -> Float[Array, "shells"]:
    """Return the weighted power of a prediction in one tilt image by shell, for defocus at the centre."""
    plane = weight[tilt % len(weight)]
    shared = tilt_frequencies(series, tilt, plane, groups, settings.weights.cutoff_fraction)
    _, rows, columns = shared.signal_weight.shape
    ky, kx = np.stack([np.arange(rows), -np.arange(rows)])[..., None], np.arange(columns)
    shell = np.round(np.hypot(ky, kx)).astype(np.int64)
    inside = shell < len(shell_power)
    xx, xy, yy = shared.defocus
    gamma = xx * kx**2 + xy * kx * ky + yy * ky**2 + shared.phase[0]
    power = (shared.signal_weight * np.sin(gamma) ** 2)[inside]
    return shell_power * np.bincount(shell[inside], weights=power, minlength=len(shell_power))


def _predicted_window(
    spectrum: Float[Array, "shells"], box_px: int, windows: CorrelationWindows, samples: int
) -> Float[Array, "n n"]:
    """Return the window of images that are exactly like predictions with a radial power spectrum."""
    offsets = np.arange(samples) - samples // 2
    squares, place = np.unique(offsets[:, None] ** 2 + offsets**2, return_inverse=True)
    distance = np.sqrt(squares) * windows.step_px
    values = j0(2 * np.pi / box_px * np.outer(distance, np.arange(len(spectrum)))) @ spectrum
    return values[place.reshape(samples, samples)]
