"""Windows that test the premises, of several species together."""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.held_out import CheckWindows, join_checks


def checks(rng: np.random.Generator, particles: list[int]) -> CheckWindows:
    count = len(particles)
    return CheckWindows(
        tilts=np.arange(count),
        particles=np.array(particles),
        values=rng.normal(size=(7, count, 5, 5)).astype(np.float32),
        power=rng.random((7, count)),
    )


def test_checks_of_species_are_joined_in_the_order_of_all_particles() -> None:
    rng = np.random.default_rng(0)
    first, third = checks(rng, [0, 4]), checks(rng, [2, 3, 5])
    joined = join_checks([first, None, third], [6, 10, 8])
    assert joined is not None
    assert joined.particles.tolist() == [0, 4, 16 + 2, 16 + 3, 16 + 5]
    assert joined.tilts.tolist() == [0, 1, 0, 1, 2]
    np.testing.assert_array_equal(joined.values[:, 2:], third.values)
    np.testing.assert_array_equal(joined.power[:, :2], first.power)
    assert join_checks([None, None], [6, 10]) is None
