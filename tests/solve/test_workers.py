"""Threads of the solver: they share the work, and change no result."""

from __future__ import annotations

import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from relion_runs import open_project
from small_project import compute_windows, make_settings
from tomopolish.pipeline import build_problem
from tomopolish.settings.alignment import MotionSettings
from tomopolish.solve import products
from tomopolish.solve.problem import evaluate
from tomopolish.solve.products import multiply_hessian
from tomopolish.solve.workers import Workers


@pytest.mark.parametrize(("threads", "tilts"), [(1, 5), (2, 5), (5, 5), (7, 3), (3, 0)])
def test_every_tilt_image_is_worked_on_once(threads: int, tilts: int) -> None:
    count = np.zeros(tilts, dtype=int)
    with Workers(threads) as workers:
        workers.over(tilts, lambda part: np.add(count[part], 1, out=count[part]))
    np.testing.assert_array_equal(count, 1)


def test_an_error_in_any_part_is_raised() -> None:
    def work(part: slice) -> None:
        if part.start > 0:
            raise ZeroDivisionError

    with Workers(2) as workers, pytest.raises(ZeroDivisionError):
        workers.over(2, work)


def test_the_caller_takes_part() -> None:
    seen = set()
    with Workers(2) as workers:
        workers.over(2, lambda part: seen.add(threading.get_ident()))
    assert threading.get_ident() in seen


def test_evaluation_and_products_do_not_depend_on_threads(
    mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "MANY_PAIRS", 1)
    dataset = open_project(mini)
    series, particles = dataset.load(dataset.tomogram_names[0])
    references = dataset.references()
    settings = make_settings(
        references.half_maps.shape[-1], 6, motion=MotionSettings(velocity_scale=0.5, absolute=True)
    )
    windows = compute_windows(series, particles, references, settings)
    problem = build_problem(series, particles, windows, settings)
    vector = np.random.default_rng(0).normal(size=problem.layout.size) * 0.01
    alone = evaluate(problem, vector)
    with Workers(3) as workers:
        shared = evaluate(problem, vector, workers.over)
        product = multiply_hessian(problem, shared, vector)
    for field in fields(alone):
        if field.name != "spread":
            np.testing.assert_array_equal(getattr(shared, field.name), getattr(alone, field.name))
    np.testing.assert_array_equal(product, multiply_hessian(problem, alone, vector))
