"""Whole alignments whose premises are wrong are not called a help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from small_project import Stack, align_one, make_settings
from tomopolish import pipeline
from tomopolish.dataset.model import Particles, References, TiltSeries
from tomopolish.physics.geometry import euler_zyz
from tomopolish.results import doubts
from tomopolish.results.verdict import verdict
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    build_structure,
    simulate_tomogram,
)

Change = Callable[[References, Particles], tuple[References, Particles]]


def unchanged(references: References, particles: Particles) -> tuple[References, Particles]:
    return references, particles


def inverted(references: References, particles: Particles) -> tuple[References, Particles]:
    return replace(references, half_maps=-references.half_maps), particles


def mirrored(references: References, particles: Particles) -> tuple[References, Particles]:
    maps = np.roll(references.half_maps[:, ::-1], 1, axis=1)
    assert references.mask is not None
    mask = np.roll(references.mask[::-1], 1, axis=0)
    return replace(
        references, half_maps=np.ascontiguousarray(maps), mask=np.ascontiguousarray(mask)
    ), particles


def one_map_twice(references: References, particles: Particles) -> tuple[References, Particles]:
    return replace(references, half_maps=references.half_maps[[0, 0]].copy()), particles


def unrelated(references: References, particles: Particles) -> tuple[References, Particles]:
    maps = references.half_maps.copy()
    maps[1] = np.random.default_rng(1).permutation(maps[1].ravel()).reshape(maps[1].shape)
    return replace(references, half_maps=maps), particles


def turned(references: References, particles: Particles) -> tuple[References, Particles]:
    angles = np.random.default_rng(2).uniform(0, 180, (3, len(particles)))
    return references, replace(particles, rotations=euler_zyz(*angles))


@pytest.fixture(scope="module")
def simulated() -> tuple[TiltSeries, Particles, References]:
    """Thirty particles in 13 tilt images, a few px off."""
    settings = SimulationSettings(
        seed=21,
        molecule=MoleculeSettings(box_px=48, seed=2),
        acquisition=AcquisitionSettings(
            image_size_px=(300, 300), tilt_step_degrees=9.0, tilt_range_degrees=54.0
        ),
        specimen=SpecimenSettings(particles=30, thickness_angstrom=300.0, min_distance_px=24.0),
        errors=PlantedErrors(shift_px=1.5, angle_degrees=0.1, position_px=1.0),
        noise=NoiseSettings(pair_snr=60.0),
    )
    structure = build_structure(settings)
    tomogram = simulate_tomogram(settings, 0, structure)
    images = np.stack([tomogram.images.read(tilt) for tilt in range(len(tomogram.series))])
    return replace(tomogram.series, images=Stack(images)), tomogram.particles, structure.references


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (unchanged, ()),
        (inverted, (doubts.INVERTED,)),
        (mirrored, (doubts.MIRRORED, doubts.NO_DETAIL)),
        (one_map_twice, (doubts.SAME_HALVES,)),
        (unrelated, (doubts.UNRELATED_HALVES,)),
        (turned, (doubts.NO_DETAIL, doubts.NO_AGREEMENT)),
    ],
)
def test_a_wrong_premise_is_named(
    simulated: tuple[TiltSeries, Particles, References], change: Change, expected: tuple[str, ...]
) -> None:
    series, particles, references = simulated
    references, particles = change(references, particles)
    settings = make_settings(48, 8)
    result = align_one(series, particles, pipeline.prepare(references, settings), settings)
    evidence = result.statistics.evidence
    assert evidence is not None
    if expected:
        assert set(evidence.doubts) & set(expected)
    else:
        assert not evidence.doubts
    weighed = verdict({series.name: evidence})
    assert weighed is not None and weighed.helped == (not expected)
