"""Names of particles: as stated, or made of tomogram and number where those are not unique.

Only trajectories need names: a trajectory set has one table per particle, named like it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tomopolish.dataset.star import StarTable
from tomopolish.dataset.star_table import is_unset
from tomopolish.errors import InputError

NAME = "rlnTomoParticleName"


@dataclass(frozen=True, kw_only=True)
class ParticleNames:
    """One name for each particle, all different.

    Attributes
    ----------
    names
        Names in the order of the table.
    fault
        Fault of the table's own names, as the beginning of a sentence; None: the table's names are used.
    """

    names: list[str]
    fault: str | None = None

    @property
    def remark(self) -> str | None:
        """Return a remark where names were made; None where they were not."""
        if self.fault is None:
            return None
        return (
            f"{self.fault}; particles are named after their tomogram and their number in it "
            f"({self.names[0]}, …), and these names are written only with trajectories"
        )

    def require_stated(self) -> None:
        """Raise InputError where names were made, since trajectories of the input are found by name."""
        if self.fault is not None:
            raise InputError(
                f"{self.fault}, so that trajectories cannot be found; give every particle the {NAME} of its "
                "trajectory, or leave the trajectories out (--mot, rlnTomoTrajectoriesFile)"
            )


def particle_names(table: StarTable, tomograms: Sequence[str]) -> ParticleNames:
    """Return the names of all particles of a table; `tomograms` are those of its rows."""
    fault = _fault(table)
    if fault is None:
        return ParticleNames(names=list(table.strings(NAME)))
    counts: Counter[str] = Counter()
    names = []
    for tomogram in tomograms:
        stem = "_".join(tomogram.split()) or "tomogram"
        counts[stem] += 1
        names.append(f"{stem}/{counts[stem]}")
    return ParticleNames(names=names, fault=f"{table.place}{fault}")


def count_repeated(table: StarTable, labels: Sequence[str]) -> int:
    """Return the number of rows that equal an earlier row in these columns."""
    cells = [table.strings(label) for label in labels if label in table]
    return len(table) - len(set(zip(*cells, strict=True)))


def _fault(table: StarTable) -> str | None:
    """Return why a table's own names are missing, invalid or not unique; None where they can be used."""
    if NAME not in table:
        return f": {NAME} is missing"
    names = list(table.strings(NAME))
    for row, name in enumerate(names):
        if is_unset(name):
            return f", row {row + 1}: {NAME} is {name!r}, which is not a name"
        if len(name.split()) != 1:
            return (
                f", row {row + 1}: {NAME} {name[:60]!r} has spaces, which names of trajectories cannot have"
            )
    if len(set(names)) == len(names):
        return None
    first: dict[str, int] = {}
    row = next(row for row, name in enumerate(names) if first.setdefault(name, row) != row)
    return f", row {row + 1}: {NAME} {names[row][:60]!r} is also that of row {first[names[row]] + 1}"
