"""Checks that a stored result matches the declarations of its classes: types, and shapes of arrays."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from tomopolish.shapes import Array

Dimensions = dict[str, int]
"""Size of each named dimension of the arrays of an object and its parts."""

ITEMS = "N"
"""Dimension of a list of items, of which an object may contain several."""
_ARRAYS = {"Float": "f", "Float32": "f", "Int": "iu", "UInt8": "u", "Bool": "b"}
"""Kind of array → NumPy's letters of its data types."""

_SIMPLE: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 62,
    "float": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "None": lambda value: value is None,
}


def check_types(value: Any) -> None:
    """Raise ValueError where a dataclass, or a part of it, does not match its declaration.

    A named dimension has the same size in all arrays of an object and of the objects that are its fields,
    but for `ITEMS`, which belongs to the object alone; objects in a tuple have sizes of their own. The values
    in arrays are not checked.
    """
    _check_fields(value, {})


def _check_fields(value: Any, sizes: Dimensions) -> None:
    for field in dataclasses.fields(value):
        if not _fits(getattr(value, field.name), _declared(str(field.type)), sizes):
            raise ValueError(f"{field.name} of a {type(value).__name__} is not {field.type}")


@lru_cache(maxsize=256)
def _declared(annotation: str) -> ast.expr:
    return ast.parse(annotation, mode="eval").body


def _fits(value: Any, declared: ast.expr, sizes: Dimensions) -> bool:
    if isinstance(declared, ast.BinOp):
        return _fits(value, declared.left, sizes) or _fits(value, declared.right, sizes)
    if isinstance(declared, ast.Subscript):
        return _fits_container(value, declared, sizes)
    name = declared.id if isinstance(declared, ast.Name) else "None"
    if name in _SIMPLE:
        return _SIMPLE[name](value)
    if type(value).__name__ != name or not dataclasses.is_dataclass(value):
        return False
    around = sizes.pop(ITEMS, None)
    _check_fields(value, sizes)
    sizes.pop(ITEMS, None)
    if around is not None:
        sizes[ITEMS] = around
    return True


def _fits_container(value: Any, declared: ast.Subscript, sizes: Dimensions) -> bool:
    kind = declared.value.id if isinstance(declared.value, ast.Name) else ""
    parts = declared.slice.elts if isinstance(declared.slice, ast.Tuple) else [declared.slice]
    if kind in _ARRAYS:
        described = parts[1].value if isinstance(parts[1], ast.Constant) else ""
        return isinstance(value, Array) and _has_shape(value, _ARRAYS[kind], str(described), sizes)
    if kind == "Mapping":
        return isinstance(value, Mapping) and all(
            _fits(k, parts[0], sizes) and _fits(v, parts[1], sizes) for k, v in value.items()
        )
    if not isinstance(value, tuple):
        return False
    if isinstance(parts[-1], ast.Constant) and parts[-1].value is ...:
        return all(_fits(item, parts[0], dict(sizes)) for item in value)
    return len(value) == len(parts) and all(
        _fits(item, part, sizes) for item, part in zip(value, parts, strict=True)
    )


def _has_shape(value: Array, letters: str, described: str, sizes: Dimensions) -> bool:
    names = described.split()
    return (
        value.dtype.kind in letters
        and value.ndim == len(names)
        and all(
            size == (int(name) if name.isdigit() else sizes.setdefault(name, size))
            for name, size in zip(names, value.shape, strict=True)
        )
    )
