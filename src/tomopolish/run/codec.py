"""Results as arrays and JSON, and back: no pickle, so that reading a file never runs code.

Only the dataclasses of `tomopolish.results.tomogram` and `held_out` and of `tomopolish.dataset.model`,
`alignment_errors` and `scores` are accepted, with the fields they declare.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from tomopolish.dataset import alignment_errors, model, scores
from tomopolish.dataset.star_table import is_usable
from tomopolish.results import held_out
from tomopolish.results import tomogram as results
from tomopolish.run.stored_types import check_types
from tomopolish.shapes import Array


def _dataclasses(module: ModuleType) -> dict[str, type[Any]]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    }


_CLASSES = {
    name: stored
    for module in (model, alignment_errors, scores, held_out, results)
    for name, stored in _dataclasses(module).items()
}


def encode(value: Any, arrays: dict[str, Array]) -> Any:
    """Return a result as values of JSON; its arrays are put into `arrays`, under names in the JSON.

    Raises TypeError for a value of another kind.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        name = f"array{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    return _encode_composite(value, arrays)


def _encode_composite(value: Any, arrays: dict[str, Array]) -> Any:
    if isinstance(value, tuple | list):
        return {"tuple": [encode(item, arrays) for item in value]}
    if isinstance(value, Mapping):
        return {"mapping": [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]}
    name = type(value).__name__
    if _CLASSES.get(name) is not type(value):
        raise TypeError(f"a {name} has no place in stored results")
    fields = {f.name: encode(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
    return {"class": name, "fields": fields}


def decode(content: Any, arrays: Mapping[str, Array]) -> Any:
    """Return the result that `encode` turned into JSON and arrays.

    Raises ValueError, KeyError or TypeError when they are not an encoded result.
    """
    if content is None or isinstance(content, bool | int | float | str):
        return content
    match content:
        case {"float": str(text)}:
            return float(text)
        case {"array": str(name)}:
            return arrays[name]
        case {"tuple": list(items)}:
            return tuple(decode(item, arrays) for item in items)
        case {"mapping": list(pairs)}:
            return {decode(key, arrays): decode(value, arrays) for key, value in pairs}
        case {"class": str(name), "fields": dict(fields)}:
            return _made(_CLASSES[name], {key: decode(value, arrays) for key, value in fields.items()})
    raise ValueError("this is not a stored result")


def _made(declared: type[Any], values: Mapping[str, Any]) -> Any:
    if {field.name for field in dataclasses.fields(declared)} != set(values):
        raise ValueError(f"its {declared.__name__} is that of another version")
    return declared(**values)


def decode_result(content: Any, arrays: Mapping[str, Array]) -> results.TomogramResult:
    """Return the tomogram's result that `encode` turned into JSON and arrays.

    Raises ValueError, KeyError or TypeError when they are anything else, have arrays of another shape, or a
    geometry with numbers that are not finite.
    """
    result = decode(content, arrays)
    if not isinstance(result, results.TomogramResult):
        raise ValueError("this is not a tomogram's result")
    check_types(result)
    tilts = {len(alignment.projections_px) for alignment in result.alignments}
    if result.record is not None:
        tilts.add(len(result.record.given.projections_px))
    if not result.alignments or len(tilts) != 1:
        raise ValueError("its parts do not have the same tilt images")
    for alignment in result.alignments:
        geometry = dataclasses.replace(alignment, scores=None)
        if not all(is_usable(array).all() for array in _numbers(geometry)):
            raise ValueError("its geometry contains numbers that are not finite, or too large")
        if not all(np.isfinite(array).all() for array in _numbers(alignment.scores)):
            raise ValueError("its scores contain numbers that are not finite")
    return result


def _numbers(part: Any) -> Iterator[Array]:
    """Yield the arrays and numbers of an alignment, or of its scores, which are written into the new sets."""
    if isinstance(part, float) or (isinstance(part, np.ndarray) and part.dtype.kind == "f"):
        yield np.atleast_1d(part)
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            yield from _numbers(getattr(part, field.name))
