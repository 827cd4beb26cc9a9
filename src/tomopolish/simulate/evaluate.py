"""Comparison of a result, on disk or in memory, with a known truth; see `geometry_errors`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.relion.scores import FILE_NAME as SCORES
from tomopolish.dataset.relion.scores import read_scores
from tomopolish.dataset.relion.uncertainty import FILE_NAME as UNCERTAINTY
from tomopolish.dataset.relion.uncertainty import read_left_out
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Int
from tomopolish.simulate.flags import FlagQuality, flag_quality
from tomopolish.simulate.geometry_errors import Geometry, GeometryErrors, geometry_errors
from tomopolish.simulate.truth import Truth, read_truth


@dataclass(frozen=True, kw_only=True)
class TomogramEvaluation:
    """Errors of one tomogram's result, and of the input if it is known.

    Attributes
    ----------
    left_out
        Number of tilt images that were left out and are not evaluated.
    good_after, good_before
        Errors of the good particles in the good tilt images (`Truth.good_particles`, `Truth.good_tilts`);
        None where the truth knows of no bad ones, or where no good ones are left.
    """

    tomogram: str
    after: GeometryErrors
    before: GeometryErrors | None = None
    left_out: int = 0
    good_after: GeometryErrors | None = None
    good_before: GeometryErrors | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Errors of a result, tomogram by tomogram.

    Attributes
    ----------
    failures
        Tomogram → why it could not be evaluated.
    flags
        How well the result's scores tell good from bad; None without scores.
    """

    tomograms: tuple[TomogramEvaluation, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    flags: FlagQuality | None = None

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

    @property
    def good_rms_2d_after_angstrom(self) -> float | None:
        """RMS 2D error of the good particles in the good tilt images; None where all are good."""
        good = [t.good_after for t in self.tomograms]
        if all(g is None for g in good):
            return None
        return _pooled_rms_2d([g or t.after for t, g in zip(self.tomograms, good, strict=True)])

    @property
    def good_rms_2d_before_angstrom(self) -> float | None:
        """The same of the input, or None where it is not known for all tomograms."""
        good = [t.good_before or t.before for t in self.tomograms]
        known = [g for g in good if g is not None]
        return _pooled_rms_2d(known) if len(known) == len(good) else None

    def summary(self) -> str:
        """Say in one line what improved, and in another one of the good particles where some are bad."""
        good, before = self.good_rms_2d_after_angstrom, self.good_rms_2d_before_angstrom
        if good is None:
            return self._all_pairs()
        change = f"{good:.3f} Å" if before is None else f"{before:.3f} Å before, {good:.3f} Å after"
        return f"{self._all_pairs()}\nGood particles in good tilt images: RMS 2D error {change}"

    def _all_pairs(self) -> str:
        after, before = self.rms_2d_after_angstrom, self.rms_2d_before_angstrom
        pairs = f"over {self.visible_pairs} visible pairs in {len(self.tomograms)} tomogram(s)"
        left_out = sum(t.left_out for t in self.tomograms)
        if left_out:
            pairs += f", without {left_out} tilt image{'' if left_out == 1 else 's'} that the result left out"
        if before is None:
            return f"RMS 2D error {after:.3f} Å {pairs}"
        return f"RMS 2D error {before:.3f} Å before, {after:.3f} Å after, {pairs}"


def _pooled_rms_2d(errors: Sequence[GeometryErrors]) -> float:
    pairs = sum(e.visible_pairs for e in errors)
    squares = sum(e.visible_pairs * e.rms_2d_angstrom**2 for e in errors if e.visible_pairs)
    return float(np.sqrt(squares / pairs)) if pairs else float("nan")


def input_geometry(truth: Truth) -> Geometry | None:
    """Return the input's geometry from the truth, or None if the truth does not include it."""
    if truth.input_positions_px is None:
        return None
    return Geometry(
        projections_px=truth.input_projections_px,
        particles=np.arange(len(truth.positions_px)),
        positions_px=truth.input_positions_px,
    )


def geometry_of(truth: Truth, series: TiltSeries, particles: Particles) -> Geometry:
    """Return the geometry of a data set; raises InputError when no particle is part of the truth."""
    index = match_particles(truth, particles.names)
    is_known = index >= 0
    trajectories = particles.trajectories_px
    return Geometry(
        projections_px=series.projections_px,
        particles=index[is_known],
        positions_px=particles.positions_px[is_known],
        trajectories_px=None if trajectories is None else trajectories[is_known],
        deformation=series.deformation,
        left_out=tuple(image.tilt for image in series.left_out),
    )


def evaluate_geometry(truth: Truth, after: Geometry, before: Geometry | None) -> TomogramEvaluation:
    """Compare a result and its input with the truth, in the tilt images that the result did not leave out."""
    if before is not None:
        before = replace(before, left_out=after.left_out)
    errors = geometry_errors(truth, after)  # refuses other numbers of tilt images before they are masked
    good_after = _good_part(truth, after)
    good_before = None if before is None else _good_part(truth, before)
    return TomogramEvaluation(
        tomogram=truth.name,
        after=errors,
        before=None if before is None else geometry_errors(truth, before),
        left_out=len(after.left_out),
        good_after=None if good_after is None else geometry_errors(truth, good_after),
        good_before=None if good_before is None else geometry_errors(truth, good_before),
    )


def _good_part(truth: Truth, geometry: Geometry) -> Geometry | None:
    """Return the good particles in the good tilt images, or None where all are good, or none is."""
    keep = truth.good_particles[geometry.particles]
    counted = truth.good_tilts & geometry.counted
    if truth.is_clean or not keep.any() or not counted.any():
        return None
    trajectories = geometry.trajectories_px
    return replace(
        geometry,
        particles=geometry.particles[keep],
        positions_px=geometry.positions_px[keep],
        trajectories_px=None if trajectories is None else trajectories[keep],
        left_out=tuple(int(tilt) for tilt in np.flatnonzero(~counted)),
    )


def match_particles(truth: Truth, names: Sequence[str]) -> Int[Array, "P"]:
    """Return the index in the truth of each named particle, −1 for unknown names.

    Particles of a truth without names are matched by order. Raises InputError when no particle can be
    matched.
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
    truths: Mapping[str, Truth],
    after: Dataset,
    before: Dataset | None = None,
    left_out: Mapping[str, tuple[int, ...]] | None = None,
) -> Evaluation:
    """Evaluate every tomogram of a data set that is part of the truth.

    `left_out` names tilt images that were left out, in addition to those that the data set cannot use.

    `before` is the input data set; without it, the input in the truth is used, if there is one. Raises
    InputError when no tomogram is known, or none can be loaded.
    """
    names = [name for name in after.tomogram_names if name in truths]
    if not names:
        raise InputError(
            f"{after.tomograms.star.source}: the truth knows none of these tomograms "
            f"({', '.join(after.tomogram_names[:3])}); give the truth of this project"
        )
    evaluations: list[TomogramEvaluation] = []
    failures: dict[str, InputError] = {}
    for name in names:
        truth = truths[name]
        try:
            refined = geometry_of(truth, *after.load(name, geometry_only=True))
            stated = (
                input_geometry(truth)
                if before is None
                else geometry_of(truth, *before.load(name, geometry_only=True))
            )
            lacking = {*refined.left_out, *(left_out or {}).get(name, ())}
            refined = replace(refined, left_out=tuple(sorted(lacking)))
            evaluations.append(evaluate_geometry(truth, refined, stated))
        except InputError as problem:
            failures[name] = problem
    if not evaluations:
        raise failures[names[0]]
    return Evaluation(
        tomograms=tuple(evaluations), failures={name: str(problem) for name, problem in failures.items()}
    )


def evaluate_project(
    result: Path,
    truth_file: Path,
    *,
    before: Path | None = None,
    working_directory: Path | None = None,
    beginning: Path | None = None,
    relion_version: int | None = None,
) -> Evaluation:
    """Evaluate a result on disk.

    Parameters
    ----------
    result
        An output folder (its optimisation set, or else its tomogram, particle and trajectory sets), or an
        optimisation set. Where a folder has no particle set, that of the input is used.
    truth_file
        The ``truth.json`` of the simulation.
    before
        The input optimisation set; by default the one in the truth's folder, if there is one.
    working_directory
        RELION's project folder. By default the result's files are searched from the current folder, then from
        the truth's folder; those of the input from its own folder, then from the current folder.
    beginning
        Folder that the result's files are searched from instead of the current one.
    relion_version
        As in `Dataset`, for result and input.

    Raises
    ------
    InputError
        When files are missing or malformed, or do not belong together.
    """
    truths = read_truth(truth_file)
    project = truth_file.absolute().parent
    beside = project / truth_file.name.replace("truth.json", "optimisation_set.star")
    before = before or (beside if beside.exists() else None)
    stated = None
    if before is not None:
        source = before.absolute()
        stated = _open_from(
            [working_directory] if working_directory else [source.parent, Path.cwd()],
            lambda folder: open_dataset(source, working_directory=folder, relion_version=relion_version),
        )
    after = _open_from(
        [working_directory] if working_directory else [beginning or Path.cwd(), project],
        lambda folder: _open_result(result.absolute(), stated, folder, relion_version),
    )
    folder = result if result.is_dir() else result.parent
    evaluation = evaluate_dataset(truths, after, stated, read_left_out(folder / UNCERTAINTY))
    if not (folder / SCORES).is_file():
        return evaluation
    evaluated = {t.tomogram: truths[t.tomogram] for t in evaluation.tomograms}
    return replace(evaluation, flags=flag_quality(evaluated, read_scores(folder / SCORES)))


def _open_from(folders: Sequence[Path], open_in: Callable[[Path], Dataset]) -> Dataset:
    """Open a data set from the first working directory from which its files exist."""
    problem: InputError | None = None
    for folder in folders:
        try:
            dataset = open_in(folder)
        except InputError as error:
            problem = problem or error
            continue
        for name in dataset.tomogram_names:
            try:
                dataset.load(name, geometry_only=True)
                return dataset
            except InputError as error:
                problem = problem or error
        if not dataset.tomogram_names:
            return dataset
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
