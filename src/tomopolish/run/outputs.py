"""Files of an earlier run into the same folder that do not belong to the new results.

Each run leaves a list of the files it wrote. What the list of the run before names, what nobody has changed
since, and what the new run did not write again, is removed; nothing else ever is.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tomopolish.dataset.files import atomic_write
from tomopolish.run.store import FOLDER_NAME
from tomopolish.settings.alignment import AlignSettings

LIST_NAME = "written.json"
"""Name of the list, beside the results of single tomograms."""

_OF_SPECIES = (
    "optimisation_set.star",
    "particles.star",
    "motion.star",
    "uncertainty.star",
    "Trajectories/*_x1.ply",
    "Trajectories/*_x8.ply",
)
_DIAGNOSTICS = ("CCsum_*.mrc", "diag_*_frq_weight.mrc")
_OF_RUN = (
    "tomograms.star",
    "tilt_series/*.star",
    "evaluation/fsc_*.star",
    *_DIAGNOSTICS,
)

_Stamp = tuple[int, int]
"""Size, bytes, and time of the last change, ns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EarlierOutputs:
    """What an output folder held when a run began; see `look_for_outputs`.

    Attributes
    ----------
    listed
        Files that the earlier run wrote, with what they were then.
    found
        Files under the names of results, with their number on the file system and what they are.
    """

    folder: Path
    patterns: tuple[str, ...]
    keep_diagnostics: bool
    listed: Mapping[str, _Stamp]
    found: Mapping[str, tuple[int, _Stamp]]

    def remove_stale(self) -> list[str]:
        """Remove what the run that has ended did not write again, and list what it wrote.

        Returns
        -------
        The removed files, relative to the folder.
        """
        now = dict(_files(self.folder, self.patterns))
        written = {
            name: stamp for name, (number, stamp) in now.items() if self.found.get(name) != (number, stamp)
        }
        removed = []
        for name, stamp in self.listed.items():
            if name in written or not _is_result(name):
                continue
            path = self.folder / name
            identity = _identity(path)
            if identity is None or identity[1] != stamp:
                continue
            if self.keep_diagnostics and any(Path(name).match(p) for p in _DIAGNOSTICS):
                written[name] = stamp
                continue
            with contextlib.suppress(OSError):
                path.unlink()
                removed.append(name)
            if path.parent != self.folder:
                with contextlib.suppress(OSError):  # it holds something else
                    path.parent.rmdir()
        with atomic_write(self.folder / FOLDER_NAME / LIST_NAME) as stream:
            json.dump(written, stream, indent=0)
        return removed


def look_for_outputs(settings: AlignSettings) -> EarlierOutputs:
    """Look at the output folder of a run that is about to begin; changes nothing."""
    folder = settings.run.output_folder.absolute()
    patterns = [*_OF_RUN, *_OF_SPECIES]
    patterns += [f"{species.name}/{p}" for species in settings.inputs.species for p in _OF_SPECIES]
    return EarlierOutputs(
        folder=folder,
        patterns=tuple(patterns),
        keep_diagnostics=settings.run.only_do_unfinished,
        listed=_read_list(folder / FOLDER_NAME / LIST_NAME),
        found=dict(_files(folder, tuple(patterns))),
    )


def _files(folder: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, _Stamp]]]:
    for pattern in patterns:
        for path in folder.glob(pattern):
            identity = _identity(path)
            if identity is not None:
                yield path.relative_to(folder).as_posix(), identity


def _identity(path: Path) -> tuple[int, _Stamp] | None:
    """Return number, size and time of a plain file; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    if path.is_symlink() or not path.is_file():
        return None
    return found.st_ino, (found.st_size, found.st_mtime_ns)


def _is_result(name: str) -> bool:
    """Whether a name is one that runs give: a list that somebody has edited removes nothing else."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts:
        return False
    own = any(_matches(name, p) for p in (*_OF_RUN, *_OF_SPECIES))
    return own or any(_matches("/".join(parts[1:]), p) for p in _OF_SPECIES)


def _matches(name: str, pattern: str) -> bool:
    expression = "[^/]*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(expression, name, re.DOTALL) is not None


def _read_list(path: Path) -> dict[str, _Stamp]:
    """Read what the earlier run wrote; nothing where there is no list, or it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): (int(stamp[0]), int(stamp[1])) for name, stamp in content.items()}
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return {}
