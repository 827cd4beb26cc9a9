"""Point groups of rotations, from their generators."""

from __future__ import annotations

import re

import numpy as np

from tomopolish.errors import InputError
from tomopolish.shapes import Float

Array = np.ndarray

_GOLDEN = (1 + np.sqrt(5)) / 2


def point_group(name: str) -> Float[Array, "G 3 3"]:
    """Rotations of a point group: Cn (axis z), Dn (twofold along x), T, O, or I (twofold axes x, y, z).

    T has its threefold axis along (1, 1, 1) and twofold axes along x, y, z; O its fourfold axes along
    x, y, z; I1 (or I) has fivefold axes in the xz plane at (±1, 0, golden ratio), I2 is I1 turned
    by 90° about z.

    Raises
    ------
    InputError
        when there is no such group.
    """
    generators = _generators(name.strip().upper())
    found = [np.eye(3)]
    for rotation in found:  # grows while being walked, until the group is closed
        for generator in generators:
            product = generator @ rotation
            if not any(np.allclose(product, known, atol=1e-6) for known in found):
                found.append(product)
    return np.stack(found)


def _generators(name: str) -> list[Array]:
    x, y, z = np.eye(3)
    diagonal = x + y + z
    match = re.fullmatch(r"([CD])([1-9]\d?)", name)
    if match:
        principal = [_rotation(z, int(match[2]))]
        return principal if match[1] == "C" else [*principal, _rotation(x, 2)]
    named = {
        "T": [_rotation(z, 2), _rotation(diagonal, 3)],
        "O": [_rotation(z, 4), _rotation(diagonal, 3)],
        "I1": [_rotation(z, 2), _rotation(diagonal, 3), _rotation(x + _GOLDEN * z, 5)],
        "I2": [_rotation(z, 2), _rotation(diagonal, 3), _rotation(y + _GOLDEN * z, 5)],
    }
    named["I"] = named["I1"]
    if name not in named:
        raise InputError(f"--sym {name} is no point group; give C1, C2 …, D2 …, T, O, I1 or I2")
    return named[name]


def _rotation(axis: Array, order: int) -> Array:
    """Turn by 360°/order about an axis (Rodrigues' formula)."""
    n = axis / np.linalg.norm(axis)
    angle = 2 * np.pi / order
    cross = np.array([[0, -n[2], n[1]], [n[2], 0, -n[0]], [-n[1], n[0], 0]])
    turned: Array = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return turned
