"""Scatter of a species' mean FSC from round to round of `tomopolish polish`, once nothing is left to gain.

``python benchmarks/polish_scatter.py --o FOLDER --particles 8 --seeds 2`` polishes projects of two species
and compares each change of the half maps' mean FSC after round 1 with the change that the planted maps show:
what differs is chance. `results.rounds.CLEAR_LOSS` lies well above it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import mrcfile
import numpy as np

from polish import fsc_with_truth
from tomopolish import polish
from tomopolish.results.rounds import Round, last_shell, mean_fsc
from tomopolish.rounds import polish as rounds_of_polish
from tomopolish.settings.simulated_structure import CompanionSettings, MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.companions import companion_structure
from tomopolish.simulate.project import write_project
from tomopolish.simulate.structure import Structure, build_structure

Array = np.ndarray
BOXES = {"ribosome": 48, "fas": 40}


def simulation(seed: int, particles: int) -> SimulationSettings:
    molecules = [
        MoleculeSettings(box_px=box, seed=seed + 500 * number, resolution_px=2.4)
        for number, box in enumerate(BOXES.values())
    ]
    return SimulationSettings(
        seed=seed,
        tomograms=2,
        molecule=molecules[0],
        acquisition=AcquisitionSettings(
            image_size_px=(480, 480),
            pixel_size_angstrom=3.0,
            tilt_step_degrees=8.0,
            tilt_range_degrees=56.0,
        ),
        specimen=SpecimenSettings(particles=particles, tomogram_size_px=(480, 480, 160)),
        noise=NoiseSettings(pair_snr=60.0),
        companions=(
            CompanionSettings(name="fas", particles=particles, pair_snr=60.0, molecule=molecules[1]),
        ),
    )


def planted_mean_fsc(each: Round, species: int, structure: Structure, last: int) -> float:
    """Return the mean FSC of half maps that the agreement with the planted map stands for."""
    with mrcfile.open(Path(each.species[species].optimisation_set).parent / "merged.mrc") as file:
        agreement = fsc_with_truth(file.data, structure.density, structure.references.mask, last)
    return float(np.mean(agreement**2 / (2 - agreement**2)))


def measure(folder: Path, seed: int, options: argparse.Namespace) -> tuple[Array, Array]:
    """Return the changes of the mean FSC after round 1, and what of them is chance."""
    settings, project = simulation(seed, options.particles), folder / f"seed{seed}_{options.particles}"
    write_project(project, settings)
    os.chdir(project)
    run = polish(
        {"ribosome": project / "optimisation_set.star", "fas": project / "fas_optimisation_set.star"},
        "polished",
        box_px=BOXES,
        range_px=6,
        max_rounds=options.rounds,
        report=False,
        overwrite=True,
    )
    planted = []
    structures = (build_structure(settings), companion_structure(settings, settings.companions[0], 1))
    for number, structure in enumerate(structures):
        last = last_shell([each.species[number] for each in run.rounds])
        planted.append([planted_mean_fsc(each, number, structure, last) for each in run.rounds[1:]])
    changes = np.diff(mean_fsc(run.rounds)[1:], axis=0)
    return changes, changes - np.diff(np.array(planted).T, axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--o", type=Path, required=True)
    parser.add_argument("--particles", type=int, default=15, help="of each species in each of two tomograms")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds_of_polish.reason_to_stop = lambda rounds, most: "all" if len(rounds) > most else None
    folder = options.o.absolute()
    seeds = range(options.first, options.first + options.seeds)
    changes, chance = np.array([measure(folder, seed, options) for seed in seeds]).swapaxes(0, 1)
    print(
        f"{options.particles} particles of each species in each tomogram: changes {changes.min():+.4f} to "
        f"{changes.max():+.4f}, by chance {np.sqrt(np.mean(chance**2)):.4f} (root mean square)"
    )


if __name__ == "__main__":
    main()
