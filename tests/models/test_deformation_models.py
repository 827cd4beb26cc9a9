from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopolish.dataset.model import Deformation
from tomopolish.errors import InputError
from tomopolish.models.deformation import (
    NoDeformation,
    deformation_from,
    deformation_model,
    deformation_record,
    refit,
)
from tomopolish.models.warps.fourier import FourierWarp
from tomopolish.models.warps.linear import LinearWarp
from tomopolish.models.warps.spline import SplineWarp
from tomopolish.settings.alignment import DeformationSettings

Array = np.ndarray
Make = Callable[..., Any]

SIZE = (400, 300)
TILTS, PARTICLES = 4, 7

WARPS: dict[str, Any] = {
    "linear": lambda warps=1: LinearWarp(image_size_px=SIZE, warps=warps),
    "spline 3×3": lambda warps=1: SplineWarp(image_size_px=SIZE, grid=(3, 3), warps=warps),
    "spline 2×4": lambda warps=1: SplineWarp(image_size_px=SIZE, grid=(2, 4), warps=warps),
    "Fourier 3×3": lambda warps=1: FourierWarp(image_size_px=SIZE, grid=(3, 3), warps=warps),
    "Fourier 5×4": lambda warps=1: FourierWarp(image_size_px=SIZE, grid=(5, 4), warps=warps),
    "none": lambda warps=1: NoDeformation(),
}
all_warps = pytest.mark.parametrize("make", WARPS.values(), ids=WARPS.keys())
one_or_each = pytest.mark.parametrize("warps", [1, TILTS])


