"""Fits of a tomogram's geometry to its windows, with corrections of the references' intensity."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tomopolish.dataset.model import Tomogram
from tomopolish.imaging.held_out import is_small
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.pipeline.evidence import weigh
from tomopolish.pipeline.intensity import (
    SCALE_CORRECTIONS,
    SEARCHED_AGAIN,
    are_off,
    intensity_scales,
    ratio,
)
from tomopolish.pipeline.memory import WindowMemory
from tomopolish.pipeline.motion_trial import prior_from_images
from tomopolish.pipeline.problem import build_problem, start_vector, with_leading_modes
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.resources import Resources
from tomopolish.pipeline.shifts import refine_shifts
from tomopolish.progress import StageProgress
from tomopolish.results.tomogram import Evidence, MotionTrial
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Float
from tomopolish.solve.problem import Problem, evaluate
from tomopolish.solve.refine import Refinement, RefineOptions, refine

ENOUGH_TO_JUDGE = 0.05
"""Gain, in nats, below which the first fit takes no further step, since it is only judged and continued."""

ENOUGH_PER_PAIR = 3e-6
ENOUGH_PER_PAIR_TO_JUDGE = 3e-5
"""The same for each pair, of the final and of the first fit, where that is more: a gain of ε nats per pair
moves pairs by no more than √(2ε) of their standard errors, root mean square."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """The refined geometry of a tomogram, as a solution of its problem.

    Attributes
    ----------
    tomogram
        The input.
    windows
        As last scaled; their values may have been consumed into the problem's surfaces.
    refinement
        The solution, on all pairs.
    scales, applied
        Factor of each species' references that fits the images best, and by which they were multiplied.
    evidence
        What the held-out pairs say of the first fit; None where no pair was held out.
    settings
        Those of the run, with the motion that was kept where it was tried.
    motion
        What became of motion that was tried; None where it was not.
    """

    tomogram: Tomogram
    windows: CorrelationWindows
    refinement: Refinement
    scales: tuple[float, ...]
    applied: tuple[float, ...]
    warnings: tuple[str, ...]
    evidence: Evidence | None
    settings: AlignSettings
    motion: MotionTrial | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """Input and settings that both fits share.

    Attributes
    ----------
    micrographs
        Windows of complete images, where shifts are refined by them alone.
    continued
        Factors of each species' references in the fit that is continued, if any.
    """

    tomogram: Tomogram
    settings: AlignSettings
    options: RefineOptions
    stage: StageProgress
    micrographs: CorrelationWindows | None
    continued: Float[Array, "S"] | None

    def solve(
        self,
        problem: Problem,
        windows: CorrelationWindows,
        start: Float[Array, "N"],
    ) -> tuple[Refinement, tuple[str, ...]]:
        """Refine the parameters chosen in the settings; returns the solution and warnings."""
        if self.settings.fit.shift_only:
            return refine_shifts(self.tomogram.series, problem, windows, self.micrographs)
        return refine(problem, windows, start, self.options, self.stage.advance), ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _FirstFit:
    """The first fit, without the held-out pairs.

    Attributes
    ----------
    start
        Parameters of the input geometry.
    applied, scale
        Factor of each species' references that was applied, and the further factor that fits the images best.
    start_warnings, warnings
        Warnings of the input geometry, and of the fit.
    """

    problem: Problem
    start: Float[Array, "N"]
    refinement: Refinement
    applied: Float[Array, "S"]
    scale: Float[Array, "S"]
    start_warnings: tuple[str, ...]
    warnings: tuple[str, ...]


def fit_geometry(
    tomogram: Tomogram,
    windows: CorrelationWindows,
    settings: AlignSettings,
    resources: Resources,
    micrographs: CorrelationWindows | None = None,
    continued: Sequence[float] | None = None,
    references: Sequence[PreparedReferences] = (),
) -> Fit:
    """Refine a tomogram; if the references' intensity is wrong, correct it and refine again.

    The first fit is without the held-out pairs, which judge it; the final fit starts from its solution.

    Parameters
    ----------
    windows
        Windows of the particles of all species; the fit owns their memory from now on, and changes it.
    micrographs
        Windows of complete images, where shifts are refined by them alone.
    continued
        Factors of each species' references in an earlier fit, from whose geometry this one starts without a
        search; None: no earlier fit.
    references
        References of each species, where motion may have to be tried.
    """
    tried = settings.motion is not None and settings.motion.auto
    with resources.stage("refinement") as stage:
        memory = WindowMemory.of(windows)
        task = _Task(
            tomogram=tomogram,
            settings=replace(settings, motion=None) if tried else settings,
            options=RefineOptions(
                threads=resources.threads,
                enough=max(RefineOptions.enough, ENOUGH_PER_PAIR * memory.pairs),
                max_evaluations=settings.fit.max_iterations or RefineOptions.max_evaluations,
                owner=tomogram.owner if settings.fit.outliers else None,
                robust_start=continued is None,
            ),
            stage=stage,
            micrographs=micrographs,
            continued=None if continued is None else np.array(continued),
        )
        first, trial = _first_fit(task, memory), None
        if tried:
            task, first, trial = _with_motion_tried(task, memory, first, settings, references)
        refinement, scale, warnings = first.refinement, first.scale, first.warnings
        evidence = weigh(memory.windows, refinement, first.applied[tomogram.owner])
        if memory.windows.held_out is not None:  # even if all held-out pairs are of false particles
            refinement, warnings = _final_fit(task, memory, first)
            scale = intensity_scales(memory.windows, refinement, tomogram.owner)
    return Fit(
        tomogram=tomogram,
        windows=memory.windows,
        refinement=refinement,
        scales=tuple(float(v) for v in first.applied * scale),
        applied=tuple(float(v) for v in first.applied),
        warnings=(*first.start_warnings, *warnings, *_scale_warnings(task, first.applied)),
        evidence=evidence,
        settings=task.settings,
        motion=trial,
    )


def _with_motion_tried(
    task: _Task,
    memory: WindowMemory,
    still: _FirstFit,
    settings: AlignSettings,
    references: Sequence[PreparedReferences],
) -> tuple[_Task, _FirstFit, MotionTrial]:
    """Fit motion with the prior that the images suggest; the held-out pairs decide whether it is kept.

    Parameters
    ----------
    still
        The first fit, without motion.
    settings
        Those of the run.

    Returns
    -------
    The task and the first fit with motion where it is kept, else those without; and what became of it.
    """
    windows, threads = memory.windows, task.options.threads
    prior = prior_from_images(task.tomogram, windows, still.refinement, settings, references, threads)
    trajectories = task.tomogram.particles.trajectories_px
    input_moves = trajectories is not None and bool(np.any(trajectories))
    if prior is None:
        return task, still, MotionTrial(input_moves=input_moves)
    moving_task = replace(task, settings=replace(settings, motion=prior))
    moving = _set_in_motion(moving_task, memory, still)
    trial = MotionTrial(
        velocity_scale=prior.velocity_scale,
        distance_scale=prior.distance_scale,
        squared_exponential=prior.squared_exponential,
        absolute=prior.absolute,
        input_moves=input_moves,
        evidence=weigh(windows, moving.refinement, still.applied[task.tomogram.owner], still.refinement),
    )
    return (moving_task, moving, trial) if trial.helps else (task, still, trial)


def _set_in_motion(task: _Task, memory: WindowMemory, still: _FirstFit) -> _FirstFit:
    """Continue a first fit with motion, on the same surfaces."""
    series, particles = task.tomogram.series, task.tomogram.particles
    complete = build_problem(
        series, particles, memory.windows, task.settings, make_surface=lambda: still.problem.surface
    )
    problem = _in_leading_modes(task, complete, memory)
    start, start_warnings = start_vector(series, particles, problem, task.settings)
    solved = vars(still.refinement.problem.layout.unpack(still.refinement.vector))
    vector = problem.layout.fill(**{**solved, "motion": problem.layout.unpack(start).motion})
    task = _to_judge(replace(task, options=replace(task.options, robust_start=False)), memory)
    refinement, warnings = task.solve(problem, memory.windows, vector)
    return replace(
        still,
        problem=problem,
        start=start,
        refinement=_continued(still.refinement, refinement, start),
        scale=intensity_scales(memory.windows, refinement, task.tomogram.owner),
        start_warnings=start_warnings,
        warnings=warnings,
    )


def _scale_warnings(task: _Task, applied: Float[Array, "S"]) -> list[str]:
    """Return warnings with the factors of references, unless the user chose one."""
    if task.settings.fit.reference_scale is not None:
        return []
    name = task.tomogram.series.name
    return [
        f"the references were multiplied by {factor:.3g} to fit the images of {name}; "
        "give --ref_scale 1 to use them unchanged"
        for factor in applied
        if factor != 1
    ]


def _first_fit(task: _Task, memory: WindowMemory) -> _FirstFit:
    """Refine without the held-out pairs until the references' intensity needs no further correction.

    Motion is refined once the intensity is about right, unless it was chosen.
    """
    settings, tomogram = task.settings, task.tomogram
    owner, chosen_scale = tomogram.owner, settings.fit.reference_scale
    task = _to_judge(task, memory)
    applied = np.full(len(tomogram.species), 1.0 if chosen_scale is None else chosen_scale)
    if task.continued is not None:
        applied = task.continued
    memory.scale(applied[owner])
    fixed = chosen_scale is not None or settings.fit.shift_only or not settings.weights.whiten
    complete = _problem(task, memory)
    problem = _in_leading_modes(task, complete, memory)
    still = bool(problem.motion.shape[0]) and not fixed
    start, start_warnings = start_vector(tomogram.series, tomogram.particles, problem, settings)
    vector, before, is_near = start, None, False
    for corrections_left in reversed(range(SCALE_CORRECTIONS + 1)):
        moving = problem.layout.fill(motion=1.0).astype(bool)
        solved = replace(problem, free=problem.free & ~moving) if still else problem
        refinement, warnings = task.solve(solved, memory.windows, vector)
        if before is not None:
            refinement = _continued(before, refinement, start if is_near else None)
        scale = intensity_scales(memory.windows, refinement, owner)
        off = are_off(scale)
        right = fixed or not off.any() or not corrections_left
        if right and not still:
            break  # windows and problem have one scale
        change = np.where(off & (not right), scale, 1.0)
        memory.scale(change[owner])  # also scales surfaces in the windows' memory
        applied = applied * change
        earlier, problem = problem, _in_leading_modes(task, complete, memory)
        start, _ = start_vector(tomogram.series, tomogram.particles, problem, settings)
        # The optimum of windows of about the right scale is near that of the right scale.
        is_near = bool((ratio(change) < SEARCHED_AGAIN).all())
        vector, before = start, refinement
        if is_near:
            vector = _carried_over(earlier, refinement.vector, problem)
        task = replace(task, options=replace(task.options, robust_start=not is_near))
        still = False
    return _FirstFit(
        problem=problem,
        start=start,
        refinement=refinement,
        applied=applied,
        scale=scale,
        start_warnings=start_warnings,
        warnings=warnings,
    )


def _to_judge(task: _Task, memory: WindowMemory) -> _Task:
    """Return the task of a fit that is only judged and continued, where pairs are held out."""
    if memory.windows.held_out is None:
        return task
    enough = max(ENOUGH_TO_JUDGE, ENOUGH_PER_PAIR_TO_JUDGE * memory.pairs)
    return replace(task, options=replace(task.options, enough=enough))


def _carried_over(earlier: Problem, vector: Float[Array, "N"], problem: Problem) -> Float[Array, "N"]:
    """Return a vector of a problem as one of another, whose motion may have other modes."""
    blocks = vars(earlier.layout.unpack(vector))
    if earlier.motion.shape[0] and earlier.motion is not problem.motion:
        moved = earlier.motion.offsets_px(blocks["motion"])
        blocks = blocks | {"motion": problem.motion.coefficients(moved)}
    return problem.layout.fill(**blocks)


def _problem(task: _Task, memory: WindowMemory) -> Problem:
    """Return the problem; its surfaces replace the windows, unless sums of windows are needed."""
    penalty = task.settings.windows.range_penalty
    make = memory.surfaces if task.settings.fit.shift_only else memory.consume_into_surfaces
    with ThreadPoolExecutor(task.options.threads) as pool:
        return build_problem(
            task.tomogram.series,
            task.tomogram.particles,
            memory.windows,
            task.settings,
            make_surface=partial(make, penalty, pool),
        )


def _in_leading_modes(task: _Task, problem: Problem, memory: WindowMemory) -> Problem:
    """Return the problem without modes of motion that images on the windows' present scale cannot move."""
    if not problem.motion.shape[0]:
        return problem
    pixel_size = task.tomogram.series.pixel_size_angstrom
    return with_leading_modes(problem, memory.windows.power, pixel_size, task.options.threads)


