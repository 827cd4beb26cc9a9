"""A warp's functions, kept or not, give the same derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from small_project import make_problem, random_vector
from tomopolish.settings.alignment import DeformationSettings
from tomopolish.solve import warp_at
from tomopolish.solve.preconditioner import CoupledFactor, factorise
from tomopolish.solve.problem import State, evaluate, gradient
from tomopolish.solve.products import multiply_hessian


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("model", ["linear", "Fourier", "spline"])
def test_many_functions_are_not_kept_and_change_nothing(
    model: str, per_frame: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(5)
    deformation = DeformationSettings(model=model, grid=(3, 3), per_frame=per_frame)
    problem, _ = make_problem(rng, tilts=4, particles=9, range_px=6, deformation=deformation)
    vector, step = random_vector(problem, rng), random_vector(problem, rng)

    def everything() -> tuple[State, np.ndarray, np.ndarray]:
        state = evaluate(problem, vector)
        factor = factorise(problem, state)
        assert isinstance(factor, CoupledFactor)
        return state, multiply_hessian(problem, state, step), factor.solve(step)

    kept, *products = everything()
    assert kept.warp is not None and (kept.warp.functions is None) == (model == "linear")
    monkeypatch.setattr(warp_at, "MOST_VALUES", 0)
    computed, *expected = everything()
    assert computed.warp is not None and computed.warp.functions is None
    slopes = [gradient(problem, state) for state in (kept, computed)]
    for found, wanted in zip((slopes[0], *products), (slopes[1], *expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9 * np.abs(wanted).max())
