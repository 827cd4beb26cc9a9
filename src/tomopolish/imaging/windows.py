"""Correlation windows: the log-likelihood of every small displacement of every pair.

Tilt images are read one at a time. The particles of an image are divided into chunks that fit into cache; one
thread extracts, transforms and compares a chunk with its prediction and computes the small inverse transform
(docs/dev/conventions.md, Correlation windows).
"""

from __future__ import annotations

import threading
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields, replace
from functools import cache

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.imaging.fft_plan import fft_plan
from tomopolish.imaging.frequencies import TiltFrequencies
from tomopolish.imaging.held_out import CheckWindows, HeldOutWindows
from tomopolish.imaging.kernels import boxes as box_kernels
from tomopolish.imaging.kernels import compare as compare_kernels
from tomopolish.imaging.packed import PackedSamples
from tomopolish.imaging.reference import ReferenceTransform
from tomopolish.imaging.small_inverse import SmallInverse, small_inverse_matrices
from tomopolish.models.deformation import deformation_from
from tomopolish.physics.geometry import depth_px, project, project_trajectories
from tomopolish.shapes import Array, Bool, Float, Float32, Int

MARGIN_SAMPLES = 4
EDGE_WIDTH_PX = 5
CHUNK_BYTES = 2**21
"""Size of the boxes of a chunk of pairs, which thus stay in cache."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CorrelationWindows:
    """Log-likelihood of displacements of each pair from its anchor, up to a constant.

    Attributes
    ----------
    values
        ``[tilt, particle, δy, δx]``; zero for pairs that are not visible. Sample i lies at displacement
        ``(i − origin) · step_px``; the window covers [−range, range] and a margin for interpolation.
    anchors_px
        2D position (x, y) of each pair at displacement zero.
    visible
        Pairs that take part.
    power
        Σ w |S|² of each pair's prediction S: the expected gain in log-likelihood of the pair at its true
        displacement, if the prediction has the right intensity.
    frequency_weights
        Weight w(k) of the half plane, for each tilt image or one for all; None where windows are not those
        of particles.
    tempering
        Factor by which the log-likelihood of each pair was multiplied since its box has more noise than its
        tilt image (`tempering`); None: 1 for all.
    held_out
        Held-out pairs, a part of those that take part, by which a first fit is judged; None without any.
    checks
        Some of them, compared with variants of the references (`checks`); None without any.
    """

    values: Float32[Array, "F P n n"] | PackedSamples
    anchors_px: Float[Array, "F P 2"]
    visible: Bool[Array, "F P"]
    power: Float[Array, "F P"]
    range_px: int
    step_px: float = 1.0
    frequency_weights: Float[Array, "G s c"] | None = None
    tempering: Float[Array, "F P"] | None = None
    held_out: HeldOutWindows | None = None
    checks: CheckWindows | None = None

    @property
    def origin(self) -> int:
        """Index of displacement zero."""
        return int(self.values.shape[-1] // 2)

    def of_particles(self, members: Int[Array, "M"]) -> CorrelationWindows:
        """Return the windows of some particles, in new memory, without held-out pairs and checks."""
        return replace(
            self,
            values=PackedSamples.of(self.values).of_particles(members),
            anchors_px=self.anchors_px[:, members],
            visible=self.visible[:, members],
            power=self.power[:, members],
            tempering=None if self.tempering is None else self.tempering[:, members],
            held_out=None,
            checks=None,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class PairGeometry:
    """Expected 2D position and view of every particle in every tilt image.

    Attributes
    ----------
    anchors_px
        2D position (x, y) in the image.
    views
        First two rows of the view matrix V = R_f A_p.
    defocus_offset_angstrom
        Contribution of the particle's depth to the defocus.
    visible
        Whether the position is at least half a box from the image's edges, in a tilt image that takes part.
    """

    anchors_px: Float[Array, "F P 2"]
    views: Float32[Array, "F P 2 3"]
    defocus_offset_angstrom: Float[Array, "F P"]
    visible: Bool[Array, "F P"]


def pair_geometry(
    series: TiltSeries,
    particles: Particles,
    box_px: int,
    taking_part: Bool[Array, "F"],
) -> PairGeometry:
    """Project all particles with the input geometry, trajectories and deformation included.

    See docs/dev/conventions.md, Geometry, Correlation windows. `taking_part` marks the tilt images that are
    used.
    """
    if particles.trajectories_px is None:
        anchors = project(series.projections_px, particles.positions_px)[..., :2]
    else:
        points = particles.positions_px + np.moveaxis(particles.trajectories_px, 1, 0)
        anchors = project_trajectories(series.projections_px, points)[..., :2]
    if series.deformation is not None:
        model, coefficients = deformation_from(series.deformation, series.image_size_px)
        anchors = anchors + model.displacement_px(anchors, coefficients)
    views = np.einsum("fij,pjk->fpik", series.projections_px[:, :2, :3], particles.rotations)
    depth = depth_px(series.projections_px, particles.positions_px, series.tomogram_size_px)
    return PairGeometry(
        anchors_px=anchors,
        views=views.astype(np.float32),
        defocus_offset_angstrom=series.hand * series.pixel_size_angstrom * series.defocus_slope * depth,
        visible=is_visible(anchors, series.image_size_px, box_px) & taking_part[:, None],
    )


def is_visible(
    positions_px: Float[Array, "... 2"], image_size_px: tuple[int, int], box_px: int
) -> Bool[Array, "..."]:
    """Return whether 2D positions lie at least half a box from the image's edges."""
    inside = (positions_px >= box_px / 2) & (positions_px <= np.asarray(image_size_px) - box_px / 2)
    return np.all(inside, axis=-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxMask:
    """Soft circular mask of a box.

    Attributes
    ----------
    inside
        First column inside the inscribed circle in each row, and the column after the last.
    outside
        1 at pixels outside the circle, elsewhere 0.
    """

    falloff: Float32[Array, "s s"]
    inside: Int[Array, "s 2"]
    outside: Float32[Array, "s s"]


@cache
def box_mask(box_px: int) -> BoxMask:
    """Return a mask that is 1 inside radius s/2 − 5 and falls as a raised cosine to 0 at s/2."""
    axis = np.arange(box_px) - box_px // 2
    radius = np.hypot(axis[:, None], axis[None, :])
    inside = radius <= box_px / 2
    ends = np.argmax(inside, axis=1), box_px - np.argmax(inside[:, ::-1], axis=1)
    ramp = np.clip((radius - (box_px / 2 - EDGE_WIDTH_PX)) / EDGE_WIDTH_PX, 0, 1)
    return BoxMask(
        falloff=(0.5 + 0.5 * np.cos(np.pi * ramp)).astype(np.float32),
        inside=np.stack(ends, axis=1),
        outside=(~inside).astype(np.float32),
    )


def window_samples(range_px: int, padding: float) -> Float[Array, "n"]:
    """Return the displacements of a window's samples, px."""
    half = round(range_px * padding) + MARGIN_SAMPLES
    return np.arange(-half, half) / padding


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltTask:
    """Image, geometry, weights and reference that the pairs of one tilt image share.

    Attributes
    ----------
    displacements_px
        Of the samples of windows; empty where none are made.
    """

    image: Float32[Array, "h w"]
    tilt: int
    geometry: PairGeometry
    particles: Particles
    frequencies: TiltFrequencies
    reference: ReferenceTransform
    displacements_px: Float[Array, "n"] = field(default_factory=lambda: np.zeros(0))


def chunks(pairs: Int[Array, "B"], box_px: int) -> list[Int[Array, "b"]]:
    """Divide pairs into chunks that fit into cache; these do not depend on the number of threads."""
    size = max(1, CHUNK_BYTES // (4 * box_px**2))
    return [pairs[first : first + size] for first in range(0, len(pairs), size)]


def correlate_tilt(
    task: TiltTask,
    pool: Executor,
    values: Float32[Array, "P n n"],
    power: Float[Array, "P"],
    held_out: HeldOutWindows | None = None,
) -> None:
    """Fill windows and power of one tilt image's visible particles; other entries are not changed.

    Parameters
    ----------
    held_out
        Held-out pairs of this image, a part of the visible ones; also filled, with the other half map.
    """
    # Threads write into the arrays themselves, not into copies that a kernel makes of other layouts.
    assert values.flags.c_contiguous and power.flags.c_contiguous
    seen = np.flatnonzero(task.geometry.visible[task.tilt])
    # Pairs are ordered by half map and position, so that the data of a chunk stay in cache.
    x, y = task.geometry.anchors_px[task.tilt, seen].T
    seen = seen[np.lexsort((x, y // (task.reference.box_px / 2), task.particles.half_set[seen]))]
    _, rows, columns = task.frequencies.weight.shape
    matrices = small_inverse_matrices(task.reference.box_px, rows, columns, task.displacements_px)

    all_pairs = pair_batch(task, seen)

    def work(part: Int[Array, "b"]) -> None:
        chunk, batch = seen[part], all_pairs.part(part)
        spectra = box_spectra(task, batch)
        _compare(task, batch, spectra, matrices, chunk, values, power)
        if held_out is not None:
            judged, place = held_out.among(chunk)
            if len(judged):
                batch, spectra = batch.of_other_half(judged), spectra[judged]
                _compare(task, batch, spectra, matrices, place, held_out.values, held_out.power)

    for _ in pool.map(work, chunks(np.arange(len(seen)), task.reference.box_px)):
        pass


@dataclass(frozen=True, kw_only=True, eq=False)
class PairBatch:
    """Data of some pairs of one tilt image for the kernels.

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
        """Select some of the pairs."""
        return PairBatch(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def joined_with(self, more: PairBatch) -> PairBatch:
        """Return these pairs and further pairs of the same tilt image."""
        both = {f.name: (getattr(self, f.name), getattr(more, f.name)) for f in fields(self)}
        return PairBatch(**{name: np.concatenate(parts) for name, parts in both.items()})

    def cut_at(self, corners: Int[Array, "B 2"]) -> PairBatch:
        """Return the pairs in boxes that begin at other pixels."""
        return replace(self, corners=corners, centre=self.centre + self.corners - corners)

    def of_other_half(self, index: Int[Array, "H"]) -> PairBatch:
        """Select some pairs for comparison with the half map to which their particle did not contribute."""
        chosen = self.part(index)
        return replace(chosen, half_set=1 - chosen.half_set)


def pair_batch(task: TiltTask, chunk: Int[Array, "B"]) -> PairBatch:
    """Gather the pairs of some particles in a tilt image."""
    geometry, shared = task.geometry, task.frequencies
    anchors = geometry.anchors_px[task.tilt, chunk]
    corners = np.floor(anchors + 0.5).astype(np.int64) - task.reference.box_px // 2
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
    """Cut the boxes of a batch of pairs and transform them; see `kernels.boxes.box_spectra`.

    The thread's next call overwrites the result.
    """
    mask, tables = box_mask(task.reference.box_px), fft_plan(task.reference.box_px).tables
    spectra = _memory_of_spectra((len(batch.corners), 2, *task.frequencies.weight.shape))
    box_kernels.box_spectra(task.image, batch.corners, mask.falloff, mask.inside, *tables, spectra)
    return spectra


_thread = threading.local()


def _memory_of_spectra(shape: tuple[int, ...]) -> Float32[Array, "B 2 2 R C"]:
    """Return memory of this thread that is reused between calls; new pages cost as much as their use."""
    size = int(np.prod(shape))
    memory: Array | None = getattr(_thread, "spectra", None)
    if memory is None or memory.size < size:
        memory = _thread.spectra = np.empty(size, dtype=np.float32)
    return memory[:size].reshape(shape)


def _compare(
    task: TiltTask,
    batch: PairBatch,
    spectra: Float32[Array, "B 2 2 R C"],
    matrices: SmallInverse,
    places: Int[Array, "B"],
    values: Float32[Array, "P n n"],
    power: Float[Array, "P"],
) -> None:
    """Compare boxes' spectra with the predictions; see `kernels.compare.correlate_spectra`."""
    shared = task.frequencies
    compare_kernels.correlate_spectra(
        spectra,
        task.reference.box_px,
        task.reference.flat,
        task.reference.reach,
        batch.half_set,
        batch.views,
        (batch.centre - task.reference.box_px // 2).astype(np.float32),
        shared.columns_used,
        shared.weight,
        shared.signal_weight,
        batch.defocus,
        shared.phase,
        shared.odd,
        batch.optics_group,
        matrices.rows,
        matrices.columns,
        places,
        values,
        power,
    )
