"""Changes of the small project before it is polished."""

from __future__ import annotations

from pathlib import Path


def without_references(project: Path) -> None:
    """Leave only the sets in the optimisation set."""
    lines = (project / "optimisation_set.star").read_text().splitlines()
    kept = [line for line in lines if "Reference" not in line]
    (project / "optimisation_set.star").write_text("\n".join([*kept, ""]))
