"""Constraints that make pip install the oldest allowed version of each package, from pyproject.toml.

    python benchmarks/oldest_packages.py > constraints.txt
    python -m pip install -e ".[dev]" -c constraints.txt

Only packages that the program imports are constrained; tools of the tests may be as new as they are.
"""

from __future__ import annotations

import re
from pathlib import Path

OPTIONAL = ("report", "cluster")


def lower_bounds(pyproject: str) -> list[str]:
    """Return `name==version` for each requirement `name>=version` of the core and of `OPTIONAL`."""
    core = pyproject[pyproject.index("\ndependencies = [") :]
    blocks = [core[: core.index("\n]")]]
    extras = pyproject[pyproject.index("[project.optional-dependencies]") :]
    for name in OPTIONAL:
        start = extras.index(f"\n{name} = [")
        blocks.append(extras[start : extras.index("]\n", start)])
    found = re.findall(r'"([A-Za-z0-9_-]+)(?:\[[^"]*\])?>=([0-9.]+)', "\n".join(blocks))
    return sorted({f"{name}=={version}" for name, version in found})


if __name__ == "__main__":
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    print("\n".join(lower_bounds(pyproject.read_text(encoding="utf-8"))))
