"""Shapes and dtypes in annotations, checked in every call that the suite makes.

What jaxtyping and beartype find depends on the types of arguments and result, on the shapes and dtypes of
arrays, and on words. A call in which all of these are as in one that has passed would pass as well. To see
that takes microseconds; to check it anew takes a tenth of a millisecond, and a run makes a
thousand such calls.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import re
import threading
import types
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any

import jaxtyping
import numpy as np

from tomopolish import shapes

_HAS_SHAPES = re.compile(rf"\b(?:{'|'.join(shapes.__all__)})\[")
_FEW_ITEMS = 8
_checking = jaxtyping.jaxtyped


def install(modules: list[str]) -> None:
    """Have functions and classes checked that state shapes, in modules that are imported from now on.

    What states none is left as it is: mypy has checked all that would be checked.
    """
    jaxtyping.jaxtyped = _checking_shapes  # which the import hook writes above each function and class
    jaxtyping.install_import_hook(modules, "beartype.beartype")


def _checking_shapes(part: Any = None, **options: Any) -> Any:
    """Decorate a function or class as jaxtyping does, but for what is not to be checked."""
    if part is None:
        return functools.partial(_checking_shapes, **options)
    if not _states_shapes(part):
        return part
    if inspect.isclass(part):
        if is_dataclass(part):
            part.__init__ = _remembering(part.__init__, options)
        return part
    if isinstance(part, property):
        return property(_remembering(part.fget, options))
    if isinstance(part, classmethod | staticmethod):
        return type(part)(_remembering(part.__func__, options))
    return _remembering(part, options)


def _states_shapes(part: Any) -> bool:
    """Whether annotations of a function, or of the fields of a class, state the shape of an array."""
    if inspect.isclass(part):
        kinds = [field.type for field in fields(part)] if is_dataclass(part) else []
        return any(_HAS_SHAPES.search(str(kind)) for kind in kinds)
    part = getattr(part, "fget", None) or getattr(part, "__func__", part)
    return any(_HAS_SHAPES.search(str(kind)) for kind in part.__annotations__.values())


def _remembering(function: Callable[..., Any], options: dict[str, Any]) -> Callable[..., Any]:
    """Return the function with checks of calls of a kind that has not passed so far."""
    passed: dict[Hashable, set[Hashable]] = {}
    stored = threading.local()  # the result of a call whose arguments were of a kind that had passed

    @functools.cache
    def checked() -> Callable[..., Any]:
        return _checking(function, **options)

    @functools.cache
    def checked_with_stored_result() -> Callable[..., Any]:
        def returning(*arguments: Any, **named: Any) -> Any:
            return stored.result

        code, closure = returning.__code__, returning.__closure__
        stand_in = types.FunctionType(code, function.__globals__, closure=closure)  # annotations name globals
        return _checking(functools.wraps(function)(stand_in), **options)

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        given = (*map(kind, arguments), *((name, kind(value)) for name, value in named.items()))
        if given not in passed:
            result = checked()(*arguments, **named)
            passed[given] = {kind(result)}
            return result
        result = function(*arguments, **named)
        if kind(result) not in passed[given]:
            stored.result = result
            checked_with_stored_result()(*arguments, **named)
            del stored.result
            passed[given].add(kind(result))
        return result

    return call


def kind(value: Any) -> Hashable:
    """Return all that decides whether a value passes for an annotation.

    Of long tuples and lists these are the first and the last item: beartype itself looks at one of them.
    """
    if isinstance(value, np.ndarray):
        return type(value), value.dtype.type, value.shape
    if isinstance(value, tuple | list):
        items = value if len(value) <= _FEW_ITEMS else (value[0], value[-1])
        return type(value), *map(kind, items)
    if isinstance(value, dict):
        items = list(itertools.islice(value.items(), _FEW_ITEMS))
        return type(value), *((kind(key), kind(item)) for key, item in items)
    return value if isinstance(value, str) else type(value)
