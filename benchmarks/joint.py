"""Joint refinement of simulated tomograms whose orientations, defocus and B factors are off.

``python benchmarks/joint.py --o FILE --seeds 3`` appends a line of JSON for each setting and seed, and prints
a table: errors at the input, after the geometry alone, after the joint refinement, and after a joint
refinement that starts at the truth; and how well maps of each agree with the true one.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.model import Alignment, Particles, TiltSeries, Tomogram
from tomopolish.imaging.backproject import empty_reconstruction
from tomopolish.imaging.fsc import shell_correlation
from tomopolish.physics.geometry import project, rotation_from_vector, rotation_vector
from tomopolish.physics.optics import TiltCtf
from tomopolish.pipeline.align import align_tomogram
from tomopolish.pipeline.references import prepare
from tomopolish.progress import SilentProgress
from tomopolish.settings.alignment import AlignSettings, InputPaths, RunSettings, WindowSettings
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.structure import build_structure
from tomopolish.simulate.tomogram import simulate_tilt_series
from tomopolish.simulate.truth import Truth, with_true_geometry

Array = np.ndarray
BOX, RANGE = 96, 12
JOINT = JointSettings(orientations=True, defocus=True, tilt_scale=True, tilt_bfactor=True)

STUDY: dict[str, dict[str, float]] = {
    "exact": {"angle": 0.0, "defocus": 0.0, "bfactor": 0.0, "snr": 60.0},
    "usual": {"angle": 2.0, "defocus": 500.0, "bfactor": 80.0, "snr": 60.0},
    "far": {"angle": 4.0, "defocus": 1000.0, "bfactor": 80.0, "snr": 60.0},
    "faint": {"angle": 2.0, "defocus": 500.0, "bfactor": 80.0, "snr": 20.0},
    "hopeless": {"angle": 2.0, "defocus": 500.0, "bfactor": 80.0, "snr": 4.0},
    "coarse reference": {"angle": 2.0, "defocus": 500.0, "bfactor": 80.0, "snr": 60.0, "resolution": 18.0},
}
"""Standard deviation of each angle (degrees) and defocus (Å), range of unrecorded B factors (Å²),
signal-to-noise ratio of a pair, resolution of the reference (Å)."""


def simulation(case: dict[str, float], seed: int) -> SimulationSettings:
    return SimulationSettings(
        seed=seed,
        molecule=MoleculeSettings(
            box_px=BOX, diameter_fraction=0.65, seed=seed, resolution_px=case.get("resolution", 6.5) / 2.5
        ),
        specimen=SpecimenSettings(particles=80),
        acquisition=AcquisitionSettings(
            image_size_px=(1024, 1024),
            pixel_size_angstrom=2.5,
            tilt_step_degrees=6.0,
            bfactor_angstrom2=case["bfactor"],
        ),
        noise=NoiseSettings(pair_snr=case["snr"]),
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
    return (
        replace(series, projections_px=alignment.projections_px, ctf=replace(ctf, **changes)),
        replace(particles, positions_px=alignment.positions_px, rotations=rotations),
    )


def errors(series: TiltSeries, particles: Particles, truth: Truth, true: TiltCtf) -> dict[str, float]:
    """Return root mean square errors: 2D (Å), views (degrees), defocus (Å), B (Å²)."""
    visible = truth.visible
    there = np.swapaxes(project(series.projections_px, particles.positions_px)[..., :2], 0, 1)
    off = (there - truth.positions_2d_px)[visible]
    views, true_views = (
        np.einsum("fij,pjk->pfik", P[:, :3, :3], A)[visible]
        for P, A in ((series.projections_px, particles.rotations), (truth.projections_px, truth.rotations))
    )
    turned = np.rad2deg(np.linalg.norm(rotation_vector(views @ np.swapaxes(true_views, 1, 2)), axis=-1))
    defocus = series.ctf.defocus_u_angstrom - true.defocus_u_angstrom
    return {
        "2d": series.pixel_size_angstrom * _rms(np.linalg.norm(off, axis=-1)),
        "views": _rms(turned),
        "defocus": _rms(defocus),
        "bfactor": _rms(series.ctf.bfactor_angstrom2 - true.bfactor_angstrom2),
    }


def fsc_with_truth(series: TiltSeries, particles: Particles, density: Array, mask: Array) -> Array:
    """Return the FSC of the reconstruction with the true map, within the mask."""
    reconstruction = empty_reconstruction(BOX, np.eye(3)[None])
    with ThreadPoolExecutor(1) as pool:
        reconstruction.add(series, particles, pool)
    maps = [reconstruction.merged_map() * mask, density * mask]
    return shell_correlation(np.stack(maps).astype(np.float32), None).unmasked


def align(series: TiltSeries, particles: Particles, prepared: Any, joint: JointSettings) -> Alignment:
    settings = AlignSettings(
        inputs=InputPaths(optimisation_set=Path("set.star")),
        windows=WindowSettings(box_px=BOX, range_px=RANGE),
        run=RunSettings(output_folder=Path("nowhere"), device="cpu"),
        joint=joint,
    )
    tomogram = Tomogram(series=series, species=(particles,))
    result = align_tomogram(tomogram, [prepared], settings, SilentProgress())
    for group in result.statistics.groups:
        gain = group.evidence
        print(f"    {group.group}: {gain.gain:+.1f} ± {gain.standard_error:.1f}", flush=True)
    return result.alignment


def measure(name: str, seed: int) -> dict[str, Any]:
    case = STUDY[name]
    settings = simulation(case, seed)
    series, particles, references, truth = simulate_tilt_series(settings)
    structure, true = build_structure(settings), series.ctf
    mask = references.mask if references.mask is not None else np.ones_like(structure.density)
    prepared = prepare(
        references,
        AlignSettings(
            inputs=InputPaths(optimisation_set=Path("set.star")),
            windows=WindowSettings(box_px=BOX, range_px=RANGE),
            run=RunSettings(output_folder=Path("nowhere")),
        ),
    )
    wrong = with_errors(series, particles, case, seed)
    best = with_true_geometry(series, replace(particles, rotations=truth.rotations), truth)
    record: dict[str, Any] = {"case": name, "seed": seed}
    solutions = {"input": wrong, "truth": best}
    for label, start, joint in (
        ("geometry", wrong, JointSettings()),
        ("joint", wrong, JOINT),
        ("from truth", best, JOINT),
    ):
        begin = time.perf_counter()
        solutions[label] = refined(*start, align(*start, prepared, joint))
        record[f"{label} seconds"] = round(time.perf_counter() - begin, 2)
    last = BOX * 2.5 / case.get("resolution", 6.5)
    for label, (images, picks) in solutions.items():
        curve = fsc_with_truth(images, picks, structure.density, mask)
        below = np.flatnonzero(curve[1:] < 0.5)
        record[label] = {
            **errors(images, picks, truth, true),
            "mean_fsc": float(curve[1 : int(last) + 1].mean()),
            "resolution": BOX * 2.5 / (below[0] if len(below) and below[0] else len(curve) - 1),
        }
    return record


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        "| case | seed | solution | 2D (Å) | views (°) | defocus (Å) | B (Å²) | mean FSC | FSC 0.5 (Å) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        for label in ("input", "geometry", "joint", "from truth", "truth"):
            e = record[label]
            lines.append(
                f"| {record['case']} | {record['seed']} | {label} | {e['2d']:.2f} | {e['views']:.2f} "
                f"| {e['defocus']:.0f} | {e['bfactor']:.0f} | {e['mean_fsc']:.3f} | {e['resolution']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(STUDY), help=", ".join(STUDY))
    parser.add_argument("--o", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    records = []
    for name in options.cases:
        for seed in range(options.first, options.first + options.seeds):
            records.append(measure(name, seed))
            with options.o.open("a") as stream:
                stream.write(json.dumps(records[-1]) + "\n")
            seconds = {k: v for k, v in records[-1].items() if k.endswith("seconds")}
            print(name, seed, seconds, flush=True)
    print(table(records))


if __name__ == "__main__":
    main()
