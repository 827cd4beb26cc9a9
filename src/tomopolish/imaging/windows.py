"""Correlation windows: the log-likelihood of every small displacement of every particle in every tilt image.

Tilt images are read one at a time. The particles of an image are cut into chunks that fit into cache; each
chunk goes through extraction, transform, comparison with the prediction and the small inverse transform on
one thread (docs/conventions.md, Correlation windows).
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.imaging.fft_plan import fft_plan
from tomopolish.imaging.frequencies import TiltFrequencies
from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.kernels import boxes as box_kernels
from tomopolish.imaging.kernels import compare as compare_kernels
from tomopolish.imaging.reference import ReferenceTransform
from tomopolish.physics.fourier import column_multiplicity
from tomopolish.physics.geometry import depth_px, project, project_trajectories
from tomopolish.shapes import Bool, Float, Float32, Int

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
    power
        Σ w |S|² of each pair's prediction S: the log-likelihood a pair gains at its true displacement when
        the prediction has the right intensity, up to noise.
    frequency_weights
        Weight w(k) of the half plane, for each tilt image or one for all; None where nobody asked for it.
    held_out
        Pairs, among those that take part, that a first fit is judged by; None where there are none.
    """

    values: Float32[Array, "F P n n"]
    anchors_px: Float[Array, "F P 2"]
    visible: Bool[Array, "F P"]
    power: Float[Array, "F P"]
    range_px: int
    step_px: float = 1.0
    frequency_weights: Float[Array, "G s c"] | None = None
    held_out: HeldOutWindows | None = None

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
    """Project all particles with the input geometry (docs/conventions.md, Geometry, Correlation windows).

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
    """Whether 2D positions lie at least half a box from the image's edges.

    See docs/conventions.md, Correlation windows.
    """
    inside = (positions_px >= box / 2) & (positions_px <= np.asarray(image_size_px) - box / 2)
    return np.all(inside, axis=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxMask:
    """Soft circular mask of a box, and 1 at the pixels outside the inscribed circle."""

    falloff: Float32[Array, "s s"]
    outside: Float32[Array, "s s"]


def box_mask(box: int) -> BoxMask:
    """Mask that is 1 inside s/2 − 5 and falls as a raised cosine to 0 at s/2.

    See docs/conventions.md, Correlation windows.
    """
    axis = np.arange(box) - box // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    ramp = np.clip((radius - (box / 2 - EDGE_WIDTH_PX)) / EDGE_WIDTH_PX, 0, 1)
    return BoxMask(
        falloff=(0.5 + 0.5 * np.cos(np.pi * ramp)).astype(np.float32),
        outside=(radius > box / 2).astype(np.float32),
    )


def window_samples(range_px: int, padding: float) -> Float[Array, "n"]:
    """Displacements of a window's samples, px."""
    half = round(range_px * padding) + MARGIN_SAMPLES
    return np.arange(-half, half) / padding


@dataclass(frozen=True, kw_only=True, eq=False)
class SmallInverse:
    """The inverse transform onto a window's samples, as matrices for `small_inverse`.

    With c and s the cosines and sines of 2π k δ/box:
    cc = (c_y Re E − s_y Im D) c_x − (c_y Im E + s_y Re D) s_x.
    """

    real_rows: Float32[Array, "n B"]  # [c_y | −s_y]
    imaginary_rows: Float32[Array, "n B"]  # [c_y | s_y]
    columns: Float32[Array, "A n"]  # [c_x; −s_x], columns counted as often as the full plane has them


def small_inverse_matrices(
    box: int, rows: int, columns: int, displacements_px: Float[Array, "n"]
) -> SmallInverse:
    """Matrices for products of `rows` × `columns` frequencies."""
    turn = 2 * np.pi / box
    x_phase = turn * np.outer(np.arange(columns), displacements_px)
    y_phase = turn * np.outer(displacements_px, np.arange(rows))
    count = column_multiplicity(box)[:columns, None]
    cosine, sine = np.cos(y_phase), np.sin(y_phase)
    return SmallInverse(
        real_rows=np.concatenate([cosine, -sine], axis=1).astype(np.float32),
        imaginary_rows=np.concatenate([cosine, sine], axis=1).astype(np.float32),
        columns=np.concatenate([count * np.cos(x_phase), -count * np.sin(x_phase)]).astype(np.float32),
    )


def small_inverse(product: Float32[Array, "P 4 R C"], matrices: SmallInverse) -> Float32[Array, "P n n"]:
    """Real part of the inverse transform at the window's samples only."""
    count, _, rows, columns = product.shape
    halves = product.reshape(count, 2, 2 * rows, columns)
    partial = _scratch("partial", (count, len(matrices.real_rows), 2 * columns), np.float32)
    np.matmul(matrices.real_rows, halves[:, 0], out=partial[:, :, :columns])
    np.matmul(matrices.imaginary_rows, halves[:, 1], out=partial[:, :, columns:])
    size = matrices.columns.shape[1]
    return (partial.reshape(-1, 2 * columns) @ matrices.columns).reshape(count, -1, size)


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltTask:
    """All that the pairs of one tilt image share."""

    image: Float32[Array, "h w"]
    tilt: int
    geometry: PairGeometry
    particles: Particles
    frequencies: TiltFrequencies
    mask: BoxMask
    reference: ReferenceTransform
    displacements_px: Float[Array, "n"]


