"""After a joint refinement, a particle that few images show is put where they, and the input, prefer it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from small_project import Stack, make_settings
from tomopolish import pipeline
from tomopolish.dataset.model import Tomogram
from tomopolish.dataset.screening import screened
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.pipeline.joint.search import Placed, place_again
from tomopolish.pipeline.windows import correlation_windows, without_tilts
from tomopolish.progress import SilentProgress
from tomopolish.settings.alignment import AlignSettings
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.structure import build_structure
from tomopolish.simulate.tomogram import simulate_tomogram
from tomopolish.simulate.truth import with_true_geometry

BOX, MISPLACED = 48, 5
OFF_PX = np.array([2.5, -3.0, 2.0])
SIMULATION = SimulationSettings(
    seed=8,
    molecule=MoleculeSettings(box_px=BOX, resolution_px=2.6, blob_sigma_px=0.8, diameter_fraction=0.65),
    acquisition=AcquisitionSettings(
        image_size_px=(300, 300), pixel_size_angstrom=3.0, tilt_step_degrees=10.0
    ),
    specimen=SpecimenSettings(particles=12),
    noise=NoiseSettings(pair_snr=100.0),
)


@pytest.fixture(scope="module")
def scene() -> tuple[Tomogram, CorrelationWindows, AlignSettings]:
    """The true tomogram but for one particle, which lies elsewhere; only three images show it."""
    structure, settings = build_structure(SIMULATION), make_settings(BOX, 8)
    simulated = simulate_tomogram(SIMULATION, 0, structure)
    images = Stack(np.stack([simulated.images.read(tilt) for tilt in range(len(simulated.series))]))
    series, particles = with_true_geometry(simulated.series, simulated.particles, simulated.truth)
    positions = particles.positions_px.copy()
    positions[MISPLACED] += OFF_PX
    tomogram = Tomogram(
        series=screened(replace(series, images=images)),
        species=(replace(particles, positions_px=positions),),
    )
    references = pipeline.prepare(structure.references, settings)
    with ThreadPoolExecutor(1) as pool:
        windows = correlation_windows(
            tomogram.series, tomogram.species[0], references, settings, pool, SilentProgress()
        )
    visible = windows.visible.copy()
    visible[np.flatnonzero(visible[:, MISPLACED])[3:], MISPLACED] = False
    return tomogram, replace(without_tilts(windows, tomogram.series.usable), visible=visible), settings


def moved(tomogram: Tomogram, windows: CorrelationWindows, settings: AlignSettings) -> np.ndarray:
    tilts, particles = windows.visible.shape
    placed = Placed(position_precision=1 / 2.5**2, tilts=np.ones(tilts), particles=np.ones(particles))
    after = place_again(tomogram, tomogram, windows, placed, settings)
    return after.particles.positions_px - tomogram.particles.positions_px


def test_a_misplaced_particle_returns(
    scene: tuple[Tomogram, CorrelationWindows, AlignSettings],
) -> None:
    changes = moved(*scene)
    # Three images, which show little of one direction, and the prior leave it half a pixel off.
    assert np.linalg.norm(changes[MISPLACED] + OFF_PX) < 1.0
    others = np.arange(len(changes)) != MISPLACED
    np.testing.assert_array_equal(changes[others], 0)


def test_constant_positions_stay(scene: tuple[Tomogram, CorrelationWindows, AlignSettings]) -> None:
    tomogram, windows, settings = scene
    settings = replace(settings, fit=replace(settings.fit, const_positions=True))
    np.testing.assert_array_equal(moved(tomogram, windows, settings), 0)
