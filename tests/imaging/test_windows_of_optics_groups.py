"""Any number of optics groups in a tomogram: what is computed of each particle has its own group's optics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_micrograph import predict
from test_windows_by_definition import BOX, REACH, scene

from small_project import compute_windows, make_settings, reconstruct
from tomopolish.dataset.model import OpticsGroup, Particles
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.physics.symmetry import point_group

SETTINGS = make_settings(BOX, REACH)
EVEN, ODD = (0.4, -3.0, 0.9, 7.0, 0.0, -2.0), (-2.0, 5.0, 30.0)
ABERRATIONS = {"none": ((), ()), "even": (EVEN, ()), "odd": ((), ODD), "even and odd": (EVEN, ODD)}


def groups_of(*kinds: str) -> tuple[OpticsGroup, ...]:
    return tuple(
        OpticsGroup(name=f"{i} {kind}", even_zernike=ABERRATIONS[kind][0], odd_zernike=ABERRATIONS[kind][1])
        for i, kind in enumerate(kinds)
    )


def in_groups(particles: Particles, index: np.ndarray, groups: tuple[OpticsGroup, ...]) -> Particles:
    return replace(particles, optics_group=index, optics_groups=groups)


@pytest.mark.parametrize("kind", ABERRATIONS)
@pytest.mark.parametrize("count", [2, 11])
def test_groups_with_equal_optics_are_as_good_as_one(kind: str, count: int) -> None:
    series, particles, references = scene(21)
    index = np.array([0, count - 1, 1, 0, count - 1, 1])
    one = in_groups(particles, np.zeros(6, dtype=np.int64), groups_of(kind))
    several = in_groups(particles, index, groups_of(*[kind] * count))
    expected, found = (compute_windows(series, p, references, SETTINGS) for p in (one, several))
    np.testing.assert_array_equal(found.values, expected.values)
    np.testing.assert_array_equal(found.power, expected.power)
    np.testing.assert_array_equal(*(predict(series, p, references, 1) for p in (several, one)))
    maps = [reconstruct([(series, p)], BOX, point_group("C1")).half_maps() for p in (several, one)]
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    "kinds", [("none", "even"), ("odd", "none"), ("even", "odd"), ("none", "even", "odd", "even and odd")]
)
def test_each_particle_has_the_optics_of_its_group(kinds: tuple[str, ...]) -> None:
    series, particles, references = scene(22)
    index = np.arange(6) % len(kinds)
    together = in_groups(particles, index, groups_of(*kinds))
    found = compute_windows(series, together, references, SETTINGS)
    micrograph, alone = predict(series, together, references, 0), []
    maps = reconstruct([(series, together)], BOX, point_group("C1")).totals
    summed = np.zeros_like(maps)
    for number, kind in enumerate(kinds):
        same = in_groups(particles, np.zeros(6, dtype=np.int64), groups_of(kind))
        expected = compute_windows(series, same, references, SETTINGS)
        mine = index == number
        np.testing.assert_array_equal(found.values[:, mine], expected.values[:, mine])
        np.testing.assert_array_equal(found.power[:, mine], expected.power[:, mine])
        others = Particles(
            rows=particles.rows[mine],
            names=tuple(name for name, chosen in zip(particles.names, mine, strict=True) if chosen),
            positions_px=particles.positions_px[mine],
            rotations=particles.rotations[mine],
            half_set=particles.half_set[mine],
            optics_group=np.zeros(mine.sum(), dtype=np.int64),
            optics_groups=groups_of(kind),
        )
        alone.append(predict(series, others, references, 0))
        summed += reconstruct([(series, others)], BOX, point_group("C1")).totals
    np.testing.assert_allclose(micrograph, sum(alone), atol=1e-5 * np.abs(micrograph).max())
    both = [totals.sum(axis=1) for totals in (maps, summed)]
    np.testing.assert_allclose(*both, atol=1e-5 * np.abs(both[1]).max())
    different = compute_windows(
        series, in_groups(particles, np.roll(index, 1), groups_of(*kinds)), references, SETTINGS
    )
    assert np.abs(different.values - found.values).max() > 0.01 * np.abs(found.values).max()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("kind", ABERRATIONS)
def test_what_kernels_get_is_laid_out_alike_for_any_number_of_groups(kind: str, count: int) -> None:
    series, _, _ = scene(23)
    shared = tilt_frequencies(series, 0, np.ones((BOX, BOX // 2 + 1)), groups_of(*[kind] * count), 0.02)
    assert shared.phase.flags.c_contiguous and shared.odd.flags.c_contiguous
    assert shared.phase.shape == (count, *shared.weight.shape)
    assert shared.odd.shape[0] == count
    assert shared.odd.shape[3] == (shared.phase.shape[3] if "odd" in kind else 0)