def _final_fit(task: _Task, memory: WindowMemory, first: _FirstFit) -> tuple[Refinement, tuple[str, ...]]:
    """Continue a first fit with all pairs; gains are relative to the input geometry.

    With few pairs, the held-out pairs may be needed to find the right optimum: then the fit starts again.
    """
    anew = is_small(memory.pairs)
    problem = replace(
        replace(first.problem, surface=memory.put_back(first.problem.surface)),
        pair_weights=None if anew else first.refinement.problem.pair_weights,
    )
    task = replace(task, options=replace(task.options, robust_start=anew))
    start = first.start if anew else first.refinement.vector
    final, warnings = task.solve(problem, memory.windows, start)
    return _continued(first.refinement, final, None if anew else first.start), warnings


def _continued(before: Refinement, refinement: Refinement, start: Float[Array, "N"] | None) -> Refinement:
    """Return a refinement with the evaluations of an earlier one.

    Parameters
    ----------
    start
        The input geometry, to which gains are relative where the refinement began at the earlier solution;
        None where it did not.
    """
    counted = replace(
        refinement,
        evaluations=before.evaluations + refinement.evaluations,
    )
    if start is None:
        return counted
    state = evaluate(refinement.problem, start)
    return replace(
        counted,
        start_log_likelihood=state.log_likelihood,
        history=(state.objective, *refinement.history),
    )
