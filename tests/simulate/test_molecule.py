"""The synthetic molecule and slices of its map, against each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomopolish.simulate.kernels import particle_plane
from tomopolish.simulate.molecule import synthesise_molecule
from tomopolish.simulate.slices import slice_volume

BOX = 48


def _slice(volume, view: np.ndarray, box: int) -> np.ndarray:
    """A central slice without any optics: half plane, origin of the projection at pixel (0, 0)."""
    plane = np.empty((box, box), dtype=np.complex64)
    particle_plane(
        volume.grid.view(np.float32),
        volume.zero,
        volume.zero_x,
        np.ascontiguousarray(view[:2]) * (volume.padded_px / box),
        np.zeros(2),
        0.0,
        box / 2,
        8,
        plane,
    )
    return plane[:, : box // 2 + 1]


@pytest.mark.parametrize(("seed", "diameter"), [(0, 0.6), (1, 0.6), (2, 0.85)])
def test_slices_of_the_map_agree_with_the_analytic_transform(seed: int, diameter: float) -> None:
    molecule = synthesise_molecule(seed=seed, diameter_px=diameter * BOX, blobs=150)
    volume = slice_volume(molecule.density_map(BOX), 1.0)
    box = 80
    ky, kx = np.meshgrid(np.fft.fftfreq(box), np.fft.rfftfreq(box), indexing="ij")
    radius = np.hypot(kx, ky)
    for view in Rotation.random(3, random_state=seed).as_matrix():
        expected = molecule.transform(kx[..., None] * view[0] + ky[..., None] * view[1])
        error = np.abs(_slice(volume, view, box) - expected) ** 2
        for low in (0.0, 0.1, 0.2, 0.3):
            shell = (radius >= low) & (radius < low + 0.1)
            assert np.sqrt(error[shell].sum() / (np.abs(expected[shell]) ** 2).sum()) < 0.01


def test_map_holds_the_transform_with_its_origin_at_the_centre_voxel() -> None:
    molecule = synthesise_molecule(seed=3, diameter_px=28.0, blobs=60)
    density = molecule.density_map(BOX)
    spectrum = np.fft.fftn(np.fft.ifftshift(density.astype(np.float64)))
    for x, y, z in [(0, 0, 0), (5, 0, 0), (0, -3, 0), (0, 0, 7), (4, -6, 2)]:
        expected = molecule.transform(np.array([x, y, z]) / BOX)
        np.testing.assert_allclose(spectrum[z, y, x], expected, atol=1e-4 * molecule.weights.sum())


def test_every_seed_gives_another_molecule_of_the_diameter() -> None:
    first, again, other = (synthesise_molecule(seed=s, diameter_px=50.0) for s in (4, 4, 5))
    np.testing.assert_array_equal(first.centres_px, again.centres_px)
    assert not np.allclose(first.centres_px, other.centres_px)
    for molecule in (first, other):
        reach = np.linalg.norm(molecule.centres_px, axis=1) + 2 * molecule.sigmas_px
        assert np.isclose(reach.max(), 25)
        np.testing.assert_allclose(molecule.weights @ molecule.centres_px, 0, atol=1e-9)


def test_molecule_looks_different_from_every_side() -> None:
    molecule = synthesise_molecule(seed=6, diameter_px=30.0)
    k = np.random.default_rng(0).normal(size=(500, 3))
    k *= 0.1 / np.linalg.norm(k, axis=1, keepdims=True)  # details of a third of the molecule
    own = molecule.transform(k)
    turns = [np.diag(d) for d in ([1, -1, -1], [-1, 1, -1], [-1, -1, 1])]
    others = Rotation.random(60, random_state=1)
    turns += list(others[others.magnitude() > np.pi / 3].as_matrix())
    for turn in turns:
        turned = molecule.transform(k @ turn)
        assert np.real(np.vdot(own, turned)) < 0.75 * np.real(np.vdot(own, own))
