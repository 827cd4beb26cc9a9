"""One simulated tomogram, its alignment and the errors of both, for the accuracy studies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from accuracy_cases import Case
from tomopolish import pipeline
from tomopolish.dataset import model
from tomopolish.dataset.model import Alignment, Particles, References, TiltSeries
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import Evidence, MotionTrial
from tomopolish.settings.alignment import AlignSettings
from tomopolish.simulate.evaluate import input_geometry, match_particles
from tomopolish.simulate.geometry_errors import Geometry, GeometryErrors, geometry_errors
from tomopolish.simulate.parts import Truth, simulate_tilt_series

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tomogram:
    """A simulated tomogram and the references that belong to it."""

    series: TiltSeries
    particles: Particles
    references: References
    truth: Truth


def simulate(case: Case) -> Tomogram:
    series, particles, references, truth = simulate_tilt_series(case.simulation)
    return Tomogram(series=series, particles=particles, references=references, truth=truth)


def description(case: Case, tomogram: Tomogram) -> Record:
    acquisition, noise = case.simulation.acquisition, case.simulation.noise
    return {
        "seed": case.seed,
        "particles": len(tomogram.particles),
        "tilts": len(tomogram.series),
        "box_px": case.align.windows.box_px,
        "range_px": case.align.windows.range_px,
        "displacement_px": case.simulation.errors.max_displacement_px,
        "pair_snr": noise.pair_snr,
        "hand": acquisition.hand,
        "image_px": acquisition.image_size_px,
        "tomogram_px": case.simulation.specimen.tomogram_size_px,
        "axis_degrees": acquisition.tilt_axis_degrees,
        "dose_scheme": acquisition.dose_scheme,
        "file_order": acquisition.file_order,
        "molecule": case.simulation.molecule.seed,
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """An alignment, its errors and the input's, and figures for the record."""

    alignment: Alignment
    evidence: Evidence | None
    errors: GeometryErrors
    input_errors: GeometryErrors
    evaluations: int
    scale: float
    warnings: tuple[str, ...]
    seconds: float
    motion: MotionTrial | None = None


def errors_of(tomogram: Tomogram, alignment: Alignment) -> GeometryErrors:
    """Return the errors of an alignment of the tomogram's particles, of which it may lack some."""
    return geometry_errors(tomogram.truth, geometry_of(tomogram, alignment))


def geometry_of(tomogram: Tomogram, alignment: Alignment) -> Geometry:
    """Return the geometry of an alignment of the tomogram's particles, of which it may lack some."""
    names = dict(zip(tomogram.particles.rows.tolist(), tomogram.particles.names, strict=True))
    return Geometry(
        projections_px=alignment.projections_px,
        particles=match_particles(tomogram.truth, [names[int(row)] for row in alignment.rows]),
        positions_px=alignment.positions_px,
        trajectories_px=alignment.trajectories_px,
        deformation=alignment.deformation,
        left_out=tuple(image.tilt for image in alignment.left_out),
    )


def align(tomogram: Tomogram, settings: AlignSettings) -> Run:
    """Align as `tomopolish align` does."""
    begin = time.perf_counter()
    prepared = pipeline.prepare(tomogram.references, settings)
    result = pipeline.align_tomogram(
        model.Tomogram(series=tomogram.series, species=(tomogram.particles,)),
        [prepared],
        settings,
        SilentProgress(),
    )
    seconds = time.perf_counter() - begin
    stated = input_geometry(tomogram.truth)
    assert stated is not None
    return Run(
        alignment=result.alignment,
        evidence=result.statistics.evidence,
        errors=errors_of(tomogram, result.alignment),
        input_errors=geometry_errors(tomogram.truth, stated),
        evaluations=result.statistics.evaluations,
        scale=result.statistics.intensity_scale,
        warnings=result.statistics.warnings,
        seconds=seconds,
        motion=result.statistics.motion,
    )
