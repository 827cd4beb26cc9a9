"""How far a result is from a known truth: in the images, and parameter by parameter.

The 2D error, in Å, over visible pairs needs no alignment of frames: it compares where particles are
predicted to be with where they are. Positions and angles are compared after the rotation and shift
that turn positions one way and projections the other, which no image can tell apart (spec §6), are removed.
Views, whose orientations are not refined, are compared as they are: with their net rotation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import Alignment, Deformation, Particles, TiltSeries
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.errors import InputError
from tomopolish.physics.geometry import (
    mean_rotation,
    nearest_rotation,
    project_trajectories,
    rotation_vector,
)
from tomopolish.shapes import Float, Int
from tomopolish.simulate.truth import Truth, read_truth
from tomopolish.simulate.warp import warp_displacement_px

Array = np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """A tomogram's geometry as an alignment states it; tilt axes in file order, particles in the truth's.

    Attributes
    ----------
    particles
        Index of each particle in the truth.
    """

    projections_px: Float[Array, "F 4 4"]
    particles: Int[Array, "P"]
    positions_px: Float[Array, "P 3"]
    trajectories_px: Float[Array, "P F 3"] | None = None
    deformation: Deformation | None = None

    def positions_2d_px(self, image_size_px: tuple[int, int]) -> Float[Array, "F P 2"]:
        """Where the geometry expects each particle in each tilt image, warp included."""
        q = project_trajectories(self.projections_px, self.moving_positions_px)[..., :2]
        if self.deformation is None:
            return q
        return q + warp_displacement_px(self.deformation, q, image_size_px)

    @property
    def moving_positions_px(self) -> Float[Array, "F P 3"]:
        """3D position of each particle in each tilt image."""
        if self.trajectories_px is None:
            return np.broadcast_to(
                self.positions_px, (len(self.projections_px), *self.positions_px.shape)
            ).copy()
        return self.positions_px + np.swapaxes(self.trajectories_px, 0, 1)


@dataclass(frozen=True, kw_only=True)
class GeometryErrors:
    """RMS errors of one tomogram's geometry.

    Attributes
    ----------
    visible_pairs
        Pairs whose true 2D position is at least half a box from the image's border.
    rms_2d_angstrom
        Over visible pairs: distance between stated and true 2D position.
    rms_shift_angstrom
        Over tilt images: length of the mean 2D error of their visible particles.
    net_rotation_degrees
        Angle of the rotation that all stated projections have in common against the true ones, by which the
        views of all particles are turned.
    rms_view_degrees
        Over tilt images: angle between stated and true projection, net rotation included.
    rms_angle_degrees
        Over tilt images: angle between stated and true projection, net rotation removed.
    rms_position_angstrom
        Over particles: distance between stated and true position, mean over the exposure.
    rms_trajectory_angstrom
        Over particles and tilt images: error of the motion, without its mean over the exposure and what all
        particles have in common.
    """

    visible_pairs: int
    rms_2d_angstrom: float
    rms_shift_angstrom: float
    net_rotation_degrees: float
    rms_view_degrees: float
    rms_angle_degrees: float
    rms_position_angstrom: float
    rms_trajectory_angstrom: float


@dataclass(frozen=True, kw_only=True)
class TomogramEvaluation:
    """Errors of one tomogram's result, and of the input where that is known."""

    tomogram: str
    after: GeometryErrors
    before: GeometryErrors | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Errors of a result, tomogram by tomogram."""

    tomograms: tuple[TomogramEvaluation, ...]

    @property
    def visible_pairs(self) -> int:
        """Visible pairs in all tomograms."""
        return sum(t.after.visible_pairs for t in self.tomograms)

    @property
    def rms_2d_after_angstrom(self) -> float:
        """RMS 2D error of the result over the visible pairs of all tomograms."""
        return _pooled_rms_2d([t.after for t in self.tomograms])

    @property
    def rms_2d_before_angstrom(self) -> float | None:
        """RMS 2D error of the input, or None where it is not known for all tomograms."""
        before = [t.before for t in self.tomograms if t.before is not None]
        return _pooled_rms_2d(before) if len(before) == len(self.tomograms) else None

    def summary(self) -> str:
        """Say in one line what improved."""
        after, before = self.rms_2d_after_angstrom, self.rms_2d_before_angstrom
        pairs = f"over {self.visible_pairs} visible pairs in {len(self.tomograms)} tomogram(s)"
        if before is None:
            return f"RMS 2D error {after:.3f} Å {pairs}"
        return f"RMS 2D error {before:.3f} Å before, {after:.3f} Å after, {pairs}"


def _pooled_rms_2d(errors: Sequence[GeometryErrors]) -> float:
    pairs = sum(e.visible_pairs for e in errors)
    squares = sum(e.visible_pairs * e.rms_2d_angstrom**2 for e in errors if e.visible_pairs)
    return float(np.sqrt(squares / pairs)) if pairs else float("nan")


def geometry_errors(truth: Truth, geometry: Geometry) -> GeometryErrors:
    """Compare a geometry with the truth; raises InputError when their tilt images do not correspond.

    Without any visible pair, errors in the images are NaN.
    """
    if len(geometry.projections_px) != len(truth.projections_px):
        raise InputError(
            f"{truth.name}: the result has {len(geometry.projections_px)} tilt images, the truth "
            f"{len(truth.projections_px)}; give the truth that belongs to these images"
        )
    pixel, chosen = truth.pixel_size_angstrom, geometry.particles
    error = geometry.positions_2d_px(truth.image_size_px) - np.swapaxes(truth.positions_2d_px[chosen], 0, 1)
    visible = truth.visible[chosen].T
    counts = np.sum(visible, axis=1)
    seen = counts > 0
    mean = np.sum(error * visible[..., None], axis=1)[seen] / counts[seen, None]
    true_moving = np.swapaxes(truth.positions_px[chosen, None] + truth.trajectories_px[chosen], 0, 1)
    true_rotations = truth.projections_px[:, :3, :3]
    moving, rotations = _without_gauge(geometry, true_moving, true_rotations)
    views = geometry.projections_px[:, :3, :3]
    net = mean_rotation(np.swapaxes(true_rotations, 1, 2) @ views)
    difference = moving - true_moving
    position_error = np.mean(difference, axis=0)
    motion_error = difference - position_error
    motion_error = motion_error - np.mean(motion_error, axis=1, keepdims=True)
    return GeometryErrors(
        visible_pairs=int(counts.sum()),
        rms_2d_angstrom=_rms_length(error[visible]) * pixel,
        rms_shift_angstrom=_rms_length(mean) * pixel,
        net_rotation_degrees=_rms_angle_degrees(net[None], np.eye(3)[None]),
        rms_view_degrees=_rms_angle_degrees(views, true_rotations),
        rms_angle_degrees=_rms_angle_degrees(rotations, true_rotations),
        rms_position_angstrom=_rms_length(position_error) * pixel,
        rms_trajectory_angstrom=_rms_length(motion_error) * pixel,
    )


def _rms_length(vectors: Float[Array, "... d"]) -> float:
    if vectors.size == 0:
        return float("nan")
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=-1))))


def _rms_angle_degrees(rotations: Float[Array, "N 3 3"], true_rotations: Float[Array, "N 3 3"]) -> float:
    turns = rotation_vector(rotations @ np.swapaxes(true_rotations, 1, 2))
    return float(np.rad2deg(_rms_length(turns)))


def _without_gauge(
    geometry: Geometry, true_moving_px: Float[Array, "F P 3"], true_rotations: Float[Array, "F 3 3"]
) -> tuple[Float[Array, "F P 3"], Float[Array, "F 3 3"]]:
    """Turn and shift a geometry as a whole onto the truth; returns positions and projections' rotations.

    The rotation G makes the mean square of position errors, plus that of the angles' errors at the distance
    ρ of a typical particle from the centre, smallest.
    """
    moving, rotations = geometry.moving_positions_px, geometry.projections_px[:, :3, :3]
    stated, true = np.mean(moving, axis=0), np.mean(true_moving_px, axis=0)
    stated_centred, true_centred = stated - np.mean(stated, axis=0), true - np.mean(true, axis=0)
    lever2 = max(np.mean(np.sum(true_centred**2, axis=-1)), 1.0)
    covariance = stated_centred.T @ true_centred / len(stated) + lever2 / 2 * np.mean(
        np.swapaxes(rotations, 1, 2) @ true_rotations, axis=0
    )
    G = nearest_rotation(covariance.T)
    shift = np.mean(true, axis=0) - np.mean(stated, axis=0) @ G.T
    return moving @ G.T + shift, rotations @ G.T


def input_geometry(truth: Truth) -> Geometry | None:
    """Return the input's geometry as the truth's file tells it, or None where it does not."""
    if truth.input_positions_px is None:
        return None
    return Geometry(
        projections_px=truth.input_projections_px,
        particles=np.arange(len(truth.positions_px)),
        positions_px=truth.input_positions_px,
    )


def geometry_of(truth: Truth, series: TiltSeries, particles: Particles) -> Geometry:
    """Return the geometry that a data set states; raises InputError when no particle is the truth's."""
    index = match_particles(truth, particles.names)
    found = index >= 0
    trajectories = particles.trajectories_px
    return Geometry(
        projections_px=series.projections_px,
        particles=index[found],
        positions_px=particles.positions_px[found],
        trajectories_px=None if trajectories is None else trajectories[found],
        deformation=series.deformation,
    )


