"""Turning positions back changes no image; a solution carries the rotation that it has information for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.transform import Rotation

from small_project import make_problem
from tomopolish.physics.geometry import (
    mean_rotation,
    project,
    relion5_projections,
    rotation_from_vector,
    rotation_vector,
)
from tomopolish.solve.gauge import choose_frame, position_information, remove_rotation
from tomopolish.solve.problem import evaluate
from tomopolish.solve.products import multiply_hessian
from tomopolish.solve.uncertainty import expected_curvature

turns = arrays.arrays(np.float64, 3, elements=st.floats(-0.4, 0.4))


def cloud(seed: int = 1, count: int = 12) -> np.ndarray:
    centre = np.array([200.0, 210.0, 100.0])
    return np.random.default_rng(seed).uniform(-150, 150, (count, 3)) + centre


@given(turn=turns, about=arrays.arrays(np.float64, 3, elements=st.floats(-100, 500)))
def test_removal_leaves_every_2d_position(turn: np.ndarray, about: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    M = relion5_projections(
        rng.uniform(-60, 60, (5, 3)), rng.normal(size=(5, 2)), (400, 380), (400, 420, 200)
    )
    W = Rotation.from_rotvec(turn).as_matrix()
    before = cloud()
    after = (before - 50) @ W.T + 50
    turned, positions = remove_rotation(M, after, W, about)
    np.testing.assert_allclose(project(turned, positions), project(M, after), atol=1e-8)
    np.testing.assert_allclose(positions - positions.mean(axis=0), before - before.mean(axis=0), atol=1e-9)
    R = turned[:, :3, :3]
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.broadcast_to(np.eye(3), R.shape), atol=1e-12)
    np.testing.assert_array_equal(turned[:, 3], np.broadcast_to([0, 0, 0, 1], (5, 4)))
    # the point turned about keeps its image
    np.testing.assert_allclose(project(turned, about[None]), project(M, about[None]), atol=1e-8)


@given(turn=turns)
def test_the_mean_of_rotations_turns_with_them(turn: np.ndarray) -> None:
    several = rotation_from_vector(np.random.default_rng(5).normal(size=(7, 3)) * 0.3)
    G = rotation_from_vector(turn)
    np.testing.assert_allclose(mean_rotation(several), Rotation.from_matrix(several).mean().as_matrix())
    np.testing.assert_allclose(mean_rotation(several @ G), mean_rotation(several) @ G, atol=1e-12)


def test_the_information_of_a_position_is_its_block_of_the_curvature() -> None:
    problem, windows = make_problem(np.random.default_rng(6), tilts=6, particles=4)
    problem = replace(problem, precision=np.zeros(problem.layout.size))
    zero = np.zeros(problem.layout.size)
    curvature = expected_curvature(problem, zero, windows.power)
    information = position_information(curvature, windows.visible)
    for particle in range(4):
        for axis in range(3):
            unit = problem.layout.unpack(zero.copy())
            unit.positions_px[particle, axis] = 1
            product = multiply_hessian(problem, curvature.state, problem.layout.pack(unit))
            np.testing.assert_allclose(
                information[particle, axis] * curvature.dispersion,
                problem.layout.unpack(product).positions_px[particle],
                atol=1e-9 * np.abs(information).max(),
            )


def test_few_particles_leave_the_projections_net_rotation_as_it_was() -> None:
    problem, windows = make_problem(np.random.default_rng(7), tilts=9, particles=3)
    vector = problem.layout.fill(
        angles=np.deg2rad([0.7, -0.4, 0.5]) + np.random.default_rng(8).normal(size=(9, 3)) * 0.01,
        positions_px=np.random.default_rng(9).normal(size=(3, 3)),
    )
    moved = problem.layout.unpack(vector).positions_px
    curvature = expected_curvature(problem, vector, windows.power)
    frame = choose_frame(problem, vector, curvature, moved, windows.power)
    assert frame is not None
    R0 = problem.projections_px[:, :3, :3]
    R = evaluate(problem, vector).rotations @ frame.rotation
    net = rotation_vector(mean_rotation(np.swapaxes(R0, 1, 2) @ R))
    assert np.rad2deg(np.linalg.norm(net)) < 0.02
    assert np.abs(frame.positions_share).max() < 0.02


@pytest.mark.parametrize("fixed", ["angles", "positions_px"])
def test_where_angles_or_positions_are_fixed_nothing_may_turn(fixed: str) -> None:
    problem, windows = make_problem(np.random.default_rng(10))
    free = problem.free.copy()
    getattr(problem.layout.unpack(free), fixed)[:] = False
    problem = replace(problem, free=free)
    vector = np.zeros(problem.layout.size)
    curvature = expected_curvature(problem, vector, windows.power)
    moved = problem.layout.unpack(vector).positions_px
    assert choose_frame(problem, vector, curvature, moved, windows.power) is None
