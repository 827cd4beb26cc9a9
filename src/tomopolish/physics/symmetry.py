"""Point groups of rotations."""

from __future__ import annotations

import re

from scipy.spatial.transform import Rotation

from tomopolish.errors import InputError
from tomopolish.shapes import Array, Float


def point_group(name: str) -> Float[Array, "G 3 3"]:
    """Return the rotations of a point group: Cn (axis z), Dn (twofold along x), T, O, I (twofold x, y, z).

    T has its threefold axis along (1, 1, 1) and twofold axes along x, y, z; O its fourfold axes along
    x, y, z; I1 (or I) has fivefold axes in the xz plane at (±1, 0, golden ratio), I2 is I1 turned
    by 90° about z. Raises InputError when the name is not that of a point group.
    """
    group = name.strip().upper()
    if re.fullmatch(r"[CD][1-9]\d?|[TO]", group):
        return Rotation.create_group(group, axis="Z").as_matrix()
    if group not in {"I", "I1", "I2"}:
        raise InputError(f"--sym {name} is not a valid point group; give C1, C2 …, D2 …, T, O, I1 or I2")
    rotations = Rotation.create_group("I").as_matrix()
    if group != "I2":
        turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
        rotations = turn @ rotations @ turn.T
    return rotations