def evaluate_alignment(truth: Truth, alignment: Alignment, particles: Particles) -> TomogramEvaluation:
    """Evaluate an alignment in memory of these input particles."""
    place = {int(row): i for i, row in enumerate(particles.rows)}
    names = tuple(particles.names[place[int(row)]] for row in alignment.rows)
    index = match_particles(truth, names)
    found = index >= 0
    trajectories = alignment.trajectories_px
    geometry = Geometry(
        projections_px=alignment.projections_px,
        particles=index[found],
        positions_px=alignment.positions_px[found],
        trajectories_px=None if trajectories is None else trajectories[found],
        deformation=alignment.deformation,
    )
    before = input_geometry(truth)
    return TomogramEvaluation(
        tomogram=truth.name,
        after=geometry_errors(truth, geometry),
        before=None if before is None else geometry_errors(truth, before),
    )


def match_particles(truth: Truth, names: Sequence[str]) -> Int[Array, "P"]:
    """Index in the truth of each named particle, −1 for those it does not know.

    A truth without names is matched by order. Raises InputError when nothing can be matched.
    """
    if truth.particle_names is None:
        if len(names) != len(truth.positions_px):
            raise InputError(
                f"{truth.name}: the result has {len(names)} particles, the truth {len(truth.positions_px)} "
                "and no names; give all particles in their order"
            )
        return np.arange(len(names))
    place = {name: i for i, name in enumerate(truth.particle_names)}
    index = np.array([place.get(name, -1) for name in names], dtype=np.int64)
    if not np.any(index >= 0):
        raise InputError(f"{truth.name}: the truth knows none of the result's particles; give its own truth")
    return index


