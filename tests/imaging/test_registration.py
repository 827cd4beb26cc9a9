"""Two maps of one structure are brought together to a small part of a pixel, whatever their noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import affine_transform

from small_project import smooth_noise
from tomopolish.imaging.fsc import shell_correlation
from tomopolish.imaging.registration import Registration, register
from tomopolish.physics.geometry import rotation_from_vector, rotation_vector

SIZE = 40


def registered(second: np.ndarray, found: Registration) -> np.ndarray:
    """Return a map at R x + t."""
    centre, matrix = np.full(3, second.shape[-1] // 2), found.rotation[::-1, ::-1]
    return affine_transform(second, matrix, centre + found.shift_px[::-1] - matrix @ centre)


def structure(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a map and a soft mask around it."""
    axis = np.arange(SIZE) - SIZE // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    mask = np.clip((15 - radius) / 4, 0, 1).astype(np.float32)
    density = smooth_noise(np.random.default_rng(seed), (SIZE,) * 3, 1.6) * mask
    return density.astype(np.float32), mask


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_a_planted_rotation_and_shift_are_found(noise: float) -> None:
    density, mask = structure(2)
    rng = np.random.default_rng(4)
    planted = Registration(
        rotation=rotation_from_vector(np.deg2rad([2.0, -1.5, 1.0])),
        shift_px=np.array([0.4, -0.7, 0.2]),
        moved_px=0.0,
    )
    pair = [density, registered(density, planted)]
    pair = [(m + noise * rng.standard_normal(m.shape)).astype(np.float32) for m in pair]
    fsc = shell_correlation(np.stack(pair), None)
    found = register(pair[0], pair[1], fsc, mask)
    # The second map is the first at R x + t, so that it must be sampled at the inverse.
    back = found.rotation @ planted.rotation
    off = planted.rotation @ found.shift_px + planted.shift_px
    assert np.rad2deg(np.linalg.norm(rotation_vector(back))) < 0.1 + 0.3 * noise
    assert np.abs(off).max() < 0.03 + 0.1 * noise
    expected = np.sqrt(np.deg2rad(2.7) ** 2 * 10**2 * 2 / 3 + 0.83**2)
    assert found.moved_px == pytest.approx(expected, rel=0.4)


def test_maps_in_place_stay_in_place() -> None:
    density, mask = structure(3)
    rng = np.random.default_rng(5)
    pair = np.stack([density + 0.3 * rng.standard_normal(density.shape) for _ in range(2)]).astype(np.float32)
    assert register(pair[0], pair[1], shell_correlation(pair, None), mask).moved_px < 0.1
