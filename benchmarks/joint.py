"""Joint refinement of simulated tomograms whose orientations, defocus and B factors are off.

    python benchmarks/joint.py --o FILE --seeds 4     # about 8 s of processor time for each case and seed
    python benchmarks/joint.py --o FILE --table       # the table of an earlier run
    python benchmarks/joint.py --o FILE --ratios      # only errors over standard errors, in a third of it

Each case and seed appends a line of JSON: errors and processor time of the input, the geometry alone, the
joint refinement, one of the same input whose steps start at the truth, and one whose input is the truth; how
well maps of each agree with the true one; and errors over stated standard errors. Bad particles and images
count nowhere.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from tomopolish.dataset.model import Alignment, Particles, TiltSeries, Tomogram
from tomopolish.imaging.backproject import empty_reconstruction
from tomopolish.imaging.derivatives import BFACTOR, DEFOCUS, SCALE
from tomopolish.imaging.fsc import shell_correlation
from tomopolish.physics.geometry import (
    mean_rotation,
    project_trajectories,
    rotation_from_vector,
    rotation_vector,
)
from tomopolish.physics.optics import TiltCtf
from tomopolish.pipeline.align import align_tomogram
from tomopolish.pipeline.joint.state import JointState
from tomopolish.pipeline.joint.steps import Point, Refiner
from tomopolish.pipeline.references import prepare
from tomopolish.progress import SilentProgress
from tomopolish.settings.alignment import (
    AlignSettings,
    InputPaths,
    MotionSettings,
    RunSettings,
    WindowSettings,
)
from tomopolish.settings.dirt import DirtSettings
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedMotion,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.structure import build_structure
from tomopolish.simulate.tomogram import simulate_tilt_series
from tomopolish.simulate.truth import Truth, with_true_geometry

Array = np.ndarray
BOX, RANGE = 96, 12
JOINT = JointSettings(orientations=True, defocus=True, tilt_scale=True, tilt_bfactor=True)

USUAL = {"angle": 2.0, "defocus": 500.0, "bfactor": 80.0, "snr": 60.0}
STUDY: dict[str, dict[str, float]] = {
    "exact": {"angle": 0.0, "defocus": 0.0, "bfactor": 0.0, "snr": 60.0},
    "near": {"angle": 1.0, "defocus": 250.0, "bfactor": 40.0, "snr": 60.0},
    "usual": USUAL,
    "far": USUAL | {"angle": 4.0, "defocus": 1000.0},
    "faint": USUAL | {"snr": 20.0},
    "hopeless": USUAL | {"snr": 4.0},
    "5.2 Å reference": USUAL | {"resolution": 5.2},
    "10 Å reference": USUAL | {"resolution": 10.0},
    "18 Å reference": USUAL | {"resolution": 18.0},
    "dirt": USUAL | {"dirt": 1.0},
    "motion": USUAL | {"motion": 0.3},
}
"""Standard deviation of each angle (degrees) and defocus (Å), range of unrecorded B factors (Å²),
signal-to-noise ratio of a pair, resolution of the reference (Å), velocity of motion (Å per e⁻/Å²)."""

DIRT = DirtSettings(
    false_particles=0.1, misoriented=0.1, picked_twice=0.05, blank_images=1, covered_images=1, gradient=0.3
)


def simulation(case: dict[str, float], seed: int, particles: int) -> SimulationSettings:
    return SimulationSettings(
        seed=seed,
        molecule=MoleculeSettings(
            box_px=BOX, diameter_fraction=0.65, seed=seed, resolution_px=case.get("resolution", 6.5) / 2.5
        ),
        specimen=SpecimenSettings(particles=particles),
        acquisition=AcquisitionSettings(
            image_size_px=(1024, 1024),
            pixel_size_angstrom=2.5,
            tilt_step_degrees=6.0,
            bfactor_angstrom2=case["bfactor"],
        ),
        noise=NoiseSettings(pair_snr=case["snr"]),
        motion=PlantedMotion(velocity_scale=case["motion"]) if "motion" in case else None,
        dirt=DIRT if "dirt" in case else DirtSettings(),
    )


def with_errors(
    series: TiltSeries, particles: Particles, case: dict[str, float], seed: int
) -> tuple[TiltSeries, Particles]:
    """Return a tomogram with wrong orientations, defocus and B factors."""
    rng, tilts = np.random.default_rng(seed), len(series)
    defocus = case["defocus"] * rng.normal(size=tilts)
    ctf = replace(
        series.ctf,
        defocus_u_angstrom=series.ctf.defocus_u_angstrom + defocus,
        defocus_v_angstrom=series.ctf.defocus_v_angstrom + defocus,
        bfactor_angstrom2=series.ctf.bfactor_angstrom2 - rng.uniform(0, case["bfactor"], tilts),
    )
    turns = np.deg2rad(case["angle"]) * rng.normal(size=(len(particles), 3))
    rotations = particles.rotations @ rotation_from_vector(turns)
    return replace(series, ctf=ctf), replace(particles, rotations=rotations)


def refined(series: TiltSeries, particles: Particles, alignment: Alignment) -> tuple[TiltSeries, Particles]:
    """Return a tomogram with its alignment."""
    optics, ctf = alignment.optics, series.ctf
    changes: dict[str, Array] = {}
    if optics.defocus_angstrom is not None:
        u, v = optics.defocus_angstrom.T
        changes |= {"defocus_u_angstrom": u, "defocus_v_angstrom": v}
    for name in ("scale", "bfactor_angstrom2"):
        value = getattr(optics, name)
        changes |= {} if value is None else {name: value}
    rotations = particles.rotations if alignment.rotations is None else alignment.rotations
    paths = particles.trajectories_px if alignment.trajectories_px is None else alignment.trajectories_px
    return (
        replace(series, projections_px=alignment.projections_px, ctf=replace(ctf, **changes)),
        replace(particles, positions_px=alignment.positions_px, rotations=rotations, trajectories_px=paths),
    )


def errors(series: TiltSeries, particles: Particles, truth: Truth, true: TiltCtf) -> dict[str, float]:
    """Return root mean square errors: 2D (Å), views (degrees), defocus (Å), B (Å²)."""
    visible = truth.visible & truth.good_particles[:, None] & truth.good_tilts
    points = np.repeat(particles.positions_px[None], len(series), axis=0)
    if particles.trajectories_px is not None:
        points = points + np.moveaxis(particles.trajectories_px, 1, 0)
    there = np.swapaxes(project_trajectories(series.projections_px, points)[..., :2], 0, 1)
    off = (there - truth.positions_2d_px)[visible]
    views, true_views = (
        np.einsum("fij,pjk->pfik", P[:, :3, :3], A)[visible]
        for P, A in ((series.projections_px, particles.rotations), (truth.projections_px, truth.rotations))
    )
    turned = np.rad2deg(np.linalg.norm(rotation_vector(views @ np.swapaxes(true_views, 1, 2)), axis=-1))
    good = truth.good_tilts
    return {
        "2d": series.pixel_size_angstrom * _rms(np.linalg.norm(off, axis=-1)),
        "views": _rms(turned),
        "defocus": _rms((series.ctf.defocus_u_angstrom - true.defocus_u_angstrom)[good]),
        "bfactor": _rms((series.ctf.bfactor_angstrom2 - true.bfactor_angstrom2)[good]),
    }


def calibration(
    series: TiltSeries, particles: Particles, alignment: Alignment, truth: Truth, true: TiltCtf
) -> dict[str, float]:
    """Return errors over stated standard errors, root mean square, of what was refined."""
    stated, good, ratios = alignment.errors, truth.good_tilts, {}
    assert stated is not None
    # A common turn or shift is the tomogram's, and no image shows it.
    there, right = alignment.projections_px[good, :3, :3], truth.projections_px[good, :3, :3]
    net = mean_rotation(np.swapaxes(right, 1, 2) @ there)
    turns = np.rad2deg(rotation_vector(there @ net.T @ np.swapaxes(right, 1, 2)))
    ratios["angles"] = _rms(turns / stated.angles_degrees[good])
    if alignment.trajectories_px is None:
        shown = truth.good_particles
        off = (alignment.positions_px @ net.T - truth.positions_px)[shown] * series.pixel_size_angstrom
        ratios["positions"] = _rms((off - off.mean(axis=0)) / stated.positions_angstrom[shown])
    if stated.orientations_degrees is not None and alignment.rotations is not None:
        known = truth.good_particles & (stated.orientations_degrees > 0).all(axis=1)
        turns = rotation_vector(alignment.rotations @ np.swapaxes(truth.rotations, 1, 2))
        turns = turns - np.median(turns[known], axis=0)  # a common turn is the tomogram's
        own = np.rad2deg(np.einsum("pji,pj->pi", truth.rotations, turns))
        ratios["orientations"] = _rms((own / stated.orientations_degrees)[known])
    for name, sigma, off in (
        ("defocus", stated.defocus_angstrom, series.ctf.defocus_u_angstrom - true.defocus_u_angstrom),
        ("bfactor", stated.bfactor_angstrom2, series.ctf.bfactor_angstrom2 - true.bfactor_angstrom2),
        ("scale", stated.relative_scale, np.log(series.ctf.scale / true.scale)),
    ):
        if sigma is not None and (sigma > 0).any():
            ratios[name] = _rms((off / np.maximum(sigma, 1e-9))[good & (sigma > 0)])
    return ratios


def fsc_with_truth(
    series: TiltSeries, particles: Particles, density: Array, mask: Array, good: Array
) -> Array:
    """Return the FSC of the reconstruction from good particles with the true map, within the mask."""
    reconstruction = empty_reconstruction(BOX, np.eye(3)[None])
    parts = {
        name: getattr(particles, name)[good]
        for name in ("rows", "positions_px", "rotations", "half_set", "optics_group")
    }
    if particles.trajectories_px is not None:
        parts["trajectories_px"] = particles.trajectories_px[good]
    chosen = replace(particles, names=tuple(np.array(particles.names)[good]), **parts)
    with ThreadPoolExecutor(1) as pool:
        reconstruction.add(series, chosen, pool)
    maps = [reconstruction.merged_map() * mask, density * mask]
    return shell_correlation(np.stack(maps).astype(np.float32), None).unmasked


def align(
    series: TiltSeries, particles: Particles, prepared: Any, joint: JointSettings, motion: float | None
) -> Alignment:
    settings = AlignSettings(
        inputs=InputPaths(optimisation_set=Path("set.star")),
        windows=WindowSettings(box_px=BOX, range_px=RANGE),
        run=RunSettings(output_folder=Path("nowhere"), device="cpu"),
        motion=None if motion is None else MotionSettings(velocity_scale=motion, distance_scale=500.0),
        joint=joint,
    )
    tomogram = Tomogram(series=series, species=(particles,))
    return align_tomogram(tomogram, [prepared], settings, SilentProgress()).alignment


@contextmanager
def steps_from(true: Truth, ctf: TiltCtf) -> Iterator[None]:
    """Let joint refinements take their first step at all frequencies from the truth, with the same priors."""
    descend, first = Refiner.descend, True

    def from_truth(self: Refiner, state: JointState, limit: float, *, held_out: bool) -> Point:
        nonlocal first
        if first:
            first, given = False, self.images.tomogram.series.ctf
            known = {
                DEFOCUS: ctf.defocus_u_angstrom - given.defocus_u_angstrom,
                BFACTOR: ctf.bfactor_angstrom2 - given.bfactor_angstrom2,
                SCALE: np.log(ctf.scale / given.scale),
            }
            state = replace(
                state,
                projections_px=true.projections_px,
                positions_px=true.positions_px,
                rotations=true.rotations,
                optics=np.stack([known[name] for name in state.names], axis=-1),
            )
        return descend(self, state, limit, held_out=held_out)

    with patch.object(Refiner, "descend", from_truth):
        yield


def measure(
    name: str, seed: int, particles_each: int, only_ratios: bool, chosen: Sequence[str] = ()
) -> dict[str, Any]:
    case = STUDY[name]
    settings = simulation(case, seed, particles_each)
    series, particles, references, truth = simulate_tilt_series(settings)
    structure, true = build_structure(settings), series.ctf
    mask = references.mask if references.mask is not None else np.ones_like(structure.density)
    prepared = prepare(
        references,
        AlignSettings(
            inputs=InputPaths(optimisation_set=Path("set.star")),
            windows=WindowSettings(box_px=BOX, range_px=RANGE),
            run=RunSettings(output_folder=Path("nowhere")),
            joint=JOINT,
        ),
    )
    wrong = with_errors(series, particles, case, seed)
    if only_ratios:
        alignment = align(*wrong, prepared, JOINT, case.get("motion"))
        ratios = calibration(*refined(*wrong, alignment), alignment, truth, true)
        return {"case": name, "seed": seed, "ratios": ratios}
    best = with_true_geometry(series, replace(particles, rotations=truth.rotations), truth)
    record: dict[str, Any] = {"case": name, "seed": seed}
    solutions = {"input": wrong, "truth": best}
    for label, start, joint, begins in (
        ("geometry", wrong, JointSettings(), nullcontext()),
        ("joint", wrong, JOINT, nullcontext()),
        ("steps from truth", wrong, JOINT, steps_from(truth, true)),
        ("input is truth", best, JOINT, nullcontext()),
    ):
        if chosen and label not in chosen:
            continue
        begin = time.process_time()
        with begins:
            alignment = align(*start, prepared, joint, case.get("motion"))
        record[f"{label} seconds"] = round(time.process_time() - begin, 2)
        solutions[label] = refined(*start, alignment)
        if label == "joint":
            record["ratios"] = calibration(*solutions[label], alignment, truth, true)
    last, good = BOX * 2.5 / case.get("resolution", 6.5), truth.good_particles
    for label, (images, picks) in solutions.items():
        curve = fsc_with_truth(images, picks, structure.density, mask, good)
        record[label] = {
            **errors(images, picks, truth, true),
            "mean_fsc": float(curve[1 : int(last) + 1].mean()),
        }
    return record


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def tables(records: Sequence[dict[str, Any]]) -> str:
    """Return what earlier or present records have: all tables, or that of the ratios alone."""
    merged: dict[tuple[str, int], dict[str, Any]] = {}
    for record in records:
        merged.setdefault((record["case"], record["seed"]), {}).update(record)
    complete = [record for record in merged.values() if SOLUTIONS[0] in record]
    return table(complete) if complete else ratio_table(list(merged.values()))


SOLUTIONS = ("input", "geometry", "joint", "steps from truth", "input is truth", "truth")


def table(records: Sequence[dict[str, Any]]) -> str:
    """Return means over the seeds of each case, and the ratios."""
    lines = [
        "| case | solution | 2D (Å) | views (°) | defocus (Å) | B (Å²) | mean FSC | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(record["case"] for record in records):
        own = [record for record in records if record["case"] == case]
        base = np.median([record.get("geometry seconds", np.nan) for record in own])
        for label in SOLUTIONS:
            if any(label not in record for record in own):
                continue
            e = {key: np.mean([record[label][key] for record in own]) for key in own[0][label]}
            seconds = [record[f"{label} seconds"] for record in own if f"{label} seconds" in record]
            ratio = f"{np.median(seconds) / base:.1f}" if seconds else ""
            name = f"{case} ({len(own)})" if label == SOLUTIONS[0] else ""
            lines.append(
                f"| {name} | {label} | {e['2d']:.2f} | {e['views']:.2f} | {e['defocus']:.0f} "
                f"| {e['bfactor']:.0f} | {e['mean_fsc']:.3f} | {ratio} |"
            )
    return "\n".join([*lines, "", ratio_table(records)])


def ratio_table(records: Sequence[dict[str, Any]]) -> str:
    """Return errors over stated standard errors, root mean square over the seeds of each case."""
    names = ("positions", "angles", "orientations", "defocus", "bfactor", "scale")
    lines = [
        "| case | positions | angles | orientations | defocus | B factor | CTF scale |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(record["case"] for record in records):
        ratios = [record.get("ratios", {}) for record in records if record["case"] == case]
        cells = []
        for name in names:
            known = [ratio[name] for ratio in ratios if name in ratio]
            cells.append(f"{_rms(np.array(known)):.2f} ({len(known)})" if known else "–")
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(STUDY), help=", ".join(STUDY))
    parser.add_argument("--o", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--particles", type=int, default=80)
    parser.add_argument("--solutions", nargs="*", default=[], help="only these: " + ", ".join(SOLUTIONS[1:5]))
    parser.add_argument("--ratios", action="store_true", help="only errors over stated standard errors")
    parser.add_argument("--table", action="store_true", help="print the table of an earlier run")
    options = parser.parse_args()
    if options.table:
        print(tables([json.loads(line) for line in options.o.read_text().splitlines()]))
        return
    records = []
    for name in options.cases:
        for seed in range(options.first, options.first + options.seeds):
            records.append(measure(name, seed, options.particles, options.ratios, options.solutions))
            with options.o.open("a") as stream:
                stream.write(json.dumps(records[-1]) + "\n")
            seconds = {k: v for k, v in records[-1].items() if k.endswith("seconds")}
            print(name, seed, seconds, flush=True)
    print(tables(records))


if __name__ == "__main__":
    main()
