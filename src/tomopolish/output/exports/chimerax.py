"""ChimeraX: particles and trajectories as marker sets (`.cmm`, XML), and command files that open files.

Markers and links are those of https://www.cgl.ucsf.edu/chimerax/docs/user/commands/marker.html, commands
those of https://www.cgl.ucsf.edu/chimerax/docs/user/index.html.
Coordinates are Å from the centre of the tomogram's first voxel, which is the origin of a map whose header
gives none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import quoteattr

from tomopolish.dataset.files import atomic_write
from tomopolish.output.drawing import AFTER, BEFORE
from tomopolish.output.trails import Trails
from tomopolish.shapes import Array, Float

HALF_SET_COLOURS = ((0.0, 0.447, 0.698), (0.902, 0.624, 0.0))
"""Blue and orange, which are distinct under all common forms of colour blindness."""
RADIUS_ANGSTROM, RADIUS_OF_TOMOGRAM = 40.0, 0.01
"""Radius of a marker: that of a molecule, or a share of the tomogram's longest edge if that is more."""
LINE_OF_TOMOGRAM = 0.0005
"""Least radius of a trajectory's line, of the same edge."""
LEVEL = 3.0
"""Contour level of maps, in standard deviations of each."""


def write_markers(
    path: Path,
    tomogram: str,
    names: Sequence[str],
    positions_angstrom: Float[Array, "P 3"],
    half_set: Sequence[int],
    longest_edge_angstrom: float,
) -> None:
    """Write a marker for each particle, coloured by half set and with the particle's name as its note.

    Markers are visible at the scale of the tomogram, of which the longest edge is given. Raises RunError when
    the file cannot be written.
    """
    radius = max(RADIUS_ANGSTROM, RADIUS_OF_TOMOGRAM * longest_edge_angstrom)
    with atomic_write(path) as handle:
        handle.write(f"<marker_set name={_quoted(f'{tomogram} particles')}>\n")
        for index, (name, position, half) in enumerate(zip(names, positions_angstrom, half_set, strict=True)):
            _write_marker(handle, index + 1, position, HALF_SET_COLOURS[half], radius, name)
        handle.write("</marker_set>\n")


def write_marker_tracks(path: Path, tomogram: str, lines: Trails, longest_edge_angstrom: float) -> None:
    """Write trajectories, Å, as chains of linked markers, coloured by exposure from dark blue to yellow.

    Raises RunError when the file cannot be written.
    """
    colours = lines.colours / 255.0
    radius = lines.radius(LINE_OF_TOMOGRAM * longest_edge_angstrom)
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


def write_scene(folder: Path, stem: str, *, motion: bool, picks: Path | None) -> None:
    """Write `<stem>.cxc`, which opens a tomogram's markers, and `<stem>_artiax.cxc` for its orientations.

    ChimeraX executes a command file in its own folder, so that paths are relative to it; names are file names
    without quotes. Raises RunError when a file cannot be written.

    Parameters
    ----------
    picks
        Particles with orientations, relative to the folder; None: none are exported.
    """
    opened = [f'open "particles/{stem}.cmm"', *([f'open "motion/{stem}.cmm"'] if motion else [])]
    comment = f"# Shows the particles of {stem}; open its tomogram first, or after them."
    _write_commands(folder / f"{stem}.cxc", [comment, *opened, "view"])
    if picks is not None:
        comment = f"# Shows the particles of {stem} with their orientations; needs the ArtiaX plugin."
        orientations = ["artiax start", f'open "{picks.as_posix()}" format copick']
        _write_commands(folder / f"{stem}_artiax.cxc", [comment, *orientations])


def write_map_comparison(path: Path, before: Path, after: Path) -> None:
    """Write a command file that opens the map before and after at equal contour levels.

    It names the maps by absolute paths. Raises RunError when the file cannot be written.
    """
    lines = [
        "# Opens the sharpened map of the input (#1) and of the best round (#2) side by side.",
        f"open {_quoted_path(before)} id 1",
        f"open {_quoted_path(after)} id 2",
        f"volume #1 sdLevel {LEVEL:g} color {BEFORE}",
        f"volume #2 sdLevel {LEVEL:g} color {AFTER}",
        "tile #1,2",
        "view",
    ]
    _write_commands(path, lines)


def _quoted_path(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _write_commands(path: Path, lines: Sequence[str]) -> None:
    with atomic_write(path) as handle:
        handle.writelines(f"{line}\n" for line in lines)
