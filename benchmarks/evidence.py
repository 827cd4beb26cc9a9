"""How often the evidence is wrong, and how small an improvement it finds: docs/evidence.md.

    python benchmarks/evidence.py noise 0 100      # images of noise alone: nothing is to be gained
    python benchmarks/evidence.py truth 0 100      # the input is the truth: nothing is to be gained
    python benchmarks/evidence.py again 0 40       # the input is what a first run made of the same images
    python benchmarks/evidence.py 0.25 0 40        # input errors in units of `PlantedErrors`' defaults

Each prints a row of the table: seeds, share of tomograms called better and worse at 2.5 % each, the gain of
all of them together, and the errors.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tomopolish import pipeline
from tomopolish.dataset.model import Alignment, Particles, TiltSeries, Tomogram
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import Evidence
from tomopolish.results.verdict import SIGNIFICANCE, improbability, sentence, verdict
from tomopolish.settings.alignment import AlignSettings, InputPaths, RunSettings, WindowSettings
from tomopolish.simulate.evaluate import geometry_of, input_geometry
from tomopolish.simulate.geometry_errors import geometry_errors
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    simulate_tomogram,
)
from tomopolish.simulate.structure import build_structure

BOX_PX = 32
SIZE_PX = 200
ALIGN = AlignSettings(
    inputs=InputPaths(optimisation_set=Path("simulated.star")),
    windows=WindowSettings(box_px=BOX_PX, range_px=6),
    run=RunSettings(output_folder=Path("simulated")),
)


@dataclass(frozen=True, eq=False)
class Stack:
    """Tilt images held in memory."""

    values: np.ndarray

    @property
    def size_px(self) -> tuple[int, int]:
        """(w, h) of every image."""
        return self.values.shape[2], self.values.shape[1]

    def __len__(self) -> int:
        return len(self.values)

    def read(self, tilt: int) -> np.ndarray:
        """Return one tilt image."""
        return self.values[tilt]


def simulation(seed: int, error: float, pair_snr: float, particles: int) -> SimulationSettings:
    """15 tilt images of 200² px."""
    planted = PlantedErrors()
    return SimulationSettings(
        seed=seed,
        molecule=MoleculeSettings(box_px=BOX_PX, seed=seed % 5, blobs=40),
        acquisition=AcquisitionSettings(
            image_size_px=(SIZE_PX, SIZE_PX), tilt_step_degrees=8.0, tilt_range_degrees=56.0
        ),
        specimen=SpecimenSettings(
            particles=particles,
            tomogram_size_px=(SIZE_PX, SIZE_PX, 90),
            thickness_angstrom=200.0,
            min_distance_px=8.0 if particles > 30 else None,
            edge_margin_px=20.0,
        ),
        errors=PlantedErrors(
            shift_px=error * planted.shift_px,
            angle_degrees=error * planted.angle_degrees,
            position_px=error * planted.position_px,
        ),
        noise=NoiseSettings(pair_snr=pair_snr),
    )


def refined_input(series: TiltSeries, particles: Particles, found: Alignment) -> tuple[TiltSeries, Particles]:
    """Return what a run's result is as the input of the next."""
    return (
        replace(series, projections_px=found.projections_px, left_out=found.left_out),
        replace(particles, positions_px=found.positions_px),
    )


def one(kind: str, seed: int, pair_snr: float, particles: int) -> tuple[Evidence, float, float]:
    """Evidence of a seed, and the RMS 2D error before and after, Å."""
    known = kind in {"noise", "truth"}
    settings = simulation(
        seed, 0.0 if known else 1.0 if kind == "again" else float(kind), pair_snr, particles
    )
    structure = build_structure(settings)
    tomogram = simulate_tomogram(settings, 0, structure)
    images = np.stack([tomogram.images.read(tilt) for tilt in range(len(tomogram.series))])
    if kind == "noise":
        images = np.random.default_rng(1000 + seed).standard_normal(images.shape).astype(np.float32)
    series, parts = replace(tomogram.series, images=Stack(images)), tomogram.particles
    prepared = pipeline.prepare(structure.references, ALIGN)
    rounds = 2 if kind == "again" else 1
    before = np.nan
    for _ in range(rounds):
        result = pipeline.align_tomogram(
            Tomogram(series=series, species=(parts,)), [prepared], ALIGN, SilentProgress()
        )
        series, parts = refined_input(series, parts, result.alignment)
    truth = tomogram.truth
    stated = input_geometry(truth)
    if rounds == 1 and stated is not None:
        before = geometry_errors(truth, stated).rms_2d_angstrom
    after = geometry_errors(truth, geometry_of(truth, series, parts)).rms_2d_angstrom
    assert result.statistics.evidence is not None
    return result.statistics.evidence, before, after


def main() -> None:
    kind, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pair_snr = float(sys.argv[4]) if len(sys.argv) > 4 else 10.0
    particles = int(sys.argv[5]) if len(sys.argv) > 5 else 20
    found = {str(seed): one(kind, seed, pair_snr, particles) for seed in range(first, last)}
    evidence = {name: e for name, (e, _, _) in found.items()}
    chances = np.array([improbability(e) for e in evidence.values()])
    whole = verdict(evidence)
    assert whole is not None
    errors = np.array([pair for _, *pair in found.values()])
    print(
        f"| {kind} | {particles} | {pair_snr:g} | {len(found)} | {np.mean(chances < SIGNIFICANCE):.3f} "
        f"| {np.mean(chances > 1 - SIGNIFICANCE):.3f} | {whole.gain_per_pair:+.3f} ± "
        f"{whole.standard_error_per_pair:.3f} | {np.sqrt(np.mean(errors[:, 0] ** 2)):.2f} → "
        f"{np.sqrt(np.mean(errors[:, 1] ** 2)):.2f} |"
    )
    print(sentence(whole), file=sys.stderr)


if __name__ == "__main__":
    main()
