"""Maps from moving particles, warped images and symmetric groups; maps of the reference data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from scipy.ndimage import affine_transform

from relion_runs import open_project, open_result, solve_windows
from small_project import make_settings, reconstruct
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.project import Dataset
from tomopolish.imaging.fsc import ShellCorrelation, shell_correlation
from tomopolish.physics.symmetry import point_group
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
    simulate_tomogram,
)
from tomopolish.simulate.structure import build_structure

SIZE = 32
BOX = 48
LAST_SHELL = 8


def simulated(**changes: object) -> tuple[TiltSeries, Particles, np.ndarray]:
    """A series and particles that state the true geometry, and the planted map."""
    settings = SimulationSettings(
        seed=6,
        molecule=MoleculeSettings(box_px=SIZE, blobs=40),
        acquisition=AcquisitionSettings(
            image_size_px=(300, 300), tilt_step_degrees=10.0, pixel_size_angstrom=4.0
        ),
        specimen=SpecimenSettings(particles=20, thickness_angstrom=300.0),
        noise=NoiseSettings(pair_snr=200.0),
        **changes,  # type: ignore[arg-type]
    )
    structure = build_structure(settings)
    tomogram = simulate_tomogram(settings, 0, structure)
    truth = tomogram.truth
    series = replace(
        tomogram.series,
        images=tomogram.images,
        projections_px=truth.projections_px,
        deformation=truth.deformation,
    )
    particles = replace(
        tomogram.particles, positions_px=truth.positions_px, trajectories_px=truth.trajectories_px
    )
    return series, particles, structure.density


def low_passed(volume: np.ndarray, last: int = LAST_SHELL) -> np.ndarray:
    transform = scipy.fft.fftn(volume)
    k = np.fft.fftfreq(len(volume), 1 / len(volume))
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    return scipy.fft.ifftn(transform * ((radius <= last) & (radius >= 2))).real


def likeness(volume: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(low_passed(volume).ravel(), low_passed(other).ravel())[0, 1])


def angular_likeness(volume: np.ndarray, other: np.ndarray, last: int = LAST_SHELL) -> float:
    """Likeness inside the sphere of what is not the same in all directions."""
    axis = np.arange(SIZE) - SIZE // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    shell = np.rint(radius).astype(int)
    inside = radius < SIZE // 2 - 2
    parts = []
    for one in (volume, other):
        smooth = low_passed(one, last)
        mean = np.bincount(shell.ravel(), smooth.ravel()) / np.bincount(shell.ravel())
        parts.append((smooth - mean[shell])[inside])
    return float(np.corrcoef(*parts)[0, 1])


def test_trajectories_are_followed() -> None:
    motion = PlantedMotion(velocity_scale=1.0, distance_scale=300.0)
    series, particles, density = simulated(motion=motion)
    still = replace(particles, trajectories_px=None)
    followed, ignored = (
        likeness(reconstruct([(series, p)], BOX, point_group("C1")).merged_map(SIZE), density)
        for p in (particles, still)
    )
    assert followed > 0.9
    assert followed > ignored + 0.05


def test_warps_are_undone() -> None:
    series, particles, density = simulated(warp=PlantedWarp(model="Fourier", amplitude_px=3.0))
    flat = replace(series, deformation=None)
    undone, ignored = (
        likeness(reconstruct([(s, particles)], BOX, point_group("C1")).merged_map(SIZE), density)
        for s in (series, flat)
    )
    assert undone > 0.9
    assert undone > ignored + 0.05


@pytest.fixture(scope="module")
def few() -> tuple[TiltSeries, Particles, np.ndarray]:
    """Twelve particles: back-projection takes as many times longer as a group has rotations."""
    series, particles, density = simulated()
    chosen = np.arange(12)
    fewer = replace(
        particles,
        rows=particles.rows[chosen],
        names=tuple(particles.names[i] for i in chosen),
        positions_px=particles.positions_px[chosen],
        rotations=particles.rotations[chosen],
        half_set=particles.half_set[chosen],
        optics_group=particles.optics_group[chosen],
        trajectories_px=None,
    )
    return series, fewer, density


def turned(volume: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The volume turned by a rotation of (x, y, z) about voxel ⌊s/2⌋."""
    pull = rotation.T[::-1, ::-1]
    centre = np.full(3, len(volume) // 2)
    return affine_transform(volume, pull, centre - pull @ centre, order=3)


def averaged(density: np.ndarray, name: str) -> np.ndarray:
    """The planted map as a group makes it."""
    return np.mean([turned(low_passed(density), rotation) for rotation in point_group(name)], axis=0)


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("C3", ("C2",)),
        ("D2", ("C2", "T")),
        ("T", ("D2", "O")),
        ("O", ("T",)),
        ("I1", ("I2", "T")),
        ("I2", ("I1", "T")),
    ],
)
def test_a_group_makes_the_map_the_mean_of_all_turned_ones(few, name: str, others: tuple[str, ...]) -> None:
    series, particles, density = few
    group = point_group(name)
    found = reconstruct([(series, particles)], BOX, group).merged_map(SIZE)
    fit = angular_likeness(found, averaged(density, name))
    assert fit > 0.75  # an icosahedral map has little that is not the same in all directions
    assert all(angular_likeness(found, averaged(density, other)) < fit - 0.05 for other in others)
    turns = [rotation for rotation in group if not np.allclose(rotation, np.eye(3))]
    for rotation in turns[:3]:
        assert angular_likeness(found, turned(found, rotation)) > 0.95
        assert angular_likeness(density, turned(density, rotation)) < 0.6


