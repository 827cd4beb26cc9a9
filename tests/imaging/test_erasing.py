"""Gold beads are erased where they make boxes noisy, and what they hide is not missed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from small_project import make_settings
from tomopolish import pipeline
from tomopolish.dataset import model
from tomopolish.imaging.erasing import erase_objects
from tomopolish.progress import SilentProgress
from tomopolish.simulate.evaluate import evaluate_geometry
from tomopolish.simulate.geometry_errors import Geometry
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    DirtSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    simulate_tilt_series,
)

BOX = 32
NOWHERE = np.zeros((0, 2))


def sloping_noise(seed: int = 0) -> np.ndarray:
    """An image of noise whose background falls by four standard deviations from one corner to another."""
    y, x = np.mgrid[:150, :190]
    noise = np.random.default_rng(seed).normal(size=y.shape)
    return (100 + noise - 2 * (y / 150 + x / 190)).astype(np.float32)


def disc(y: int, x: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:150, :190]
    return np.hypot(rows - y, columns - x) <= radius


def test_a_bead_is_replaced_by_its_surroundings_and_nothing_else_changes() -> None:
    image, bead = sloping_noise(), disc(40, 120, 9)
    dirty = image - np.float32(6) * bead
    erased = erase_objects(dirty, BOX, NOWHERE)
    assert erased is not None
    result, where = erased
    assert where[disc(40, 120, 11)].all() and not where[~disc(40, 120, 19)].any()
    np.testing.assert_array_equal(result[~where], dirty[~where])
    y, x = np.nonzero(bead)
    np.testing.assert_allclose(result[bead], 100 - 2 * (y / 150 + x / 190), atol=0.5)


def test_beads_that_the_edge_cuts_are_erased() -> None:
    beads = disc(0, 60, 9) | disc(149, 189, 9)
    erased = erase_objects(sloping_noise() - np.float32(6) * beads, BOX, NOWHERE)
    assert erased is not None and erased[1][beads].all()


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_slopes_are_no_objects(seed: int) -> None:
    assert erase_objects(sloping_noise(seed), BOX, NOWHERE) is None


def test_objects_all_over_the_image_are_the_specimen() -> None:
    image = sloping_noise()
    for y in range(10, 150, 24):
        for x in range(10, 190, 24):
            image -= np.float32(6) * disc(y, x, 9)
    assert erase_objects(image, BOX, NOWHERE) is None


def test_particles_that_stand_out_of_the_noise_are_no_objects() -> None:
    places = np.array([[30, 30], [90, 40], [150, 100], [60, 110]])
    image = sloping_noise()
    for x, y in places:
        image -= np.float32(6) * disc(y, x, 5)
    assert erase_objects(image, BOX, NOWHERE) is not None
    assert erase_objects(image, BOX, places) is None
    bead = disc(100, 60, 9)
    erased = erase_objects(image - np.float32(20) * bead, BOX, places[:3])
    assert erased is not None and erased[1][bead].all() and not erased[1][30, 30]


def test_beads_do_not_draw_particles_away() -> None:
    """Beads that touch particles cost these some accuracy, but move none to a wrong place."""
    settings = SimulationSettings(
        seed=5,
        molecule=MoleculeSettings(box_px=BOX),
        acquisition=AcquisitionSettings(image_size_px=(400, 380), tilt_step_degrees=6.0),
        specimen=SpecimenSettings(particles=30, thickness_angstrom=300.0),
        errors=PlantedErrors(shift_px=1.0, angle_degrees=0.1, position_px=1.0),
        noise=NoiseSettings(pair_snr=20.0),
    )
    dirt = DirtSettings(beads=8, bead_diameter_angstrom=50.0)
    errors = []
    for simulation in (settings, replace(settings, dirt=dirt)):
        series, particles, references, truth = simulate_tilt_series(simulation)
        options = make_settings(BOX, 10)
        result = pipeline.align_tomogram(
            model.Tomogram(series=series, species=(particles,)),
            [pipeline.prepare(references, options)],
            options,
            SilentProgress(),
        )
        alignment = result.alignment
        geometry = Geometry(
            projections_px=alignment.projections_px,
            particles=np.arange(len(particles)),
            positions_px=alignment.positions_px,
        )
        errors.append(evaluate_geometry(truth, geometry, None).after.rms_2d_angstrom)
        assert alignment.scores is not None and alignment.scores.particles.probability.min() > 0.5
    clean, with_beads = errors
    assert with_beads < 1.3 * clean
