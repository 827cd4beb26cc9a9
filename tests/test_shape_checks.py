"""Calls are checked as jaxtyping checks them, also where calls of the same kind have passed before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jaxtyping
import numpy as np
import pytest
from beartype import beartype

from tomopolish.shapes import Float

Array = np.ndarray


@jaxtyping.jaxtyped(typechecker=beartype)
def scaled(values: Float[Array, "n 3"], by: float, result: Any = None) -> Float[Array, "n 3"]:
    return values * by if result is None else np.zeros(result)


@jaxtyping.jaxtyped(typechecker=beartype)
def joined(
    parts: list[Float[Array, "n"]], how: Literal["sum", "mean"], *, named: dict[str, Float[Array, "n"]]
) -> Float[Array, "n"]:
    return np.zeros(len(parts[0]))


@jaxtyping.jaxtyped(typechecker=beartype)
@dataclass(frozen=True)
class Pair:
    first: Float[Array, "n"]
    second: Float[Array, "n"]

    @property
    def both(self) -> int:
        return len(self.first)


ONE, TWO = np.zeros(1), np.zeros(2)


@pytest.mark.parametrize(
    ("sound", "wrong"),
    [
        (lambda: scaled(np.zeros((2, 3)), 1.0), lambda: scaled(np.zeros((2, 4)), 1.0)),
        (lambda: scaled(np.zeros((2, 3)), 1.0), lambda: scaled(np.zeros((2, 3), dtype=int), 1.0)),
        (lambda: scaled(np.zeros((2, 3)), 1.0), lambda: scaled(np.zeros((2, 3)), "1")),
        (lambda: scaled(np.zeros((2, 3)), 1.0, (2, 3)), lambda: scaled(np.zeros((2, 3)), 1.0, (3, 3))),
        (lambda: joined([TWO], "sum", named={"a": TWO}), lambda: joined([TWO], "sums", named={"a": TWO})),
        (lambda: joined([TWO], "sum", named={"a": TWO}), lambda: joined([TWO], "sum", named={"a": ONE})),
        (lambda: joined([TWO], "sum", named={}), lambda: joined([TWO.astype(int)], "sum", named={})),
        (lambda: Pair(TWO, TWO), lambda: Pair(TWO, ONE)),
    ],
)
def test_what_passes_once_does_not_let_others_pass(
    sound: Callable[[], Any], wrong: Callable[[], Any]
) -> None:
    for _ in range(2):
        sound()
        with pytest.raises(jaxtyping.TypeCheckError):
            wrong()


def test_a_function_is_called_once_for_each_call() -> None:
    calls: list[int] = []

    @jaxtyping.jaxtyped(typechecker=beartype)
    def counted(values: Float[Array, "n"], size: int) -> Float[Array, "m"]:
        calls.append(size)
        return np.zeros(size)

    assert [len(counted(TWO, size)) for size in (1, 2, 2, 3)] == [1, 2, 2, 3]
    assert calls == [1, 2, 2, 3]
