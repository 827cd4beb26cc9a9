"""Alignments of dirty tomograms, as they are and without the dirt: each kind alone, and a mix of all.

Bad particles, blank and covered images are removed from the input beforehand; kinds that spoil good images
(beads, hot pixels, backgrounds, errors of defocus, displaced images) are compared with the same tomogram
without them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from accuracy_cases import Case, align_settings
from accuracy_runs import Record, Run, Tomogram, align, description, geometry_of, simulate
from tomopolish.dataset.model import Alignment, LeftOutTilt, Particles
from tomopolish.simulate.evaluate import evaluate_geometry, input_geometry
from tomopolish.simulate.flags import FlagCounts, particle_counts, tilt_counts
from tomopolish.simulate.geometry_errors import GeometryErrors
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    DirtSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    Truth,
)

BOX_PX, RANGE_PX = 64, 20
PAIR_SNRS = (40.0, 15.0, 25.0)
PARTICLES = (60, 90, 40)

MIX = DirtSettings(
    false_particles=0.25,
    misoriented=0.1,
    picked_twice=0.05,
    beads=8,
    hot_pixels=30,
    gradient=0.5,
    blank_images=2,
    covered_images=2,
    defocus_error_angstrom=600.0,
    displaced_images=1,
    displaced_by_px=14.0,
)

KINDS = {
    "mix": MIX,
    "clean": DirtSettings(),
    "false particles": DirtSettings(false_particles=MIX.false_particles),
    "misoriented": DirtSettings(misoriented=MIX.misoriented),
    "picked twice": DirtSettings(picked_twice=MIX.picked_twice),
    "beads": DirtSettings(beads=MIX.beads),
    "hot pixels": DirtSettings(hot_pixels=MIX.hot_pixels),
    "background": DirtSettings(gradient=MIX.gradient),
    "blank images": DirtSettings(blank_images=MIX.blank_images),
    "covered images": DirtSettings(covered_images=MIX.covered_images),
    "defocus errors": DirtSettings(defocus_error_angstrom=MIX.defocus_error_angstrom),
    "displaced image": DirtSettings(displaced_images=1, displaced_by_px=MIX.displaced_by_px),
}


@dataclass(frozen=True, kw_only=True)
class DirtCase(Case):
    """One seed of the study: one kind of dirt in one tomogram."""

    kind: str


def dirt_case(seed: int) -> DirtCase:
    """All kinds come in turns in the same tomogram; after each round the next tomogram."""
    kind, number = list(KINDS)[seed % len(KINDS)], seed // len(KINDS)
    simulation = SimulationSettings(
        seed=700 + number,
        molecule=MoleculeSettings(box_px=BOX_PX, seed=number % 7),
        acquisition=AcquisitionSettings(
            image_size_px=(640, 601),
            tilt_step_degrees=4.0,
            tilt_axis_degrees=(-75.0, 12.0, 94.0)[number % 3],
            hand=(-1.0, 1.0)[number % 2],
        ),
        specimen=SpecimenSettings(particles=PARTICLES[number % len(PARTICLES)], thickness_angstrom=600.0),
        errors=PlantedErrors(shift_px=2.0, angle_degrees=0.1, position_px=1.5),
        noise=NoiseSettings(pair_snr=PAIR_SNRS[number % len(PAIR_SNRS)]),
        dirt=KINDS[kind],
    )
    return DirtCase(seed=seed, simulation=simulation, align=align_settings(BOX_PX, RANGE_PX), kind=kind)


def measure_dirt(case: DirtCase) -> Record:
    """Align a dirty tomogram as it is, and without its dirt."""
    tomogram = simulate(case)
    if tomogram.truth.is_clean:
        without = simulate(replace(case, simulation=replace(case.simulation, dirt=DirtSettings())))
    else:
        without = without_bad(tomogram)
    run, cleaned = align(tomogram, case.align), align(without, case.align)
    stated = input_geometry(tomogram.truth)
    assert stated is not None
    before = evaluate_geometry(tomogram.truth, stated, None)
    good, best = good_errors(tomogram, run), good_errors(without, cleaned)
    particles, tilts = flag_counts(tomogram.truth, tomogram.particles, run.alignment)
    return description(case, tomogram) | {
        "kind": case.kind,
        "removed": not tomogram.truth.is_clean,
        "input_good_angstrom": (before.good_after or before.after).rms_2d_angstrom,
        "run_angstrom": run.errors.rms_2d_angstrom,
        "run_good_angstrom": good.rms_2d_angstrom,
        "without_good_angstrom": best.rms_2d_angstrom,
        "ratio": good.rms_2d_angstrom / best.rms_2d_angstrom,
        "input_net_degrees": (before.good_after or before.after).net_rotation_degrees,
        "run_net_degrees": good.net_rotation_degrees,
        "without_net_degrees": best.net_rotation_degrees,
        "run_view_degrees": good.rms_view_degrees,
        "without_view_degrees": best.rms_view_degrees,
        "particle_flags": particles and asdict(particles),
        "tilt_flags": tilts and asdict(tilts),
        "seconds": run.seconds,
    }


def without_bad(tomogram: Tomogram) -> Tomogram:
    """Return a tomogram whose input lacks bad particles, and whose blank and covered images are left out."""
    truth, particles = tomogram.truth, tomogram.particles
    keep = np.flatnonzero(truth.good_particles)
    bad = tuple(
        LeftOutTilt(tilt=int(tilt), reason="it was removed") for tilt in np.flatnonzero(~truth.good_tilts)
    )
    return replace(
        tomogram,
        series=replace(tomogram.series, left_out=bad),
        particles=particles.subset(keep),
    )


def good_errors(tomogram: Tomogram, run: Run) -> GeometryErrors:
    """Return the errors of the good particles in the good tilt images."""
    evaluation = evaluate_geometry(tomogram.truth, geometry_of(tomogram, run.alignment), None)
    return evaluation.good_after or evaluation.after


def flag_counts(
    truth: Truth, particles: Particles, alignment: Alignment
) -> tuple[FlagCounts | None, FlagCounts | None]:
    """Return the counts of particles and tilt images; None where the alignment has no scores."""
    scores = alignment.scores
    if scores is None:
        return None, None
    names = dict(zip(particles.rows.tolist(), particles.names, strict=True))
    own = scores.particles
    cells = {
        names[int(row)]: (float(p), bool(flag))
        for row, p, flag in zip(alignment.rows, own.probability, own.flagged, strict=True)
    }
    return (
        particle_counts(truth, cells),
        tilt_counts(truth, scores.tilts.probability, scores.tilts.flagged),
    )
