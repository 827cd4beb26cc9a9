"""The net rotation of positions: found with its uncertainty, believed where it is significant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.transform import Rotation

from tomopolish.physics.geometry import rotation_from_vector
from tomopolish.solve.net_rotation import (
    SuggestedRotation,
    choose_net_rotation,
    expected_rotation,
    suggested_rotation,
)

SLAB = np.array([400.0, 380.0, 90.0])


def positions(rng: np.random.Generator, count: int, size: np.ndarray = SLAB) -> np.ndarray:
    return (rng.random((count, 3)) - 0.5) * size + [210, 190, 70]


def refined(
    rng: np.random.Generator, before: np.ndarray, turn_degrees: np.ndarray, errors_px: np.ndarray
) -> np.ndarray:
    """Input positions turned and shifted; their errors are the input's."""
    centre = before.mean(axis=0)
    true = before + rng.normal(size=before.shape) * errors_px
    return (true - centre) @ rotation_from_vector(np.deg2rad(turn_degrees)).T + centre + [2, -1, 3]


def fitted(after: np.ndarray, before: np.ndarray, variance_px2: float = 0.01) -> SuggestedRotation:
    covariances = np.broadcast_to(np.eye(3) * variance_px2, (len(before), 3, 3))
    return suggested_rotation(after, before, covariances, np.ones(len(before)))


