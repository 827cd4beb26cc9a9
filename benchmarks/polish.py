"""Rounds of `tomopolish polish` on simulated projects, against the truth and against noise: docs/polish.md.

``python benchmarks/polish.py --o FOLDER --seeds 3`` simulates projects whose tilt series, positions,
orientations (3° about each axis) and defocus (700 Å) are off, polishes them from half maps of their own
input, and prints a table: agreement of each round's map with the planted one, as a share of that at the true
parameters. ``--noise`` replaces the images by noise and the references by two half maps of noise, with an FSC
that promises 10 Å: no round may resolve anything.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

from tomopolish import load, polish
from tomopolish.dataset.model import Alignment, RefinedOptics
from tomopolish.dataset.mrc import write_volume
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.fsc_file import write_fsc
from tomopolish.imaging.backproject import empty_reconstruction
from tomopolish.imaging.fsc import shell_correlation
from tomopolish.imaging.registration import Registration, register
from tomopolish.physics.geometry import rotation_from_vector, rotation_vector
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.project import write_project
from tomopolish.simulate.structure import build_structure
from tomopolish.simulate.truth import read_truth, with_true_geometry

Array = np.ndarray
BOX, RANGE, PIXEL = 64, 10, 2.5
ANGLE_DEGREES, DEFOCUS_ANGSTROM = 3.0, 700.0


def simulation(seed: int, tomograms: int, particles: int, snr: float) -> SimulationSettings:
    return SimulationSettings(
        seed=seed,
        tomograms=tomograms,
        molecule=MoleculeSettings(box_px=BOX, diameter_fraction=0.65, seed=seed, resolution_px=2.4),
        specimen=SpecimenSettings(particles=particles),
        acquisition=AcquisitionSettings(
            image_size_px=(720, 720),
            pixel_size_angstrom=PIXEL,
            tilt_step_degrees=5.0,
            tilt_range_degrees=55.0,
        ),
        noise=NoiseSettings(pair_snr=snr),
    )


def write_wrong_sets(project: Path, seed: int) -> Path:
    """Write sets with wrong orientations and defocus beside the project's, without references."""
    dataset = open_dataset(project / "optimisation_set.star", working_directory=project)
    rng = np.random.default_rng(1000 + seed)
    alignments = {}
    for name in dataset.tomogram_names:
        series, particles = dataset.load(name)
        turns = np.deg2rad(ANGLE_DEGREES) * rng.normal(size=(len(particles), 3))
        off = DEFOCUS_ANGSTROM * rng.normal(size=(len(series), 1))
        defocus = np.stack([series.ctf.defocus_u_angstrom, series.ctf.defocus_v_angstrom], axis=-1)
        alignments[name] = Alignment(
            tomogram=name,
            projections_px=series.projections_px,
            rows=particles.rows,
            positions_px=particles.positions_px,
            rotations=particles.rotations @ rotation_from_vector(turns),
            optics=RefinedOptics(defocus_angstrom=defocus + off),
        )
    dataset.write(Path("wrong"), alignments, motion=False)
    return project / "wrong" / "optimisation_set.star"


