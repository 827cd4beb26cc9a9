"""Correlation windows: the log-likelihood of every small displacement of every particle in every tilt image.

Tilt images are read one at a time. The particles of an image are cut into chunks that fit into cache; each
chunk goes through extraction, transform, comparison with the prediction and the small inverse transform on
one thread (spec §5).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import scipy.fft
from jaxtyping import Bool, Float, Float32, Int

from tomopolish.correlation import kernels_cpu
from tomopolish.correlation.frequencies import TiltFrequencies
from tomopolish.correlation.reference import ReferenceTransform
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.fourier import column_multiplicity
from tomopolish.geometry import depth_px, project, project_trajectories

Array = np.ndarray

MARGIN_SAMPLES = 4
EDGE_WIDTH_PX = 5
CHUNK_BYTES = 2**21


@dataclass(frozen=True, kw_only=True, eq=False)
class CorrelationWindows:
    """Log-likelihood of displacements of each pair from its anchor, up to a constant.

    Attributes
    ----------
    values
        ``[tilt, particle, δy, δx]``; zero for pairs that are not visible. Sample i lies at displacement
        ``(i − origin) · step_px``; the window holds [−range, range] and a margin for interpolation.
    anchors_px
        2D position (x, y) of each pair for which displacement is zero.
    visible
        Pairs that take part.
    """

    values: Float32[Array, "F P n n"]
    anchors_px: Float[Array, "F P 2"]
    visible: Bool[Array, "F P"]
    range_px: int
    step_px: float = 1.0

    @property
    def origin(self) -> int:
        """Index of displacement zero."""
        return int(self.values.shape[-1] // 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairGeometry:
    """Where every particle is expected in every tilt image, and from which side it is seen.

    Attributes
    ----------
    anchors_px
        (x, y) in the image.
    views
        First two rows of the view matrix V = R_f A_p.
    defocus_offset_angstrom
        What the particle's depth adds to the defocus.
    visible
        At least half a box from the image's edges, in a tilt image that takes part.
    """

    anchors_px: Float[Array, "F P 2"]
    views: Float32[Array, "F P 2 3"]
    defocus_offset_angstrom: Float[Array, "F P"]
    visible: Bool[Array, "F P"]


def pair_geometry(
    series: TiltSeries,
    particles: Particles,
    box: int,
    taking_part: Bool[Array, "F"],
    warp_px: Float[Array, "F P 2"] | float = 0.0,
) -> PairGeometry:
    """Project all particles with the input geometry (spec §2, §5).

    Parameters
    ----------
    taking_part
        Tilt images that are used.
    warp_px
        What an input deformation adds to the 2D positions.
    """
    if particles.trajectories_px is None:
        projected = project(series.projections_px, particles.positions_px)
    else:
        points = particles.positions_px + np.moveaxis(particles.trajectories_px, 1, 0)
        projected = project_trajectories(series.projections_px, points)
    anchors = projected[..., :2] + warp_px
    views = np.einsum("fij,pjk->fpik", series.projections_px[:, :2, :3], particles.rotations)
    depth = depth_px(series.projections_px, particles.positions_px, series.tomogram_size_px)
    return PairGeometry(
        anchors_px=anchors,
        views=views.astype(np.float32),
        defocus_offset_angstrom=series.hand * series.pixel_size_angstrom * series.defocus_slope * depth,
        visible=is_visible(anchors, series.image_size_px, box) & taking_part[:, None],
    )


def is_visible(
    positions_px: Float[Array, "... 2"], image_size_px: tuple[int, int], box: int
) -> Bool[Array, "..."]:
    """Whether 2D positions lie at least half a box from the image's edges (spec §5)."""
    inside = (positions_px >= box / 2) & (positions_px <= np.asarray(image_size_px) - box / 2)
    return np.all(inside, axis=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowTransform:
    """The inverse transform onto the window's samples, as two small matrices, and the box's soft edge."""

    to_columns: Array  # (C, n) complex64: e^{2πi kx δ/s}, columns counted as often as the full plane has them
    to_rows: Array  # (n, R) complex64: e^{2πi ky δ/s}
    falloff: Float32[Array, "s s"]
    inside_start: Int[Array, "s"]
    inside_stop: Int[Array, "s"]


def window_samples(range_px: int, padding: float) -> Float[Array, "n"]:
    """Displacements of a window's samples, px."""
    half = round(range_px * padding) + MARGIN_SAMPLES
    return np.arange(-half, half) / padding


def window_transform(
    box: int, row_ky: Int[Array, "R"], columns: int, displacements_px: Float[Array, "n"]
) -> WindowTransform:
    """Matrices and masks that all pairs of a tilt series share."""
    turn = 2j * np.pi / box
    to_columns = np.exp(turn * np.outer(np.arange(columns), displacements_px))
    to_columns *= column_multiplicity(box)[:columns, None]
    to_rows = np.exp(turn * np.outer(displacements_px, row_ky))
    axis = np.arange(box) - box // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    ramp = np.clip((radius - (box / 2 - EDGE_WIDTH_PX)) / EDGE_WIDTH_PX, 0, 1)
    outside = radius > box / 2
    start = np.argmin(outside, axis=1)
    stop = box - np.argmin(outside[:, ::-1], axis=1)
    empty = outside.all(axis=1)
    return WindowTransform(
        to_columns=to_columns.astype(np.complex64),
        to_rows=to_rows.astype(np.complex64),
        falloff=(0.5 + 0.5 * np.cos(np.pi * ramp)).astype(np.float32),
        inside_start=np.where(empty, box, start),
        inside_stop=np.where(empty, box, stop),
    )


def correlate_tilt(
    image: Float32[Array, "h w"],
    geometry: PairGeometry,
    tilt: int,
    particles: Particles,
    frequencies: TiltFrequencies,
    transform: WindowTransform,
    reference: ReferenceTransform,
    pool: Executor,
    out: Float32[Array, "P n n"],
) -> None:
    """Fill the windows of one tilt image's visible particles (spec §5); other windows are left alone."""
    seen = np.flatnonzero(geometry.visible[tilt])
    size = max(1, CHUNK_BYTES // (4 * reference.box**2))
    chunks = [seen[i : i + size] for i in range(0, len(seen), size)]

    def work(chunk: Array) -> None:
        out[chunk] = _correlate_chunk(
            image, geometry, tilt, particles, chunk, frequencies, transform, reference
        )

    for _ in pool.map(work, chunks):
        pass


def _correlate_chunk(
    image: Array,
    geometry: PairGeometry,
    tilt: int,
    particles: Particles,
    chunk: Array,
    frequencies: TiltFrequencies,
    transform: WindowTransform,
    reference: ReferenceTransform,
) -> Array:
    box = reference.box
    anchors = geometry.anchors_px[tilt, chunk]
    corners = np.floor(anchors + 0.5).astype(np.int64) - box // 2
    boxes = np.empty((len(chunk), box, box), dtype=np.float32)
    kernels_cpu.extract_boxes(
        image, corners, transform.falloff, transform.inside_start, transform.inside_stop, boxes
    )
    columns = frequencies.weight.shape[1]
    spectra = scipy.fft.rfft(boxes, axis=2, workers=1)[:, :, :columns]
    spectra = scipy.fft.fft(spectra, axis=1, workers=1)
    defocus = np.repeat(frequencies.defocus[None], len(chunk), axis=0)
    offset = geometry.defocus_offset_angstrom[tilt, chunk, None]
    defocus[:, (0, 2)] += frequencies.defocus_per_angstrom * offset
    product = np.empty((len(chunk), *frequencies.weight.shape), dtype=np.complex64)
    kernels_cpu.correlate_spectra(
        spectra,
        reference.values,
        particles.half_set[chunk],
        geometry.views[tilt, chunk],
        (anchors - corners).astype(np.float32),
        frequencies.row_index,
        frequencies.row_ky,
        frequencies.row_columns,
        frequencies.weight,
        defocus.astype(np.float32),
        np.float32(frequencies.quartic),
        np.float32(frequencies.constant_phase),
        frequencies.even,
        frequencies.odd,
        particles.optics_group[chunk],
        product,
    )
    return small_inverse(product, transform)


def small_inverse(product: Array, transform: WindowTransform) -> Array:
    """Real part of the inverse transform at the window's samples only, as two matrix products."""
    count, rows, columns = product.shape
    partial = product.reshape(count * rows, columns) @ transform.to_columns
    partial = partial.reshape(count, rows, -1)
    # The real part needs only half of the complex product: two real ones over stacked parts.
    stacked = np.concatenate([partial.real, partial.imag], axis=1)
    rows_real = np.concatenate([transform.to_rows.real, -transform.to_rows.imag], axis=1)
    return np.matmul(rows_real, stacked)


def prefetch(series: TiltSeries, tilts: Array, reader: Executor) -> Iterator[tuple[int, Array]]:
    """Yield (tilt, image) while the next image is being read."""
    pending = None
    for i, tilt in enumerate(tilts):
        image = pending.result() if pending is not None else series.images.read(int(tilt))
        pending = reader.submit(series.images.read, int(tilts[i + 1])) if i + 1 < len(tilts) else None
        yield int(tilt), image
