"""Stored results match the declarations of their classes; other files are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from tomopolish.results.tomogram import InputGeometry
from tomopolish.run.codec import decode_result, encode
from tomopolish.run.stored_types import check_types


def fields_of_geometry(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "projections_px": np.zeros((3, 4, 4)),
        "positions_px": np.zeros((5, 3)),
        "tomogram_size_px": (10, 20, 30),
        "image_size_px": (8, 9),
        "pixel_size_angstrom": 2.0,
        "pre_exposure": np.zeros(3),
        "particle_names": ("a", "b"),
        "trajectories_px": None,
        "deformation": None,
    }
    return fields | changes


def made(fields: dict[str, Any]) -> InputGeometry:
    """The object, past the checks that tests have of their own."""
    geometry = object.__new__(InputGeometry)
    for name, value in fields.items():
        object.__setattr__(geometry, name, value)
    return geometry


def test_sound_objects_pass() -> None:
    check_types(made(fields_of_geometry()))
    check_types(made(fields_of_geometry(trajectories_px=np.zeros((5, 3, 3)), pixel_size_angstrom=2)))


@pytest.mark.parametrize(
    "changes",
    [
        {"projections_px": np.zeros((3, 4, 3))},
        {"projections_px": np.zeros((3, 4, 4), dtype=np.int64)},
        {"projections_px": [[1.0]]},
        {"pre_exposure": np.zeros(4)},
        {"trajectories_px": np.zeros((4, 3, 3))},
        {"trajectories_px": "none"},
        {"tomogram_size_px": (1, 2)},
        {"tomogram_size_px": (1, 2, 3.5)},
        {"image_size_px": (1, 1 << 70)},
        {"particle_names": ("a", 1)},
        {"particle_names": "ab"},
        {"pixel_size_angstrom": True},
        {"deformation": made(fields_of_geometry())},
    ],
    ids=lambda c: f"{next(iter(c))}-{next(iter(c.values()))!r}"[:40],
)
def test_objects_that_hold_something_else_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} of a InputGeometry is not"):
        check_types(made(fields_of_geometry(**changes)))


def test_only_results_of_tomograms_are_decoded() -> None:
    arrays: dict[str, np.ndarray] = {}
    content = encode(made(fields_of_geometry()), arrays)
    assert set(content["fields"]) == {f.name for f in dataclasses.fields(InputGeometry)}
    with pytest.raises(ValueError, match="not a tomogram's result"):
        decode_result(content, arrays)
