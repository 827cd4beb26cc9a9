"""Rotations and projections, against matrices written out from the definition.

See docs/dev/conventions.md, Geometry.
"""

from __future__ import annotations

from math import cos, radians, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.transform import Rotation

from tomopolish.physics.geometry import (
    cross_matrix,
    depth_px,
    euler_zyz,
    euler_zyz_angles,
    left_jacobian,
    project,
    project_trajectories,
    relion5_parameters,
    relion5_projections,
    rotation_from_vector,
    rotation_vector,
    rotation_x,
    rotation_y,
    rotation_z,
    tomogram_centre_px,
)

angles = st.floats(-180, 180)
vectors = arrays.arrays(np.float64, 3, elements=st.floats(-3, 3))


def explicit_euler(rot: float, tilt: float, psi: float) -> np.ndarray:
    """E(rot, tilt, psi), each of its nine elements."""
    ca, cb, cc = (cos(radians(v)) for v in (rot, tilt, psi))
    sa, sb, sc = (sin(radians(v)) for v in (rot, tilt, psi))
    return np.array(
        [
            [cc * cb * ca - sc * sa, cc * cb * sa + sc * ca, -cc * sb],
            [-sc * cb * ca - cc * sa, -sc * cb * sa + cc * ca, sc * sb],
            [sb * ca, sb * sa, cb],
        ]
    )


@given(rot=angles, tilt=angles, psi=angles)
def test_euler_matrix(rot: float, tilt: float, psi: float) -> None:
    np.testing.assert_allclose(euler_zyz(rot, tilt, psi), explicit_euler(rot, tilt, psi), atol=1e-14)


@pytest.mark.parametrize("tilt", [0.0, 37.0, 180.0])
def test_angles_of_euler_matrices_give_the_matrices_again(tilt: float) -> None:
    matrices = euler_zyz(np.array([12.0, -170.0]), np.array([tilt, tilt]), np.array([-80.0, 33.0]))
    angles = euler_zyz_angles(matrices)
    np.testing.assert_allclose(euler_zyz(*angles.T), matrices, atol=1e-12)
    if tilt == 37.0:
        np.testing.assert_allclose(angles, [[12, 37, -80], [-170, 37, 33]])


def test_euler_matrices_of_many_particles_keep_their_order() -> None:
    rot, tilt, psi = np.random.default_rng(1).uniform(-180, 180, (3, 5))
    expected = [explicit_euler(*each) for each in zip(rot, tilt, psi, strict=True)]
    np.testing.assert_allclose(euler_zyz(rot, tilt, psi), expected, atol=1e-14)


@pytest.mark.parametrize(
    ("rotation", "source", "target"),
    [
        (rotation_x, (0, 1, 0), (0, 0, 1)),
        (rotation_y, (0, 0, 1), (1, 0, 0)),
        (rotation_z, (1, 0, 0), (0, 1, 0)),
    ],
)
def test_axis_rotations_are_right_handed(rotation, source, target) -> None:  # type: ignore[no-untyped-def]
    np.testing.assert_allclose(rotation(90.0) @ np.array(source), target, atol=1e-15)
    R = rotation(np.array([30.0, -75.0]))
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-15)


def test_projection_is_the_product_that_the_definition_gives() -> None:
    w, h, W, H, D = 401, 300, 511, 420, 251
    x_tilt, y_tilt, z_rot, shift = 3.0, -41.0, 86.0, (12.5, -7.25)

    def translation(x: float, y: float, z: float) -> np.ndarray:
        T = np.eye(4)
        T[:3, 3] = x, y, z
        return T

    def turn(first: int, second: int, angle: float) -> np.ndarray:
        T = np.eye(4)
        T[first, first] = T[second, second] = cos(radians(angle))
        T[second, first], T[first, second] = sin(radians(angle)), -sin(radians(angle))
        return T

    expected = (
        translation(*shift, 0)
        @ translation(200, 150, 0)
        @ turn(0, 1, z_rot)
        @ turn(2, 0, y_tilt)
        @ turn(1, 2, x_tilt)
        @ translation(-255, -210, -125)
    )
    M = relion5_projections(np.array([[x_tilt, y_tilt, z_rot]]), np.array([shift]), (w, h), (W, H, D))
    np.testing.assert_allclose(M[0], expected, atol=1e-12)


sizes = st.integers(16, 600)