def positions(seed: int = 1, beyond: float = 40.0) -> Array:
    """Anywhere in the images and a little beyond their borders."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-beyond, np.array(SIZE) + beyond, (TILTS, PARTICLES, 2))


@all_warps
@one_or_each
@given(seed=st.integers(0, 1000))
def test_adjoint_is_the_transpose(make: Make, warps: int, seed: int) -> None:
    warp, rng = make(warps), np.random.default_rng(seed)
    q, coefficients = positions(seed), rng.normal(size=warp.shape)
    gradient = rng.normal(size=q.shape)
    forward = np.sum(warp.displacement_px(q, coefficients) * gradient)
    backward = np.sum(coefficients * warp.adjoint(q, gradient))
    assert forward == pytest.approx(backward, rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in WARPS if name[0] in "sF"])
@one_or_each
def test_displacements_are_sums_of_the_models_functions(name: str, warps: int) -> None:
    warp, q = WARPS[name](warps), positions()
    functions = warp.functions(q)
    assert functions.shape == (TILTS, PARTICLES, warp.shape[1] // 2)
    coefficients = np.random.default_rng(3).normal(size=warp.shape)
    by_component = coefficients.reshape(warps, 2, -1)
    expected = np.einsum(
        "fpm,fcm->fpc", functions, np.broadcast_to(by_component, (TILTS, *by_component.shape[1:]))
    )
    np.testing.assert_allclose(warp.displacement_px(q, coefficients), expected, rtol=0, atol=1e-9)


@all_warps
@one_or_each
def test_jacobian_agrees_with_finite_differences(make: Make, warps: int) -> None:
    warp, step = make(warps), 1e-3
    coefficients = np.random.default_rng(2).normal(size=warp.shape)
    q = positions()
    jacobian = warp.jacobian(q, coefficients)
    for axis in range(2):
        move = step * np.eye(2)[axis]
        ahead, behind = (warp.displacement_px(q + s * move, coefficients) for s in (1, -1))
        np.testing.assert_allclose(jacobian[..., axis], (ahead - behind) / (2 * step), atol=1e-7)


@all_warps
def test_one_warp_serves_all_tilts_and_each_tilt_its_own(make: Make) -> None:
    q, rng = positions(), np.random.default_rng(2)
    own = rng.normal(size=(TILTS, make().shape[1]))
    each = make(TILTS).displacement_px(q, own)
    for tilt in range(TILTS):
        alone = make(1).displacement_px(q, own[tilt : tilt + 1])
        np.testing.assert_allclose(alone[tilt], each[tilt], atol=1e-12)


@pytest.mark.parametrize("name", ["spline 3×3", "Fourier 3×3"])
def test_rows_that_fit_no_series_are_refused(name: str) -> None:
    warp = WARPS[name](2)
    with pytest.raises(ValueError, match="2 warps do not fit 4 tilt images"):
        warp.displacement_px(positions(), np.zeros(warp.shape))
    with pytest.raises(ValueError, match="2 warps do not fit 4 tilt images"):
        warp.adjoint(positions(), positions())


@all_warps
def test_positions_that_are_no_numbers_do_no_harm(make: Make) -> None:
    warp, q = make(), np.full((1, 1, 2), np.nan)
    coefficients = np.ones(warp.shape)
    assert warp.displacement_px(q, coefficients).shape == (1, 1, 2)
    assert warp.adjoint(np.full((1, 1, 2), np.inf), q).shape == warp.shape


def test_linear_warp_is_about_the_image_centre() -> None:
    warp, q = LinearWarp(image_size_px=SIZE), np.array([[[210.0, 170.0]]])
    np.testing.assert_allclose(
        warp.displacement_px(q, np.array([[0.1, 0.02, 0.003]])), [[[0.1 * 10, 0.02 * 10 + 0.003 * 20]]]
    )


@pytest.mark.parametrize(
    ("grid", "frequencies"),
    [
        ((3, 3), [(1, 0), (1, -2), (1, -1)]),
        ((4, 2), [(1, 0), (2, 0), (1, -1), (2, -1)]),
        ((2, 5), [(1, 0), (0, 1), (1, 1), (1, -3), (1, -2), (1, -1)]),
    ],
)
def test_fourier_warp_is_a_sum_of_waves(grid: tuple[int, int], frequencies: list[tuple[int, int]]) -> None:
    warp = FourierWarp(image_size_px=SIZE, grid=grid, regulariser=2.0)
    coefficients = np.random.default_rng(2).normal(size=(1, 4 * len(frequencies)))
    q = positions()
    expected = np.zeros_like(q)
    weights = np.zeros(coefficients.shape[1])
    index = 0
    for component in range(2):
        for x, y in frequencies:
            k = np.pi * x / SIZE[0], np.pi * y / SIZE[1]
            phase = k[0] * q[..., 0] + k[1] * q[..., 1]
            expected[..., component] += coefficients[0, index] * np.cos(phase)
            expected[..., component] += coefficients[0, index + 1] * np.sin(phase)
            weights[index : index + 2] = 2.0 * (k[0] ** 2 + k[1] ** 2)
            index += 2
    np.testing.assert_allclose(warp.displacement_px(q, coefficients), expected, atol=1e-12)
    np.testing.assert_allclose(warp.penalty_weights, weights)


def test_spline_takes_its_values_and_slopes_at_the_nodes() -> None:
    grid = (4, 3)
    warp = SplineWarp(image_size_px=SIZE, grid=grid)
    coefficients = np.random.default_rng(2).normal(size=warp.shape)
    nodes = coefficients.reshape(2, grid[1], grid[0], 4)
    spacing = np.array([SIZE[0] / 3, SIZE[1] / 2])
    q = np.stack(np.meshgrid(np.arange(4) * spacing[0], np.arange(3) * spacing[1]), axis=-1)
    np.testing.assert_allclose(
        warp.displacement_px(q.reshape(1, -1, 2), coefficients).reshape(q.shape),
        np.moveaxis(nodes[..., 0], 0, -1),
        atol=1e-12,
    )
    jacobian = warp.jacobian(q.reshape(1, -1, 2), coefficients).reshape(*q.shape, 2) * spacing
    np.testing.assert_allclose(jacobian, np.moveaxis(nodes[..., 1:3], 0, -2), atol=1e-12)
    step = 1e-4 * np.array([0.0, spacing[1]])
    # From within the image, so that both sides of the difference lie in one cell.
    slope_x = [
        warp.jacobian(p.reshape(1, -1, 2), coefficients)[..., 0].reshape(q.shape) for p in (q, q + step)
    ]
    twist = (slope_x[1] - slope_x[0]) * spacing[0] / 1e-4
    np.testing.assert_allclose(twist, np.moveaxis(nodes[..., 3], 0, -1), atol=0.01)


@given(seed=st.integers(0, 1000), x=st.floats(0, 400), y=st.floats(0, 300))
def test_spline_is_smooth_across_cells(seed: int, x: float, y: float) -> None:
    warp = SplineWarp(image_size_px=SIZE, grid=(3, 4))
    coefficients = np.random.default_rng(seed).normal(size=warp.shape)
    step = 1e-6
    for border in (np.array([[200.0, y]]), np.array([[x, 100.0]])):
        sides = np.stack([border - step, border + step])[:, :, :]
        values = warp.displacement_px(sides, coefficients)
        slopes = warp.jacobian(sides, coefficients)
        np.testing.assert_allclose(values[0], values[1], atol=1e-5)
        np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-7)


RUNS = {
    # run: RMS error with its warp, at most without it, Å
    "deformation_linear": (0.4058, 1.8),
    "deformation_spline": (0.4053, 0.7),
    "deformation_Fourier": (0.4079, 3.5),
    "deformation_Fourier_per_frame": (0.5636, 50.0),
}


@pytest.mark.parametrize("run", RUNS)
def test_relions_warps_lead_to_the_true_positions(golden: Path, relion_run: Make, run: str) -> None:
    warped, unwarped = [], []
    for tomogram in ("TS_01", "TS_02"):
        solution = relion_run(golden, run, tomogram)
        warp, coefficients = deformation_from(solution.deformation, solution.image_size_px)
        displacement = warp.displacement_px(solution.projected_px(), coefficients)
        warped.append(solution.squared_errors_angstrom2(displacement))
        unwarped.append(solution.squared_errors_angstrom2())
    with_warp, without = RUNS[run]
    assert np.sqrt(np.mean(np.concatenate(warped))) == pytest.approx(with_warp, abs=0.0003)
    assert np.sqrt(np.mean(np.concatenate(unwarped))) > without


@pytest.mark.parametrize("run", ["deformation_spline", "deformation_Fourier"])
def test_small_reference_runs_need_their_warps(mini: Path, relion_run: Make, run: str) -> None:
    solution = relion_run(mini, run, "TS_01")
    warp, coefficients = deformation_from(solution.deformation, solution.image_size_px)
    displacement = warp.displacement_px(solution.projected_px(), coefficients)
    error = np.sqrt(np.mean(solution.squared_errors_angstrom2(displacement)))
    assert error < 0.6
    assert error < 0.7 * np.sqrt(np.mean(solution.squared_errors_angstrom2()))


PENALTIES = {
    # What RELION's objective at its solution (--def_reg 1) holds beyond the windows' part.
    ("deformation_spline", "TS_01"): 2.825,
    ("deformation_spline", "TS_02"): 4.163,
    ("deformation_Fourier_per_frame", "TS_01"): 0.636,
    ("deformation_Fourier_per_frame", "TS_02"): 2.342,
}


@pytest.mark.parametrize(("run", "tomogram"), PENALTIES)
def test_penalty_is_that_of_relions_objective(
    golden: Path, relion_run: Make, run: str, tomogram: str
) -> None:
    deformation = relion_run(golden, run, tomogram).deformation
    rows = deformation.coefficients if run.endswith("per_frame") else deformation.coefficients[:1]
    make = {"spline": SplineWarp, "Fourier": FourierWarp}[deformation.model]
    warp = make(image_size_px=(384, 384), grid=deformation.grid, warps=len(rows), regulariser=1.0)
    assert np.sum(warp.penalty_weights * rows**2) == pytest.approx(PENALTIES[run, tomogram], abs=0.02)


@pytest.mark.parametrize(("model", "count"), [("linear", 3), ("spline", 8 * 4 * 5), ("Fourier", 44)])
@pytest.mark.parametrize("per_frame", [False, True])
def test_settings_choose_the_model(series: Make, model: str, count: int, per_frame: bool) -> None:
    asked = DeformationSettings(model=model, grid=(4, 5), regulariser=0.5, per_frame=per_frame)
    warp = deformation_model(asked, series(TILTS))
    assert warp.shape == (TILTS if per_frame else 1, count)
    assert warp.penalty_weights.shape == (count,)
    if model != "Fourier":
        np.testing.assert_array_equal(warp.penalty_weights, 0.5)


def test_without_settings_an_input_deformation_stays(series: Make) -> None:
    q = positions()
    none = deformation_model(None, series(TILTS))
    assert not none.displacement_px(q, np.zeros(none.shape)).any()
    known = random_deformation("spline", (3, 3))
    fixed = deformation_model(None, series(TILTS, deformation=known))
    assert fixed.shape == (1, 0)
    warp, coefficients = deformation_from(known, SIZE)
    nothing = np.zeros(fixed.shape)
    np.testing.assert_array_equal(fixed.displacement_px(q, nothing), warp.displacement_px(q, coefficients))
    np.testing.assert_array_equal(fixed.jacobian(q, nothing), warp.jacobian(q, coefficients))
    assert fixed.adjoint(q, q).shape == (1, 0)


def random_deformation(model: str, grid: tuple[int, int], alike: bool = False) -> Deformation:
    counts = {"linear": 3, "spline": 8 * grid[0] * grid[1], "Fourier": 12}
    scale = {"linear": 0.003, "spline": 0.5, "Fourier": 0.5}[model]
    rng = np.random.default_rng(4)
    coefficients = scale * rng.normal(size=(1 if alike else TILTS, counts[model]))
    return Deformation(
        model=model, grid=grid, coefficients=np.broadcast_to(coefficients, (TILTS, counts[model])).copy()
    )


@pytest.mark.parametrize(
    ("deformation", "target"),
    [
        (random_deformation("spline", (3, 3)), WARPS["spline 3×3"](TILTS)),
        (random_deformation("spline", (3, 2)), SplineWarp(image_size_px=SIZE, grid=(5, 3), warps=TILTS)),
        (random_deformation("linear", (3, 3)), WARPS["spline 2×4"](TILTS)),
        (random_deformation("Fourier", (3, 3)), WARPS["Fourier 3×3"](TILTS)),
        (random_deformation("Fourier", (3, 3), alike=True), WARPS["Fourier 3×3"](1)),
    ],
    ids=["itself", "finer grid", "richer model", "itself, waves", "one for the series"],
)
def test_refit_is_exact_where_the_target_holds_the_warp(deformation: Deformation, target: Any) -> None:
    coefficients, worst = refit(deformation, target, SIZE)
    assert worst < 1e-9
    q = positions(beyond=0.0)
    source, known = deformation_from(deformation, SIZE)
    np.testing.assert_allclose(
        target.displacement_px(q, coefficients), source.displacement_px(q, known), atol=1e-9
    )


@pytest.mark.parametrize(
    ("deformation", "target"),
    [
        (random_deformation("spline", (3, 3)), WARPS["linear"](TILTS)),
        (random_deformation("spline", (3, 3)), WARPS["spline 3×3"](1)),
        (random_deformation("Fourier", (3, 3)), WARPS["spline 3×3"](TILTS)),
        (random_deformation("Fourier", (3, 3)), WARPS["none"]()),
    ],
    ids=["poorer model", "one for all tilts", "another model", "none"],
)
def test_refit_tells_how_far_it_is_off(deformation: Deformation, target: Any) -> None:
    coefficients, worst = refit(deformation, target, SIZE)
    assert coefficients.shape == target.shape
    source, known = deformation_from(deformation, SIZE)
    q = np.random.default_rng(1).uniform(0, SIZE, (TILTS, 3000, 2))
    off = source.displacement_px(q, known) - target.displacement_px(q, coefficients)
    found = np.max(np.linalg.norm(off, axis=-1))
    assert 0.7 * worst < found < 1.1 * worst


def test_refit_of_waves_as_spline_is_close() -> None:
    finer = SplineWarp(image_size_px=SIZE, grid=(6, 6), warps=TILTS)
    deformation = random_deformation("Fourier", (3, 3))
    largest = np.abs(deformation.coefficients).max()
    assert refit(deformation, finer, SIZE)[1] < 0.005 * largest


def test_record_has_a_row_per_tilt() -> None:
    asked = DeformationSettings(model="linear", grid=(3, 4))
    one = deformation_record(asked, np.array([[1.0, 2.0, 3.0]]), TILTS)
    assert (one.model, one.grid) == ("linear", (3, 4))
    np.testing.assert_array_equal(one.coefficients, [[1.0, 2.0, 3.0]] * TILTS)
    each = np.random.default_rng(1).normal(size=(TILTS, 3))
    np.testing.assert_array_equal(deformation_record(asked, each, TILTS).coefficients, each)


@pytest.mark.parametrize(
    ("model", "grid", "count", "sentence"),
    [
        ("spline", (3, 3), 71, "3 × 3 has 72 coefficients per tilt image, but 71 are given"),
        ("spline", (1, 3), 24, "give 2 or more along each axis"),
        ("Fourier", (3, 3), 8, "has 12 coefficients"),
        ("cubic", (3, 3), 8, "'cubic' is unknown: give one of linear, spline, Fourier"),
    ],
)
def test_impossible_input_deformations_are_refused(
    model: str, grid: tuple[int, int], count: int, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        deformation_from(Deformation(model=model, grid=grid, coefficients=np.zeros((TILTS, count))), SIZE)


@pytest.mark.parametrize("name", ["linear", "spline 3×3", "Fourier 3×3"])
@pytest.mark.alone
def test_hundred_thousand_pairs_take_milliseconds(name: str) -> None:
    warp, rng = WARPS[name](), np.random.default_rng(1)
    q = rng.uniform(0, 300, (40, 3000, 2))
    coefficients = rng.normal(size=warp.shape)

    def fastest(work: Callable[[], object]) -> float:
        times = []
        for _ in range(4):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        return min(times)

    assert fastest(lambda: warp.displacement_px(q, coefficients)) < 0.05
    assert fastest(lambda: warp.jacobian(q, coefficients)) < 0.05
    assert fastest(lambda: warp.adjoint(q, q)) < 0.05


def test_refit_survives_waves_that_are_nearly_dependent() -> None:
    deformation = random_deformation("Fourier", (3, 3))
    many = FourierWarp(image_size_px=SIZE, grid=(12, 12), warps=TILTS)
    coefficients, worst = refit(deformation, many, SIZE)
    assert worst < 1e-6
    assert np.abs(coefficients).max() < 10 * np.abs(deformation.coefficients).max()
