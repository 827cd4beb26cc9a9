"""Accuracy of alignments of simulated tomograms, against starts at the truth and against simpler models.

``python benchmarks/accuracy.py run STUDY … --o FOLDER`` measures; every finished seed is a line of
``FOLDER/STUDY.jsonl``, and seeds that are there already are not measured again, so that an interrupted run
resumes where it stopped. ``python benchmarks/accuracy.py table FOLDER`` prints the tables as Markdown;
``--into docs/accuracy.md --seeds_into docs/dev/lab-notes/accuracy.md`` puts summaries, and tables seed by
seed, between the marks of these pages.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from accuracy_cases import (
    Case,
    faint_case,
    faint_motion_case,
    motion_and_warp_case,
    motion_case,
    static_case,
    warp_case,
)
from accuracy_dirt import KINDS, dirt_case, measure_dirt
from accuracy_net_rotation import COUNTS, INPUTS, NetRotationCase, net_rotation_case, turned_input
from accuracy_premises import PREMISES, measure_premise, premise_case
from accuracy_runs import Record, Run, Tomogram, align, description, simulate
from accuracy_second_rounds import measure_second_rounds, second_rounds_case
from accuracy_tables import insert, markdown, without_seeds
from seed_records import measure_missing, read_records
from tomopolish import pipeline
from tomopolish.dataset import model
from tomopolish.dataset.model import Deformation
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.models.deformation import refit
from tomopolish.models.parameters import Parameters
from tomopolish.physics.geometry import rotation_vector
from tomopolish.pipeline.fit import Fit
from tomopolish.pipeline.result import refined_geometry
from tomopolish.progress import SilentProgress
from tomopolish.settings.alignment import AlignSettings
from tomopolish.simulate.geometry_errors import Geometry, geometry_errors
from tomopolish.simulate.parts import with_true_geometry
from tomopolish.solve import uncertainty
from tomopolish.solve.problem import Problem, evaluate
from tomopolish.solve.refine import Refinement, RefineOptions, refine

Array = np.ndarray


def parameters_of(
    problem: Problem,
    tomogram: Tomogram,
    projections_px: Array,
    positions_px: Array,
    trajectories_px: Array | None,
    deformation: Deformation | None,
) -> Array:
    """Vector of a problem's parameters that stands for a geometry."""
    before = tomogram.series.projections_px
    centre = np.append(problem.centre_px, 1.0)
    motion = np.zeros(problem.layout.motion_shape)
    if trajectories_px is not None and motion.size:
        motion = problem.motion.coefficients(np.moveaxis(trajectories_px, 1, 0))
    warp = np.zeros(problem.layout.warp_shape)
    if deformation is not None and warp.size:
        warp, _ = refit(deformation, problem.deformation, tomogram.series.image_size_px)
    turn = projections_px[:, :3, :3] @ np.swapaxes(before[:, :3, :3], 1, 2)
    return problem.layout.pack(
        Parameters(
            angles=rotation_vector(turn),
            shifts_px=((projections_px - before) @ centre)[:, :2],
            positions_px=positions_px - tomogram.particles.positions_px,
            motion=motion,
            warp=warp,
        )
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class TruthStart:
    """The same problem and priors, solved from the true parameters without any search."""

    problem: Problem
    windows: CorrelationWindows
    refinement: Refinement
    error_angstrom: float


def start_at_truth(tomogram: Tomogram, settings: AlignSettings) -> TruthStart:
    prepared = pipeline.prepare(tomogram.references, settings)
    with ThreadPoolExecutor(1) as pool:
        windows = pipeline.correlation_windows(
            tomogram.series, tomogram.particles, prepared, settings, pool, SilentProgress()
        )
    problem = pipeline.build_problem(tomogram.series, tomogram.particles, windows, settings)
    truth = tomogram.truth
    vector = parameters_of(
        problem,
        tomogram,
        truth.projections_px,
        truth.positions_px,
        truth.trajectories_px,
        truth.deformation,
    )
    refinement = refine(problem, windows, vector, RefineOptions(robust_start=False, max_evaluations=400))
    curvature = uncertainty.expected_curvature(refinement.problem, refinement.vector, windows.power)
    fit = Fit(
        tomogram=model.Tomogram(series=tomogram.series, species=(tomogram.particles,)),
        windows=windows,
        refinement=refinement,
        scales=(1.0,),
        applied=(1.0,),
        warnings=(),
        evidence=None,
        settings=settings,
    )
    found = refined_geometry(fit, curvature, settings)
    warp = None
    if settings.deformation is not None:
        coefficients = problem.layout.unpack(refinement.vector).warp
        warp = Deformation(
            model=settings.deformation.model,
            grid=settings.deformation.grid,
            coefficients=np.broadcast_to(coefficients, (len(tomogram.series), coefficients.shape[1])).copy(),
        )
    geometry = Geometry(
        projections_px=found.projections_px,
        particles=np.arange(len(tomogram.particles)),
        positions_px=found.positions_px,
        trajectories_px=found.trajectories_px,
        deformation=warp,
    )
    error = geometry_errors(truth, geometry).rms_2d_angstrom
    return TruthStart(problem=problem, windows=windows, refinement=refinement, error_angstrom=error)


def compare(tomogram: Tomogram, run: Run, ideal: TruthStart) -> Record:
    """Figures of a run from the input, and of the start at the truth it is measured by."""
    a = run.alignment
    vector = parameters_of(
        ideal.problem, tomogram, a.projections_px, a.positions_px, a.trajectories_px, a.deformation
    )
    gain = evaluate(ideal.problem, vector).log_likelihood - ideal.refinement.log_likelihood
    return {
        **figures_of(run),
        "truth_start_angstrom": ideal.error_angstrom,
        "ratio": run.errors.rms_2d_angstrom / ideal.error_angstrom,
        "log_likelihood_over_truth_start": gain,
    }


def figures_of(run: Run) -> Record:
    """Figures of a run from the input."""
    return {
        "input_angstrom": run.input_errors.rms_2d_angstrom,
        "run_angstrom": run.errors.rms_2d_angstrom,
        "input_net_degrees": run.input_errors.net_rotation_degrees,
        "run_net_degrees": run.errors.net_rotation_degrees,
        "input_view_degrees": run.input_errors.rms_view_degrees,
        "run_view_degrees": run.errors.rms_view_degrees,
        "evaluations": run.evaluations,
        "scale": run.scale,
        "warnings": list(run.warnings),
        "seconds": run.seconds,
    }


def measure_static(case: Case) -> Record:
    tomogram = simulate(case)
    run = align(tomogram, case.align)
    record = compare(tomogram, run, start_at_truth(tomogram, case.align))
    series, particles = with_true_geometry(tomogram.series, tomogram.particles, tomogram.truth)
    informed = align(replace(tomogram, series=series, particles=particles), case.align)
    record["truth_as_input_angstrom"] = informed.errors.rms_2d_angstrom
    record["ratio_to_truth_as_input"] = run.errors.rms_2d_angstrom / informed.errors.rms_2d_angstrom
    return description(case, tomogram) | record


def measure_models(case: Case) -> Record:
    """With motion and warp, and without each."""
    tomogram, settings = simulate(case), case.align
    run = align(tomogram, settings)
    record = compare(tomogram, run, start_at_truth(tomogram, settings))
    record["run_trajectory_angstrom"] = run.errors.rms_trajectory_angstrom
    if settings.motion is not None:
        without = align(tomogram, replace(settings, motion=None))
        record["velocity_scale"] = settings.motion.velocity_scale
        record["without_motion_angstrom"] = without.errors.rms_2d_angstrom
        record["without_motion_trajectory_angstrom"] = without.errors.rms_trajectory_angstrom
    if settings.deformation is not None:
        without = align(tomogram, replace(settings, deformation=None))
        record["warp"] = settings.deformation.model
        record["warp_per_tilt"] = settings.deformation.per_frame
        record["without_warp_angstrom"] = without.errors.rms_2d_angstrom
    return description(case, tomogram) | record


def measure_net_rotation(case: NetRotationCase) -> Record:
    """Align an input whose projections are turned as a whole, too."""
    tomogram = simulate(case)
    series, truth = turned_input(tomogram.series, tomogram.truth, case.input_errors)
    run = align(replace(tomogram, series=series, truth=truth), case.align)
    return description(case, tomogram) | {"input": case.input_errors.name} | figures_of(run)


def measure_scale(case: Case) -> Record:
    """Compare trajectories that weaker and stronger references lead to with those of the right ones."""
    tomogram = simulate(case)
    pixel = tomogram.series.pixel_size_angstrom
    usual = align(tomogram, case.align)
    record: Record = {
        "run_angstrom": usual.errors.rms_2d_angstrom,
        "run_trajectory_angstrom": usual.errors.rms_trajectory_angstrom,
        "trajectory_length_angstrom": pixel * _rms(usual.alignment.trajectories_px),
        "scale": usual.scale,
    }
    trajectories = []
    for factor in (0.1, 10.0):
        maps = tomogram.references.half_maps * np.float32(factor)
        run = align(replace(tomogram, references=replace(tomogram.references, half_maps=maps)), case.align)
        trajectories.append(run.alignment.trajectories_px)
        apart = trajectories[-1] - usual.alignment.trajectories_px
        record[f"times_{factor:g}"] = {
            "run_angstrom": run.errors.rms_2d_angstrom,
            "trajectory_difference_angstrom": pixel * _rms(apart),
            "scale": run.scale,
        }
    record["weak_to_strong_angstrom"] = pixel * _rms(trajectories[0] - trajectories[1])
    return description(case, tomogram) | record


def _rms(vectors: Array) -> float:
    return float(np.sqrt(np.mean(np.sum(np.square(vectors), axis=-1))))


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is measured over how many seeds."""

    case: Callable[[int], Any]
    measure: Callable[[Any], Record]
    seeds: int


STUDIES = {
    "static": Study(case=static_case, measure=measure_static, seeds=56),
    "faint": Study(case=faint_case, measure=measure_static, seeds=12),
    "motion": Study(case=motion_case, measure=measure_models, seeds=20),
    "faint_motion": Study(case=faint_motion_case, measure=measure_models, seeds=12),
    "warp": Study(case=warp_case, measure=measure_models, seeds=12),
    "motion_and_warp": Study(case=motion_and_warp_case, measure=measure_models, seeds=6),
    "scale": Study(case=motion_case, measure=measure_scale, seeds=4),
    "net_rotation": Study(
        case=net_rotation_case, measure=measure_net_rotation, seeds=8 * len(COUNTS) * len(INPUTS)
    ),
    "second_rounds": Study(case=second_rounds_case, measure=measure_second_rounds, seeds=54),
    "dirt": Study(case=dirt_case, measure=measure_dirt, seeds=6 * len(KINDS)),
    "premises": Study(case=premise_case, measure=measure_premise, seeds=5 * len(PREMISES)),
}


def run_study(
    name: str, folder: Path, seeds: Sequence[int], say: Callable[[str], None] = print
) -> dict[int, Record]:
    """Measure the seeds that have no line yet; returns those asked for."""
    study = STUDIES[name]

    def shown(seed: int, record: Record) -> None:
        say(f"{name} seed {seed}: { ({k: round(v, 3) for k, v in record.items() if isinstance(v, float)}) }")

    return measure_missing(
        folder / f"{name}.jsonl", seeds, lambda seed: study.measure(study.case(seed)), shown
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure")
    run.add_argument("study", nargs="+", choices=[*STUDIES, "all"])
    run.add_argument("--o", type=Path, required=True, help="folder of the results")
    run.add_argument("--seeds", type=int, nargs="+", help="these seeds instead of the study's own")
    table = commands.add_parser("table", help="print the tables")
    table.add_argument("folder", type=Path)
    table.add_argument("--into", type=Path, help="page to put the summaries into")
    table.add_argument("--seeds_into", type=Path, help="page to put the tables seed by seed into")
    options = parser.parse_args(arguments)
    if options.command == "table":
        records = {name: read_records(options.folder / f"{name}.jsonl") for name in STUDIES}
        tables = markdown({name: [r[s] for s in sorted(r)] for name, r in records.items()})
        if options.into is None:
            print(tables)
        else:
            pages = dict(zip((options.into, options.seeds_into), without_seeds(tables), strict=True))
            for page, text in pages.items():
                if page is not None:
                    page.write_text(insert(page.read_text(encoding="utf-8"), text), encoding="utf-8")
        return
    uncertainty.PROBES = ((np.inf, 1),)  # no part of these studies
    for name in STUDIES if "all" in options.study else options.study:
        run_study(name, options.o, options.seeds or range(STUDIES[name].seeds))


if __name__ == "__main__":
    main()