def chosen_degrees(after: np.ndarray, before: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    covariances = np.broadcast_to(np.eye(3) * 0.04, (len(before), 3, 3))
    weights = np.ones(len(before)) if weights is None else weights
    return np.rad2deg(choose_net_rotation(after, before, covariances, weights).vector)


@given(
    turn=arrays.arrays(np.float64, 3, elements=st.floats(-0.4, 0.4)),
    shift=arrays.arrays(np.float64, 3, elements=st.floats(-50, 50)),
)
@settings(max_examples=30)
def test_an_exact_rotation_is_found_whatever_the_translation(turn: np.ndarray, shift: np.ndarray) -> None:
    before = positions(np.random.default_rng(1), 12)
    after = (before - 30) @ rotation_from_vector(turn).T + 30 + shift
    np.testing.assert_allclose(fitted(after, before).vector, turn, atol=2e-3 * np.abs(turn).max() + 1e-9)


@pytest.mark.parametrize("errors_px", [np.array([1.5, 1.5, 1.5]), np.array([1.0, 1.0, 4.0])])
@pytest.mark.parametrize("count", [12, 60])
def test_its_covariance_is_that_of_repeated_fits(count: int, errors_px: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    turn = np.array([0.4, -0.8, 0.6])
    squares, axes = [], []
    for _ in range(40):
        before = positions(rng, count)
        found = fitted(refined(rng, before, turn, errors_px), before)
        off = found.vector - np.deg2rad(turn)
        squares.append(off @ found.information @ off * found.freedom / found.misfit)
        axes.append(off**2 * np.diag(found.information))
    # three degrees of freedom; few particles know badly how their errors spread over the axes
    assert 2.1 < np.mean(squares) < (4.2 if count > 12 else 6.0)
    assert (np.mean(axes, axis=0) < 2.5).all(), np.mean(axes, axis=0)


def test_outliers_turn_little() -> None:
    rng = np.random.default_rng(3)
    robust, plain = [], []
    for _ in range(10):
        before = positions(rng, 40)
        after = refined(rng, before, np.zeros(3), np.full(3, 1.0))
        after[:8] += rng.uniform(-14, 14, (8, 3))
        robust.append(fitted(after, before).vector)
        centred = after - after.mean(axis=0), before - before.mean(axis=0)
        plain.append(Rotation.align_vectors(*centred)[0].as_rotvec())
    assert np.std(robust) < 0.6 * np.std(plain)
    assert np.rad2deg(np.std(robust)) < 0.13


@pytest.mark.parametrize("count", [2, 3, 5, 14, 100])
def test_what_noise_suggests_stays_with_the_projections(count: int) -> None:
    rng = np.random.default_rng(4)
    lengths = []
    for _ in range(12):
        before = positions(rng, count)
        lengths.append(
            np.linalg.norm(chosen_degrees(refined(rng, before, np.zeros(3), np.full(3, 2.0)), before))
        )
    assert np.max(lengths) < 0.05


@pytest.mark.parametrize(("count", "limit"), [(14, 1.2), (30, 0.6), (200, 0.2)])
@pytest.mark.parametrize("turn", [[0, 0, 1.5], [2.0, 0, 0], [1.4, 1.4, 0]])
def test_a_significant_rotation_is_taken_out(count: int, limit: float, turn: list[float]) -> None:
    rng = np.random.default_rng(5)
    for _ in range(3):
        before = positions(rng, count)
        after = refined(rng, before, np.array(turn), np.full(3, 1.2))
        assert np.linalg.norm(chosen_degrees(after, before) - turn) < limit


def test_a_rotation_is_judged_axis_by_axis() -> None:
    """Heights known ten times worse than the rest say little about rotations that tilt a thin slab."""
    rng = np.random.default_rng(6)
    before = positions(rng, 40, np.array([400.0, 400.0, 1.0]))
    after = refined(rng, before, np.array([0.0, 0.0, 1.2]), np.array([0.8, 0.8, 8.0]))
    suggested = np.rad2deg(fitted(after, before).vector)
    chosen = chosen_degrees(after, before)
    assert np.abs(suggested[:2]).max() > 0.1
    assert np.abs(chosen[:2]).max() < 0.6 * np.abs(suggested[:2]).max()
    assert chosen[2] == pytest.approx(1.2, abs=0.15)


def test_collinear_particles_suggest_no_rotation_about_their_line() -> None:
    rng = np.random.default_rng(7)
    line = np.linspace(-200, 200, 40)[:, None] * np.array([1.0, 0, 0]) + [10, 20, 30]
    turn = np.array([3.0, 0.0, 2.0])
    chosen = chosen_degrees(refined(rng, line, turn, np.full(3, 0.5)), line)
    assert abs(chosen[0]) < 0.15  # of 3°; the line itself has turned by 2°
    np.testing.assert_allclose(chosen[1:], turn[1:], atol=0.1)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_particles_without_lever_arm_suggest_nothing(count: int) -> None:
    same = np.full((count, 3), 70.0)
    moved = same + np.random.default_rng(8).normal(size=same.shape)
    assert np.abs(chosen_degrees(moved, same)).max() < 1e-6
    np.testing.assert_array_equal(chosen_degrees(same, same), 0)


def test_particles_count_by_their_weights() -> None:
    rng = np.random.default_rng(9)
    before = positions(rng, 50)
    after = refined(rng, before, np.array([0.0, 1.0, 0.0]), np.full(3, 1.0))
    false = before + rng.uniform(-10, 10, before.shape)
    both = np.concatenate([after, false]), np.concatenate([before, before])
    weights = np.repeat([1.0, 0.0], 50)
    np.testing.assert_array_equal(chosen_degrees(*both, weights), chosen_degrees(after, before))
    true = np.array([0, 1.0, 0])
    faint = chosen_degrees(*both, np.repeat([1.0, 0.1], 50)) - true
    assert np.linalg.norm(faint) < 0.2
    full, half = (
        suggested_rotation(after, before, np.broadcast_to(np.eye(3), (50, 3, 3)), np.full(50, w))
        for w in (1.0, 0.5)
    )
    np.testing.assert_allclose(half.information, full.information / 2, rtol=0.05)


def test_the_mean_grows_from_none_to_all_of_the_suggestion() -> None:
    shares = []
    for degrees in (0.05, 0.2, 0.4, 0.6, 0.8, 1.2, 3.0):
        suggested = SuggestedRotation(
            vector=np.deg2rad([0, degrees, 0]),
            information=np.eye(3) / np.deg2rad(0.1) ** 2,
            misfit=150.0,
            freedom=150.0,
        )
        net = expected_rotation(suggested)
        shares.append(np.rad2deg(net.vector[1]) / degrees)
        np.testing.assert_allclose(net.share @ suggested.vector, net.vector)
    assert shares == sorted(shares)
    assert shares[0] < 0.05 and shares[-1] > 0.99
