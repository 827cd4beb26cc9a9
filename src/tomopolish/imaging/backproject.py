"""Half maps by weighted back-projection of tilt images.

Each image adds w c O to the numerator and w c² to the denominator of the voxels around its slice, where O is
the image's unitary transform, c the real factor of the prediction (CTF, dose, envelope) and w the inverse
noise power (docs/dev/conventions.md). Their quotient is the map's unitary transform, without another factor.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.reading import image_alone, prefetch
from tomopolish.dataset.screening import losing, screened, without_lost
from tomopolish.errors import InputError, UnusableImageError
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.kernels.backproject import back_project
from tomopolish.imaging.noise import noise_power
from tomopolish.imaging.reference import ReferenceTransform
from tomopolish.imaging.weights import whitening
from tomopolish.imaging.windows import (
    TiltTask,
    box_spectra,
    chunks,
    pair_batch,
    pair_geometry,
)
from tomopolish.physics.fourier import radius_half_space
from tomopolish.progress import Progress, SilentProgress
from tomopolish.shapes import Array, Float, Float32

LANES = 2
"""Accumulators per half set; a constant, so that sums do not depend on the number of threads."""

WEIGHT_FLOOR = 1e-3
"""Least weight of a voxel, as a fraction of its shell's mean."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstruction:
    """Sums of the images seen so far, `[half, lane, kz, ky, kx, (re, im, weight)]`.

    Attributes
    ----------
    symmetry
        Rotations of the structure's point group.
    """

    box_px: int
    symmetry: Float32[Array, "G 3 3"]
    totals: Float32[Array, "2 lanes n n m 3"]

    def add(
        self,
        series: TiltSeries,
        particles: Particles,
        pool: Executor,
        progress: Progress | None = None,
    ) -> TiltSeries:
        """Add the visible particles of a tomogram, one tilt image at a time.

        Returns
        -------
        The tilt series without images that could not be used.

        Raises
        ------
        RunError
            When no tilt image can be used.
        """
        series = screened(series)
        box_px = self.box_px
        geometry = pair_geometry(series, particles, box_px, series.usable)
        nothing = np.zeros((2, 1, 1, 1), dtype=np.complex64)
        no_reference = ReferenceTransform(values=nothing, reach=0, box_px=box_px)
        busy = np.flatnonzero(geometry.visible.any(axis=1))
        progress = progress or SilentProgress()
        with progress.stage("back-projection", len(busy)) as stage:
            for tilt, image in prefetch(series, busy, image_alone):
                weight = whitening(noise_power(image, box_px, box_px / 2, pool), box_px)
                with contextlib.suppress(UnusableImageError), losing(series, tilt):
                    frequencies = tilt_frequencies(series, tilt, weight, particles.optics_groups, 0.0)
                    task = TiltTask(
                        image=image,
                        tilt=tilt,
                        geometry=geometry,
                        particles=particles,
                        frequencies=frequencies,
                        reference=no_reference,
                    )
                    self._add_tilt(task, pool)
                stage.advance()
        return without_lost(series)

    def _add_tilt(self, task: TiltTask, pool: Executor) -> None:
        half_set = task.particles.half_set
        seen = task.geometry.visible[task.tilt]

        def work(lane: tuple[int, int]) -> None:
            half, part = lane
            selected = np.flatnonzero(seen & (half_set == half))[part::LANES]
            for chunk in chunks(selected, self.box_px):
                _add_chunk(task, chunk, self.symmetry, self.totals[half, part])

        for _ in pool.map(work, [(half, part) for half in range(2) for part in range(LANES)]):
            pass

    def joined(self) -> Reconstruction:
        """Return the sums with their lanes added up: half the memory, but no images can be added to them."""
        return replace(self, totals=self.totals.sum(axis=1, keepdims=True))

    def plus(self, other: Reconstruction) -> Reconstruction:
        """Return the sums over the images of two reconstructions, in the same box and point group."""
        return replace(self, totals=self.totals + other.totals)

    def half_maps(self, crop_px: int | None = None) -> Float32[Array, "2 c c c"]:
        """Return both half maps, corrected for gridding and cropped about voxel ⌊s/2⌋."""
        size = crop_px or self.box_px
        return np.stack([_map(self.totals[half].sum(axis=0), self.box_px, size) for half in range(2)])

    def merged_map(self, crop_px: int | None = None) -> Float32[Array, "c c c"]:
        """Return the map of both half sets together."""
        return _map(self.totals.sum(axis=(0, 1)), self.box_px, crop_px or self.box_px)


def empty_reconstruction(box_px: int, symmetry: Float[Array, "G 3 3"]) -> Reconstruction:
    """Start a reconstruction in an even box; raises InputError when the box is odd."""
    if box_px % 2 or box_px < 16:
        raise InputError(f"--b {box_px} is not a valid box size; give an even number, 16 or more")
    reach = box_px // 2
    shape = (2, LANES, 2 * reach + 2, 2 * reach + 2, reach + 2, 3)
    return Reconstruction(
        box_px=box_px, symmetry=symmetry.astype(np.float32), totals=np.zeros(shape, np.float32)
    )


def _add_chunk(task: TiltTask, chunk: Array, symmetry: Array, total: Array) -> None:
    shared = task.frequencies
    batch = pair_batch(task, chunk)
    back_project(
        box_spectra(task, batch),
        task.reference.box_px,
        symmetry,
        batch.views,
        batch.centre,
        shared.columns_used,
        shared.weight,
        shared.signal_weight,
        batch.defocus,
        shared.phase,
        shared.odd,
        batch.optics_group,
        total,
    )


def _map(total: Array, box_px: int, crop: int) -> Float32[Array, "c c c"]:
    """Return a map from the sums: quotient, Friedel symmetry, inverse, gridding correction, crop."""
    reach = box_px // 2
    plane = total[: 2 * reach + 1, : 2 * reach + 1, 0]
    plane += plane[::-1, ::-1].copy() * np.array([1, -1, 1], dtype=np.float32)
    inside = total[: 2 * reach, : 2 * reach, : reach + 1]
    radius = np.fft.fftshift(radius_half_space(box_px), axes=(0, 1))
    weight = inside[..., 2]
    shell = np.rint(radius).astype(np.int64)
    mean = np.bincount(shell.ravel(), weight.ravel()) / np.maximum(np.bincount(shell.ravel()), 1)
    floor = np.maximum(weight, (WEIGHT_FLOOR * mean[shell]).astype(np.float32))
    numerator = inside[..., 0] + 1j * inside[..., 1]
    use = (floor > 0) & (radius < reach)
    transform = np.divide(numerator, floor, out=np.zeros_like(numerator), where=use)
    volume = scipy.fft.irfftn(np.fft.ifftshift(transform, axes=(0, 1)), s=(box_px,) * 3, norm="ortho")
    volume = np.fft.fftshift(volume)
    first = reach - crop // 2
    part = slice(first, first + crop)
    axis = (np.arange(box_px) - reach)[part]
    r = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    gridding = np.maximum(np.sinc(r / box_px) ** 2, np.sinc(0.5) ** 2)
    corrected: Array = (volume[part, part, part] / gridding).astype(np.float32)
    return corrected
