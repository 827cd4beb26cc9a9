"""ChimeraX: a command file that opens the map before and after, at equal contour levels.

Commands are those of https://www.cgl.ucsf.edu/chimerax/docs/user/index.html.
"""

from __future__ import annotations

from pathlib import Path

from tomopolish.dataset.files import atomic_write
from tomopolish.output.drawing import AFTER, BEFORE

LEVEL = 3.0
"""Contour level, standard deviations of each map."""


def write_map_comparison(path: Path, before: Path, after: Path) -> None:
    """Write the command file, which names the maps by absolute paths; raises RunError when that fails."""
    lines = [
        "# Opens the sharpened map of the input (#1) and of the best round (#2) side by side.",
        f"open {_quoted(before)} id 1",
        f"open {_quoted(after)} id 2",
        f"volume #1 sdLevel {LEVEL:g} color {BEFORE}",
        f"volume #2 sdLevel {LEVEL:g} color {AFTER}",
        "tile #1,2",
        "view",
    ]
    with atomic_write(path) as stream:
        stream.writelines(f"{line}\n" for line in lines)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