def compared(dataset: Dataset, box: int) -> tuple[ShellCorrelation, float]:
    """FSC of a data set's half maps, and the slope of their mean against the references'."""
    references = dataset.references()
    size, mask = references.size_px, references.mask
    found = reconstruct(map(dataset.load, dataset.tomogram_names), box, point_group("C1"), threads=2)
    merged, reference = (
        low_passed(volume * mask, 12)
        for volume in (found.merged_map(size), references.half_maps.mean(axis=0))
    )
    slope = float(np.sum(merged * reference) / np.sum(reference**2))
    return shell_correlation(found.half_maps(size), mask), slope


def test_relions_refinement_sharpens_the_larger_data_set_as_it_is_known_to(golden: Path) -> None:
    before, _ = compared(open_project(golden), 96)
    after, slope = compared(open_result(golden, "static"), 96)
    pixel = open_project(golden).pixel_size_angstrom
    assert before.resolution_angstrom(pixel) == pytest.approx(26.2, abs=0.1)
    assert after.resolution_angstrom(pixel) == pytest.approx(9.93, abs=0.05)
    assert after.resolution_angstrom(pixel, 0.5) < 15 < before.resolution_angstrom(pixel, 0.5)
    # The images show the references at 0.89 of their intensity: so does their alignment.
    scale = solve_windows(
        golden, open_project(golden), "TS_01", None, make_settings(96, 8)
    ).result.statistics.intensity_scale
    assert slope == pytest.approx(scale, abs=0.08)


@pytest.mark.parametrize("run", ["motion", "deformation_Fourier"])
def test_relions_trajectories_and_warps_do_not_blur_the_map(golden: Path, run: str) -> None:
    pixel = open_project(golden).pixel_size_angstrom
    assert compared(open_result(golden, run), 96)[0].resolution_angstrom(pixel) < 10


def test_refinement_sharpens_the_small_data_set(mini: Path) -> None:
    pixel = open_project(mini).pixel_size_angstrom
    before, after = (compared(open_project(mini), 48)[0], compared(open_result(mini, "static"), 48)[0])
    assert after.resolution_angstrom(pixel) < 0.5 * before.resolution_angstrom(pixel)