def evaluate_dataset(
    truths: Mapping[str, Truth], after: Dataset, before: Dataset | None = None
) -> Evaluation:
    """Evaluate every tomogram of a data set that the truth knows.

    `before` is the input data set; without it, the truth's own account of the input is used, if there is one.
    Raises InputError when no tomogram is known, or one cannot be loaded.
    """
    names = [name for name in after.tomogram_names if name in truths]
    if not names:
        raise InputError(
            f"{after.tomograms.star.source}: the truth knows none of these tomograms "
            f"({', '.join(after.tomogram_names[:3])}); give the truth of this project"
        )
    evaluations = []
    for name in names:
        truth = truths[name]
        stated = (
            input_geometry(truth)
            if before is None
            else geometry_of(truth, *before.load(name, geometry_only=True))
        )
        evaluations.append(
            TomogramEvaluation(
                tomogram=name,
                after=geometry_errors(truth, geometry_of(truth, *after.load(name, geometry_only=True))),
                before=None if stated is None else geometry_errors(truth, stated),
            )
        )
    return Evaluation(tomograms=tuple(evaluations))


def evaluate_project(
    result: Path,
    truth_file: Path,
    *,
    before: Path | None = None,
    working_directory: Path | None = None,
    relion_version: int | None = None,
) -> Evaluation:
    """Evaluate a result on disk.

    Parameters
    ----------
    result
        An output folder (its optimisation set, or else its tomogram, particle and trajectory sets), or an
        optimisation set. Where a folder has no particle set, the input's is taken.
    truth_file
        The ``truth.json`` of the simulation.
    before
        The input optimisation set; by default the one beside the truth, if there is one.
    working_directory
        RELION's project folder. By default the result's files are looked for from the current folder, then
        from the truth's; the input's from its own folder, then from the current one.
    relion_version
        As in `Dataset`, for both.

    Raises
    ------
    InputError
        When files are missing, malformed, or do not belong together.
    """
    truths = read_truth(truth_file)
    project = truth_file.absolute().parent
    beside = project / truth_file.name.replace("truth.json", "optimisation_set.star")
    before = before or (beside if beside.exists() else None)
    stated = None
    if before is not None:
        source = before.absolute()
        stated = _first_found(
            [working_directory] if working_directory else [source.parent, Path.cwd()],
            lambda folder: open_dataset(source, working_directory=folder, relion_version=relion_version),
        )
    after = _first_found(
        [working_directory] if working_directory else [Path.cwd(), project],
        lambda folder: _open_result(result.absolute(), stated, folder, relion_version),
    )
    return evaluate_dataset(truths, after, stated)


def _first_found(folders: Sequence[Path], open_in: Callable[[Path], Dataset]) -> Dataset:
    """Open a data set in the first working directory from which its files are found."""
    problem: InputError | None = None
    for folder in folders:
        try:
            dataset = open_in(folder)
            for name in dataset.tomogram_names[:1]:
                dataset.load(name, geometry_only=True)
            return dataset
        except InputError as error:
            problem = problem or error
    raise problem or InputError("there is no data set to evaluate")


def _open_result(
    result: Path, before: Dataset | None, working_directory: Path, relion_version: int | None
) -> Dataset:
    optimisation_set = result / "optimisation_set.star" if result.is_dir() else result
    if optimisation_set.exists() or not result.is_dir():
        return open_dataset(
            optimisation_set, working_directory=working_directory, relion_version=relion_version
        )
    particles, trajectories = result / "particles.star", result / "motion.star"
    if not particles.exists() and before is not None:
        particles = before.files.require("particles")
    return open_dataset(
        tomograms=result / "tomograms.star",
        particles=particles,
        trajectories=trajectories if trajectories.exists() else None,
        working_directory=working_directory,
        relion_version=relion_version,
    )
