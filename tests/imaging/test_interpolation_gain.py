"""The strength of predictions whose frequencies are interpolated, against projections of turned maps."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
from scipy.ndimage import map_coordinates

from tomopolish.dataset.model import References
from tomopolish.imaging.reference import ReferenceTransform, interpolation_gain, prepare_half_maps
from tomopolish.physics.geometry import rotation_from_vector

SIZE, LAST = 64, 12


def atoms(radius: float) -> np.ndarray:
    rng = np.random.default_rng(3)
    places = rng.normal(size=(40, 3))
    places *= (radius * rng.uniform(size=(40, 1)) ** (1 / 3)) / np.linalg.norm(places, axis=1, keepdims=True)
    return places


def density(places: np.ndarray, size: int) -> np.ndarray:
    grid = np.moveaxis(np.indices((size,) * 3) - size // 2, 0, -1)[..., ::-1]
    total = np.zeros((size,) * 3)
    for number, place in enumerate(places):
        atom = np.exp(-np.sum((grid - place) ** 2, axis=-1) / (2 * 1.5**2))
        total += (-1) ** number * atom  # a mean of zero: the references' is taken out of them
    return total


def references(radius: float, noise: float = 0.0, mask: bool = False) -> References:
    structure, rng = density(atoms(radius), SIZE), np.random.default_rng(4)
    maps = structure + noise * rng.normal(size=(2, *structure.shape))
    grid = np.indices((SIZE,) * 3) - SIZE // 2
    inside = (np.sum(grid**2, axis=0) <= (radius + 4) ** 2).astype(np.float32)
    return References(
        half_maps=maps.astype(np.float32), pixel_size_angstrom=1.0, mask=inside if mask else None
    )


def slice_of(transform: ReferenceTransform, rotation: np.ndarray) -> np.ndarray:
    """Return a central slice (ky, kx) up to a frequency, by trilinear interpolation of the stored half."""
    frequencies = np.arange(-LAST, LAST + 1)
    ky, kx = np.meshgrid(frequencies, frequencies, indexing="ij")
    places = np.stack([kx, ky, np.zeros_like(kx)], axis=-1) @ rotation
    mirrored = places[..., 0] < 0
    places = np.where(mirrored[..., None], -places, places)
    x, y, z = np.moveaxis(places, -1, 0)
    where = np.stack([z + transform.reach, y + transform.reach, x])
    first = transform.values[0]
    found: np.ndarray = map_coordinates(first.real, where, order=1) + 1j * map_coordinates(
        first.imag, where, order=1
    )
    return np.where(mirrored, found.conj(), found)


@pytest.mark.parametrize(("radius", "box"), [(10.0, 64), (18.0, 64), (18.0, 80)])
def test_times_it_predictions_are_as_strong_as_projections(radius: float, box: int) -> None:
    still = references(radius)
    transform = prepare_half_maps(still, box, box / 2)
    frequencies = np.arange(-LAST, LAST + 1)
    matched = power = 0.0
    for axis in np.random.default_rng(5).normal(size=(12, 3)):
        rotation = rotation_from_vector(axis)
        turned = density(atoms(radius) @ rotation.T, box).sum(axis=0)
        image = scipy.fft.fft2(scipy.fft.ifftshift(turned), norm="ortho") / np.sqrt(box)
        exact = image[frequencies[:, None], frequencies]
        sliced = slice_of(transform, rotation)
        matched += float(np.vdot(sliced, exact).real)
        power += float(np.vdot(sliced, sliced).real)
    gain = interpolation_gain(still, box)
    assert 1.015 < gain < 1.04
    assert gain == pytest.approx(matched / power, abs=0.009)


def test_noise_outside_the_structure_hardly_changes_it() -> None:
    assert interpolation_gain(references(8.0, 0.3, True), SIZE) == pytest.approx(
        interpolation_gain(references(8.0), SIZE), abs=0.002
    )
    (first, _) = references(8.0).half_maps
    opposite = References(half_maps=np.stack([first, -first]), pixel_size_angstrom=1.0)
    assert interpolation_gain(opposite, SIZE) == 1.0
