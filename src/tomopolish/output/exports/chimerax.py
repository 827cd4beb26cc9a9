"""ChimeraX: particles and trajectories as marker sets (`.cmm`, XML).

Markers and links are those of https://www.cgl.ucsf.edu/chimerax/docs/user/commands/marker.html.
Coordinates are Å from the centre of the tomogram's first voxel, which is the origin of a map whose header
gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import quoteattr

import numpy as np

from tomopolish.dataset.files import atomic_write
from tomopolish.output.trails import Trails
from tomopolish.shapes import Float

Array = np.ndarray

HALF_SET_COLOURS = ((0.0, 0.447, 0.698), (0.902, 0.624, 0.0))
"""Blue and orange, which are distinct under all common forms of colour blindness."""
RADIUS_ANGSTROM = 40.0
MIN_RADIUS_ANGSTROM = 0.2


def write_markers(
    path: Path,
    tomogram: str,
    names: Sequence[str],
    positions_angstrom: Float[Array, "P 3"],
    half_set: Sequence[int],
) -> None:
    """Write a marker for each particle, coloured by half set and with the particle's name as its note.

    Raises
    ------
    RunError
        when the file cannot be written.
    """
    with atomic_write(path) as handle:
        handle.write(f"<marker_set name={_quoted(f'{tomogram} particles')}>\n")
        for index, (name, position, half) in enumerate(zip(names, positions_angstrom, half_set, strict=True)):
            _write_marker(handle, index + 1, position, HALF_SET_COLOURS[half], RADIUS_ANGSTROM, name)
        handle.write("</marker_set>\n")


def write_marker_tracks(path: Path, tomogram: str, lines: Trails) -> None:
    """Write trajectories, Å, as chains of linked markers, coloured by exposure from dark blue to yellow.

    Raises
    ------
    RunError
        when the file cannot be written.
    """
    colours = lines.colours / 255.0
    radius = lines.radius(MIN_RADIUS_ANGSTROM)
    tilts = len(colours)
    with atomic_write(path) as handle:
        handle.write(f"<marker_set name={_quoted(f'{tomogram} motion x{lines.magnification:g}')}>\n")
        for particle, points in enumerate(lines.points):
            first = particle * tilts + 1
            for step, point in enumerate(points):
                _write_marker(handle, first + step, point, colours[step], radius)
            for step in range(1, tilts):
                r, g, b = colours[step]
                handle.write(
                    f'<link id1="{first + step - 1}" id2="{first + step}" '
                    f'r="{r:.3f}" g="{g:.3f}" b="{b:.3f}" radius="{radius / 2:.3f}"/>\n'
                )
        handle.write("</marker_set>\n")


def _write_marker(
    handle: TextIO,
    number: int,
    position: Float[Array, "3"],
    colour: Sequence[float] | Float[Array, "3"],
    radius: float,
    note: str | None = None,
) -> None:
    x, y, z = position
    r, g, b = colour
    tail = "" if note is None else f" note={_quoted(note)}"
    handle.write(
        f'<marker id="{number}" x="{x:.3f}" y="{y:.3f}" z="{z:.3f}" r="{r:.3f}" g="{g:.3f}" b="{b:.3f}" '
        f'radius="{radius:.3f}"{tail}/>\n'
    )


def _quoted(text: str) -> str:
    """Return text as a quoted XML attribute; control characters, which XML forbids, become "_"."""
    return quoteattr("".join(c if c.isprintable() else "_" for c in text))
