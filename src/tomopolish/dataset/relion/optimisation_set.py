"""Optimisation sets: the files that belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tomopolish.dataset.files import rebased, resolve_path, searched_folders, shown_path
from tomopolish.dataset.relion.kinds import LABELS
from tomopolish.dataset.relion.roles import ROLES, NamedFile, wrong_star
from tomopolish.dataset.star import StarTable, read_star, write_star
from tomopolish.errors import InputError


@dataclass(frozen=True, kw_only=True)
class OptimisationSet:
    """The files of a data set.

    Attributes
    ----------
    paths
        Component (a key of `LABELS`) → its file.
    table
        The optimisation set as read, with components from options written into it.
    working_directory
        Folder of relative names: RELION's project folder.
    source
        The optimisation set's file, or None where all components come from options.
    named
        Names of the components in the optimisation set or the options.
    """

    paths: Mapping[str, Path]
    table: StarTable
    working_directory: Path
    source: str | None = None
    named: Mapping[str, NamedFile] = field(default_factory=dict)

    def require(self, component: str) -> Path:
        """Return the file of a component.

        Raises InputError when the data set has none, when the file is missing, or when its first bytes show
        that it is of another kind.
        """
        if component in self.paths:
            if component in self.named:
                self.named[component].check(ROLES[component])
            return self.paths[component]
        option = ROLES[component].option if component in ROLES else "--i"
        if self.source is None:
            raise InputError(
                f"no file is given for the {component}; give {option}, or an optimisation set with --i"
            )
        raise InputError(
            f"{self.source}: {LABELS[component]} is missing; add it to the optimisation set, or give {option}"
        )

    def shown(self, component: str) -> str:
        """Return the name of a component's file in messages."""
        return shown_path(self.paths[component], self.working_directory)

    def updated(
        self,
        files: Mapping[str, Path],
        named: Mapping[str, NamedFile] | None = None,
        *,
        version: str | None = None,
    ) -> OptimisationSet:
        """Return a copy with some components replaced; `named` are the user's names of them.

        `version` is the version tag of a table that has none.
        """
        names = {c: shown_path(path, self.working_directory) for c, path in files.items()}
        kept = {c: file for c, file in self.named.items() if c not in files}
        return replace(
            self,
            paths={**self.paths, **files},
            table=replace(
                self.table.with_columns({LABELS[c]: [name] for c, name in names.items()}),
                version=self.table.version or version,
            ),
            named={**kept, **(named or {})},
        )


def read_optimisation_set(
    path: Path | None, components: Mapping[str, Path | None], *, working_directory: Path
) -> OptimisationSet:
    """Return the files of an optimisation set, if any; `components` that are not None override it.

    Raises InputError when the file is missing, is not an optimisation set, or lists several data sets.
    """
    table, paths, names = StarTable(name="", is_loop=False), {}, {}
    if path is not None:
        table = _read_table(path, working_directory)
        for component, label in LABELS.items():
            named = table.stated(label)
            if named is not None:
                paths[component] = resolve_path(named, path, working_directory)
                names[component] = NamedFile(
                    path=paths[component],
                    named=named,
                    source=f"{path}, {label}",
                    folders=searched_folders(named, path, working_directory),
                )
                table = table.with_columns({label: [rebased(named, path, working_directory)]})
    files = OptimisationSet(
        paths=paths,
        table=table,
        working_directory=working_directory,
        source=None if path is None else str(path),
        named={c: file for c, file in names.items() if c in ROLES},
    )
    given = {c: p for c, p in components.items() if p is not None}
    return files.updated(
        {c: working_directory / p for c, p in given.items()},
        {c: _named_by_option(p, ROLES[c].option, working_directory) for c, p in given.items()},
    )


def _named_by_option(path: Path, option: str, working_directory: Path) -> NamedFile:
    return NamedFile(
        path=working_directory / path,
        named=str(path),
        option=option,
        folders=searched_folders(str(path), None, working_directory),
    )


def _read_table(path: Path, working_directory: Path) -> StarTable:
    role = ROLES["optimisation set"]
    _named_by_option(path, role.option, working_directory).check(role)
    star = read_star(working_directory / path, shown_as=str(path))
    for table in star.tables:
        if any(label in table for label in LABELS.values()):
            if len(table) != 1:
                raise table.error(
                    f"an optimisation set has one row, this has {len(table)}; keep only one of them"
                )
            return table
    raise wrong_star(star, role, working_directory / path, f"{role.option} {path}")


def write_optimisation_set(path: Path, optimisation_set: OptimisationSet) -> None:
    """Write an optimisation set atomically; raises RunError when it cannot be written."""
    write_star(path, [optimisation_set.table])
