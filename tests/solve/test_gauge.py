"""Net rotation of refined positions: found, and removed without moving anything in the images (spec §6)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.transform import Rotation

from tomopolish.physics.geometry import project, relion5_projections
from tomopolish.solve.gauge import net_rotation, remove_rotation

turns = arrays.arrays(np.float64, 3, elements=st.floats(-0.4, 0.4))


def cloud(seed: int = 1, count: int = 12) -> np.ndarray:
    centre = np.array([200.0, 210.0, 100.0])
    return np.random.default_rng(seed).uniform(-150, 150, (count, 3)) + centre


@given(turn=turns, shift=arrays.arrays(np.float64, 3, elements=st.floats(-50, 50)))
def test_a_planted_rotation_is_found_whatever_the_translation(turn: np.ndarray, shift: np.ndarray) -> None:
    W = Rotation.from_rotvec(turn).as_matrix()
    before = cloud()
    after = (before - before.mean(axis=0)) @ W.T + before.mean(axis=0) + shift
    np.testing.assert_allclose(net_rotation(after, before), W, atol=1e-9)


def test_it_is_the_least_squares_rotation() -> None:
    rng = np.random.default_rng(2)
    before = cloud()
    after = (
        before @ Rotation.from_rotvec([0.05, -0.02, 0.03]).as_matrix().T + rng.normal(size=before.shape) * 4
    )
    best, _ = Rotation.align_vectors(after - after.mean(axis=0), before - before.mean(axis=0))
    np.testing.assert_allclose(net_rotation(after, before), best.as_matrix(), atol=1e-7)


@given(turn=turns, about=arrays.arrays(np.float64, 3, elements=st.floats(-100, 500)))
def test_removal_leaves_every_2d_position_and_no_rotation(turn: np.ndarray, about: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    M = relion5_projections(
        rng.uniform(-60, 60, (5, 3)), rng.normal(size=(5, 2)), (400, 380), (400, 420, 200)
    )
    before = cloud()
    after = (before - 50) @ Rotation.from_rotvec(turn).as_matrix().T + 50
    turned, positions = remove_rotation(M, after, net_rotation(after, before), about)
    np.testing.assert_allclose(project(turned, positions), project(M, after), atol=1e-8)
    np.testing.assert_allclose(net_rotation(positions, before), np.eye(3), atol=1e-9)
    R = turned[:, :3, :3]
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.broadcast_to(np.eye(3), R.shape), atol=1e-12)
    np.testing.assert_array_equal(turned[:, 3], np.broadcast_to([0, 0, 0, 1], (5, 4)))
    # the point turned about keeps its image
    np.testing.assert_allclose(project(turned, about[None]), project(M, about[None]), atol=1e-8)


def test_collinear_particles_show_no_rotation_about_their_line() -> None:
    line = np.linspace(-100, 100, 7)[:, None] * np.array([1.0, 0, 0]) + [10, 20, 30]
    np.testing.assert_allclose(net_rotation(line, line), np.eye(3), atol=1e-12)
    W = Rotation.from_rotvec([0, 0.1, 0]).as_matrix()
    found = net_rotation(line @ W.T, line)
    np.testing.assert_allclose(found, W, atol=1e-9)
    assert abs(Rotation.from_matrix(found).as_rotvec()[0]) < 1e-9


def test_two_particles_and_coincident_ones() -> None:
    pair = np.array([[0.0, 0, 0], [80.0, 0, 0]])
    np.testing.assert_allclose(net_rotation(pair + 3, pair), np.eye(3), atol=1e-12)
    same = np.zeros((3, 3))
    np.testing.assert_array_equal(net_rotation(same + 1, same), np.eye(3))