def without_signal(project: Path, seed: int) -> dict[str, Path]:
    """Replace all tilt images by white noise; returns references of noise whose FSC promises 10 Å."""
    rng = np.random.default_rng(2000 + seed)
    for path in sorted((project / "tilt_series").glob("*.mrc*")):
        with mrcfile.mmap(path, mode="r+") as stack:
            for section in range(len(stack.data)):
                stack.data[section] = rng.standard_normal(stack.data[section].shape)
    parts = {f"half_map{n}": project / f"noise_half{n}.mrc" for n in (1, 2)}
    for path in parts.values():
        write_volume(path, gaussian_filter(rng.standard_normal((BOX,) * 3), 1.0).astype(np.float32), PIXEL)
    curve = 0.95 * (np.arange(BOX // 2 + 1) <= BOX * PIXEL / 10.0)
    write_fsc(project / "noise_fsc.star", {"corrected": curve}, box_px=BOX, pixel_size_angstrom=PIXEL)
    return {**parts, "fsc": project / "noise_fsc.star"}


def registered(second: Array, found: Registration) -> Array:
    """Return a map at R x + t."""
    centre, matrix = np.full(3, second.shape[-1] // 2), found.rotation[::-1, ::-1]
    return affine_transform(second, matrix, centre + found.shift_px[::-1] - matrix @ centre)


def fsc_with_truth(volume: Array, density: Array, mask: Array, last: int) -> Array:
    """Return the FSC within the mask, after the map was brought into the frame of the planted one."""
    fsc = shell_correlation(np.stack([density, volume]).astype(np.float32), mask)
    if fsc.corrected[1] > 0.5:
        volume = registered(volume, register(density, volume, fsc, mask))
    curve = shell_correlation(np.stack([volume * mask, density * mask]).astype(np.float32), None).unmasked
    return curve[1 : last + 1]


def mean_fsc_with_truth(volume: Array, density: Array, mask: Array, last: int) -> float:
    """Return the mean of `fsc_with_truth`."""
    return float(fsc_with_truth(volume, density, mask, last).mean())


def true_map(project: Path) -> Array:
    """Return the map of the true geometry, orientations and defocus."""
    dataset = open_dataset(project / "optimisation_set.star", working_directory=project)
    truths = read_truth(project / "truth.json")
    sums = empty_reconstruction(BOX, np.eye(3)[None])
    with ThreadPoolExecutor(1) as pool:
        for name in dataset.tomogram_names:
            series, particles = dataset.load(name)
            truth = truths[name]
            particles = replace(particles, rotations=truth.rotations)
            sums.add(*with_true_geometry(series, particles, truth), pool)
    return sums.merged_map()


def halves_apart_degrees(project: Path, optimisation_set: str) -> float:
    """Return the net rotation between the two half sets' particles: how far their maps are turned."""
    dataset = open_dataset(Path(optimisation_set), working_directory=project)
    truths = read_truth(project / "truth.json")
    turns, halves = [], []
    for name in dataset.tomogram_names:
        _, particles = dataset.load(name)
        inverse = np.swapaxes(truths[name].rotations, 1, 2)
        turns.append(rotation_vector(inverse @ particles.rotations))
        halves.append(particles.half_set)
    turn, half = np.concatenate(turns), np.concatenate(halves)
    apart = turn[half == 0].mean(axis=0) - turn[half == 1].mean(axis=0)
    return float(np.rad2deg(np.linalg.norm(apart)))


def measure(folder: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    settings = simulation(seed, options.tomograms, options.particles, options.snr)
    project = folder / f"seed{seed}{'_noise' if options.noise else ''}"
    write_project(project, settings)
    references = without_signal(project, seed) if options.noise else {}
    structure = build_structure(settings)
    mask = structure.references.mask
    assert mask is not None
    last = int(BOX * PIXEL / 5.5)
    wrong = write_wrong_sets(project, seed)
    os.chdir(project)  # RELION's project folder, where the names in the sets begin
    start = time.perf_counter()
    run = polish(
        load(wrong, **references),
        "polished",
        box_px=BOX,
        range_px=RANGE,
        own_references=not options.noise,
        report=False,
        threads=options.threads,
        show_progress=True,
        overwrite=True,
    )
    record: dict[str, Any] = {
        "seed": seed,
        "noise": options.noise,
        "seconds": round(time.perf_counter() - start, 1),
        "best": run.best.number,
        "reason": run.reason,
        "truth": mean_fsc_with_truth(true_map(project), structure.density, mask, last),
        "rounds": [],
    }
    for each in run.rounds:
        with mrcfile.open(Path(each.species[0].optimisation_set).parent / "merged.mrc") as file:
            against = mean_fsc_with_truth(file.data, structure.density, mask, last)
        record["rounds"].append(
            {
                "fsc_0.143": each.species[0].resolution_angstrom[0],
                "half_maps": float(np.mean(each.species[0].fsc[1 : last + 1])),
                "truth": against,
                "apart": halves_apart_degrees(project, each.species[0].optimisation_set),
                "gain_per_pair": None if each.evidence is None else each.evidence.gain_per_pair,
            }
        )
    return record


def table(records: list[dict[str, Any]]) -> str:
    lines = [
        "| seed | round | FSC 0.143 (Å) | mean FSC of half maps | mean FSC with the truth | share of that at "
        "the true parameters | half sets apart (°) | held-out gain per pair |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        for number, each in enumerate(record["rounds"]):
            gain = "" if each["gain_per_pair"] is None else f"{each['gain_per_pair']:+.2f}"
            share = "" if record["noise"] else f"{100 * each['truth'] / record['truth']:.1f} %"
            lines.append(
                f"| {record['seed']} | {number}{' *' if number == record['best'] else ''} "
                f"| {each['fsc_0.143']:.2f} | {each['half_maps']:.3f} | {each['truth']:.3f} "
                f"| {share} | {each['apart']:.2f} | {gain} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--o", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--tomograms", type=int, default=3)
    parser.add_argument("--particles", type=int, default=70)
    parser.add_argument("--snr", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--noise", action="store_true")
    options = parser.parse_args()
    records, folder = [], options.o.absolute()
    for seed in range(options.first, options.first + options.seeds):
        records.append(measure(folder, seed, options))
        with (folder / "records.jsonl").open("a") as stream:
            stream.write(json.dumps(records[-1]) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()
