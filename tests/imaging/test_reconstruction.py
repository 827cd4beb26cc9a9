"""Half maps from simulated tilt images: the planted map's shape and intensities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.fft

from small_project import reconstruct
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.errors import InputError
from tomopolish.imaging.fsc import shell_correlation
from tomopolish.physics.symmetry import point_group
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    SimulationSettings,
    SpecimenSettings,
    simulate_tomogram,
)
from tomopolish.simulate.structure import build_structure

SETTINGS = SimulationSettings(
    seed=4,
    molecule=MoleculeSettings(box_px=48, blobs=60),
    acquisition=AcquisitionSettings(image_size_px=(360, 360), tilt_step_degrees=6.0, pixel_size_angstrom=4.0),
    specimen=SpecimenSettings(particles=40, thickness_angstrom=600.0),
)
BOX = 64


@pytest.fixture(scope="module")
def scene() -> tuple[TiltSeries, TiltSeries, Particles, np.ndarray]:
    """Series with the input geometry, the same with the true one, true particles, planted map."""
    structure = build_structure(SETTINGS)
    tomogram = simulate_tomogram(SETTINGS, 0, structure)
    truth = tomogram.truth
    particles = replace(tomogram.particles, positions_px=truth.positions_px)
    images = replace(tomogram.series, images=tomogram.images)
    exact = replace(images, projections_px=truth.projections_px, deformation=truth.deformation)
    return images, exact, replace(particles, trajectories_px=truth.trajectories_px), structure.density


def _low_passed(volume: np.ndarray, last: int) -> np.ndarray:
    """Shells 2 … `last`: lower ones hold what the images' backgrounds cost."""
    transform = scipy.fft.fftn(volume)
    k = np.fft.fftfreq(len(volume), 1 / len(volume))
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    return scipy.fft.ifftn(transform * ((radius <= last) & (radius >= 2))).real


def test_planted_map_comes_back_with_its_intensities(scene) -> None:
    _, exact, particles, density = scene
    found = reconstruct([(exact, particles)], BOX, point_group("C1"), threads=2)
    merged = _low_passed(found.merged_map(48), 12)
    planted = _low_passed(density, 12)
    slope = np.sum(merged * planted) / np.sum(planted**2)
    correlation = np.corrcoef(merged.ravel(), planted.ravel())[0, 1]
    # Intensities belong to a box: those of unitary transforms grow with the root of its edge
    # (docs/dev/conventions.md).
    assert slope / np.sqrt(BOX / SETTINGS.molecule.box_px) == pytest.approx(1, abs=0.05)
    assert correlation > 0.8


def test_wrong_geometry_costs_resolution(scene) -> None:
    images, exact, particles, density = scene
    mean = []
    for series in (images, exact):
        maps = reconstruct([(series, particles)], BOX, point_group("C1")).half_maps(48)
        mean.append(shell_correlation(np.stack([maps.mean(axis=0), density]), None).corrected[4:14].mean())
    assert mean[1] > mean[0] + 0.02


def test_threads_do_not_change_the_maps(scene) -> None:
    _, exact, particles, _ = scene
    one, two = (
        reconstruct([(exact, particles)], BOX, point_group("C2"), threads=n).half_maps(48) for n in (1, 3)
    )
    np.testing.assert_array_equal(one, two)


def test_symmetry_is_imposed(scene) -> None:
    _, exact, particles, _ = scene
    volume = reconstruct([(exact, particles)], BOX, point_group("C2")).half_maps()[0][1:, 1:, 1:]
    np.testing.assert_allclose(volume, volume[:, ::-1, ::-1], atol=0.01 * np.abs(volume).max())


@pytest.mark.parametrize(
    ("name", "order"),
    [("C1", 1), ("c7", 7), ("D2", 4), ("D5", 10), ("T", 12), ("O", 24), ("I", 60), ("I2", 60)],
)
def test_point_groups_are_groups_of_rotations(name: str, order: int) -> None:
    rotations = point_group(name)
    assert len(rotations) == order
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    products = np.einsum("aij,bjk->abik", rotations, rotations).reshape(-1, 1, 3, 3)
    assert np.abs(products - rotations).max(axis=(2, 3)).min(axis=1).max() < 1e-6


def test_unknown_group_is_refused() -> None:
    with pytest.raises(InputError, match="--sym Q5"):
        point_group("Q5")


def test_mask_alone_gives_no_correlation() -> None:
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((2, 32, 32, 32)).astype(np.float32)
    grid = np.indices((32, 32, 32)) - 16
    mask = np.clip(6 - np.sqrt((grid**2).sum(axis=0)), 0, 1).astype(np.float32)
    common = noise + 30 * np.exp(-(grid**2).sum(axis=0) / 8).astype(np.float32)
    fsc = shell_correlation(common, mask)
    assert fsc.masked[2] > 0.9
    assert abs(fsc.corrected[8:].mean()) < 0.15
