"""Text of many numbers: the very bytes that Python's own formatting gives."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.fixed_point import print_rows


def expected(values: np.ndarray) -> list[str]:
    return [
        "".join(" ".join(f"{np.round(v, 6) + 0.0:.6f}" for v in row) + "\n" for row in item)
        for item in values
    ]


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 9.9e8])
def test_numbers_read_as_python_prints_them(scale: float) -> None:
    values = np.random.default_rng(3).uniform(-scale, scale, (5, 7, 3))
    assert print_rows(values) == expected(values)


def test_zeros_have_no_sign_and_carries_reach_the_whole_part() -> None:
    row = [0.0, -0.0, -4e-7, 5e-7, 0.9999996, -0.9999996, 1e-6, 9.9999999, 0.1, 123456789.123456, 2.5e-6, 10]
    values = np.array(row).reshape(2, 2, 3)
    assert print_rows(values) == expected(values)
    assert print_rows(values)[0].split()[:3] == ["0.000000"] * 3


@pytest.mark.parametrize("odd", [np.nan, np.inf, -1e9, 1e300])
def test_what_no_machine_integer_holds_is_printed_too(odd: float) -> None:
    values = np.full((2, 3, 3), 0.25)
    values[1, 2, 0] = odd
    assert print_rows(values) == expected(values)
    assert print_rows(values)[0] == "0.250000 0.250000 0.250000\n" * 3


def test_nothing_gives_nothing() -> None:
    assert print_rows(np.zeros((0, 41, 3))) == []
    assert print_rows(np.zeros((2, 0, 3))) == ["", ""]