@given(
    tilts=st.lists(
        st.tuples(angles, st.floats(-89.99, 89.99), angles, st.floats(-900, 900), st.floats(-900, 900)),
        min_size=1,
        max_size=4,
    ),
    image=st.tuples(sizes, sizes),
    tomogram=st.tuples(sizes, sizes, sizes),
)
def test_projection_parameters_survive_a_round_trip(
    tilts: list[tuple[float, ...]], image: tuple[int, int], tomogram: tuple[int, int, int]
) -> None:
    values = np.array(tilts)
    M = relion5_projections(values[:, :3], values[:, 3:], image, tomogram)
    found_angles, found_shifts = relion5_parameters(M, image, tomogram)
    turns = (found_angles - values[:, :3] + 180) % 360 - 180
    np.testing.assert_allclose(turns, 0, atol=1e-6)
    np.testing.assert_allclose(found_shifts, values[:, 3:], atol=1e-9)


@given(x_tilt=angles, z_rot=angles, sign=st.sampled_from([-90.0, 90.0]))
def test_at_ninety_degrees_the_x_tilt_is_zero_and_the_projection_the_same(
    x_tilt: float, z_rot: float, sign: float
) -> None:
    size, tomogram, shift = (64, 50), (70, 80, 91), np.array([[3.0, -4.0]])
    M = relion5_projections(np.array([[x_tilt, sign, z_rot]]), shift, size, tomogram)
    found_angles, found_shifts = relion5_parameters(M, size, tomogram)
    assert found_angles[0, 0] == 0 and abs(found_angles[0, 1]) == pytest.approx(90, abs=1e-5)
    np.testing.assert_allclose(relion5_projections(found_angles, found_shifts, size, tomogram), M, atol=1e-5)


@given(vector=vectors)
def test_rotation_of_a_vector_is_scipys(vector: np.ndarray) -> None:
    expected = Rotation.from_rotvec(vector).as_matrix()
    np.testing.assert_allclose(rotation_from_vector(vector), expected, atol=1e-11)
    np.testing.assert_allclose(rotation_from_vector(vector * 1e-6), np.eye(3) + cross_matrix(vector * 1e-6),
                               atol=1e-10)  # fmt: skip


@given(vector=arrays.arrays(np.float64, (2, 3), elements=st.floats(-1.8, 1.8)))
def test_rotation_vectors_invert_rotations(vector: np.ndarray) -> None:
    np.testing.assert_allclose(rotation_vector(rotation_from_vector(vector)), vector, atol=1e-8)


def test_a_mirror_has_no_rotation_vector() -> None:
    with pytest.raises(ValueError, match="determinant"):
        rotation_vector(np.diag([1.0, 1.0, -1.0]))


@given(vector=vectors, scale=st.sampled_from([1.0, 1e-2, 1e-4, 0.0]))
def test_left_jacobian_by_finite_differences(vector: np.ndarray, scale: float) -> None:
    v = vector * scale
    R, J, step = rotation_from_vector(v), left_jacobian(v), 1e-5
    for axis in range(3):
        d = np.eye(3)[axis] * step
        change = (rotation_from_vector(v + d) - rotation_from_vector(v - d)) / (2 * step)
        np.testing.assert_allclose(change, cross_matrix(J[:, axis]) @ R, atol=1e-8)


@given(a=vectors, b=vectors)
def test_cross_matrix(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(cross_matrix(a) @ b, np.cross(a, b), atol=1e-12)


def test_points_are_projected_one_by_one() -> None:
    rng = np.random.default_rng(2)
    M = relion5_projections(rng.uniform(-60, 60, (3, 3)), rng.normal(size=(3, 2)), (90, 80), (70, 80, 31))
    points, tracks = rng.normal(size=(4, 3)) * 40, rng.normal(size=(3, 4, 3)) * 40
    q, moving = project(M, points), project_trajectories(M, tracks)
    depth = depth_px(M, points, (70, 80, 31))
    for f in range(3):
        for p in range(4):
            np.testing.assert_allclose(q[f, p], (M[f] @ [*points[p], 1])[:3], atol=1e-11)
            np.testing.assert_allclose(moving[f, p], (M[f] @ [*tracks[f, p], 1])[:3], atol=1e-11)
            # true halves, not the floored ones of the matrix: zero depth lies at the tomogram's centre
            expected = M[f] @ [*points[p], 1] - M[f] @ [35, 40, 15.5, 1]
            assert depth[f, p] == pytest.approx(expected[2], abs=1e-11)
    np.testing.assert_array_equal(tomogram_centre_px((70, 80, 31)), [35, 40, 15.5])