def correlate_tilt(
    task: TiltTask,
    pool: Executor,
    values: Float32[Array, "P n n"],
    power: Float[Array, "P"],
    held: HeldOutWindows | None = None,
) -> None:
    """Fill windows and power of one tilt image's visible particles; the others are left alone.

    See docs/conventions.md, Correlation windows.

    Parameters
    ----------
    held
        This image's held-out pairs, some of the visible ones; filled as well, with the other half's map.
    """
    seen = np.flatnonzero(task.geometry.visible[task.tilt])
    # One half map after the other, and boxes side by side: what a chunk reads stays closer to the processor.
    x, y = task.geometry.anchors_px[task.tilt, seen].T
    seen = seen[np.lexsort((x, y // (task.reference.box / 2), task.particles.half_set[seen]))]
    size = max(1, CHUNK_BYTES // (4 * task.reference.box**2))
    _, rows, columns = task.frequencies.weight.shape
    matrices = small_inverse_matrices(task.reference.box, rows, columns, task.displacements_px)

    whole = pair_batch(task, seen)

    def work(start: int) -> None:
        chunk, batch = seen[start : start + size], whole.part(slice(start, start + size))
        spectra = box_spectra(task, batch)
        product, power[chunk] = _compare(task, batch, spectra)
        values[chunk] = small_inverse(product, matrices)
        if held is not None:
            mine, place = held.among(chunk)
            if len(mine):
                product, held.power[place] = _compare(task, batch.of_other_half(mine), spectra[mine])
                held.values[place] = small_inverse(product, matrices)

    for _ in pool.map(work, range(0, len(seen), size)):
        pass


@dataclass(frozen=True, kw_only=True, eq=False)
class PairBatch:
    """What kernels need of some pairs of one tilt image, besides what all of its pairs share.

    Attributes
    ----------
    corners
        (x, y) of the first pixel of each box in the image.
    centre
        Position (x, y) of the particle in its box, px.
    views
        First two rows of the view matrices.
    defocus
        Phase per kx², kx·ky and ky².
    """

    corners: Int[Array, "B 2"]
    centre: Float[Array, "B 2"]
    views: Float32[Array, "B 2 3"]
    defocus: Float32[Array, "B 3"]
    half_set: Int[Array, "B"]
    optics_group: Int[Array, "B"]

    def part(self, index: slice | Int[Array, "H"]) -> PairBatch:
        """Choose some of the pairs."""
        return PairBatch(
            corners=self.corners[index],
            centre=self.centre[index],
            views=self.views[index],
            defocus=self.defocus[index],
            half_set=self.half_set[index],
            optics_group=self.optics_group[index],
        )

    def joined_with(self, other: PairBatch) -> PairBatch:
        """Append other pairs of the same tilt image."""
        both = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return PairBatch(**{name: np.concatenate(parts) for name, parts in both.items()})

    def of_other_half(self, index: Int[Array, "H"]) -> PairBatch:
        """Choose some pairs, to be compared with the half map that their particle is no part of."""
        chosen = self.part(index)
        return replace(chosen, half_set=1 - chosen.half_set)


def pair_batch(task: TiltTask, chunk: Int[Array, "B"]) -> PairBatch:
    """Gather some of a tilt image's pairs, given by their particles."""
    geometry, shared = task.geometry, task.frequencies
    anchors = geometry.anchors_px[task.tilt, chunk]
    corners = np.floor(anchors + 0.5).astype(np.int64) - task.reference.box // 2
    defocus = np.repeat(shared.defocus[None], len(chunk), axis=0)
    offset = geometry.defocus_offset_angstrom[task.tilt, chunk, None]
    defocus[:, (0, 2)] += shared.defocus_per_angstrom * offset
    return PairBatch(
        corners=corners,
        centre=anchors - corners,
        views=geometry.views[task.tilt, chunk],
        defocus=defocus.astype(np.float32),
        half_set=task.particles.half_set[chunk],
        optics_group=task.particles.optics_group[chunk],
    )


def box_spectra(task: TiltTask, batch: PairBatch) -> Float32[Array, "B 2 2 R C"]:
    """Cut the boxes of a batch of pairs and transform them; see `kernels_fft.box_spectra`.

    The result lies in memory that the thread's next call uses again.
    """
    mask, tables = task.mask, fft_plan(task.reference.box).tables
    spectra = _scratch("spectra", (len(batch.corners), 2, *task.frequencies.weight.shape), np.float32)
    box_kernels.box_spectra(task.image, batch.corners, mask.falloff, mask.outside, *tables, spectra)
    return spectra


_thread = threading.local()


def _scratch(name: str, shape: tuple[int, ...], dtype: type) -> Array:
    """Memory of this thread that stays from call to call: fresh pages cost as much as the work on them."""
    size = int(np.prod(shape))
    held: Array | None = getattr(_thread, name, None)
    if held is None or held.size < size:
        held = np.empty(size, dtype=dtype)
        setattr(_thread, name, held)
    return held[:size].reshape(shape)


def _compare(task: TiltTask, batch: PairBatch, spectra: Array) -> tuple[Array, Array]:
    """Multiply boxes' spectra with the predictions; see `kernels_cpu.correlate_spectra`."""
    shared = task.frequencies
    _, rows, columns = shared.weight.shape
    product = _scratch("product", (len(spectra), 4, rows, columns), np.float32)
    power = np.empty(len(spectra))
    compare_kernels.correlate_spectra(
        spectra,
        task.reference.box,
        task.reference.flat,
        task.reference.reach,
        batch.half_set,
        batch.views,
        (batch.centre - task.reference.box // 2).astype(np.float32),
        shared.columns_used,
        shared.weight,
        shared.signal_weight,
        batch.defocus,
        shared.phase,
        shared.odd,
        batch.optics_group,
        product,
        power,
    )
    return product, power
