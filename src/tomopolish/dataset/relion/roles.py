"""Roles of files in a data set, and messages on files of the wrong kind.

Users give particles.star instead of optimisation_set.star, a job's folder instead of a file in it, or a
compressed map: the message says what the file is, what is needed instead, and where to find it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tomopolish.dataset.contents import content_of
from tomopolish.dataset.files import exists, not_found
from tomopolish.dataset.relion import kinds
from tomopolish.dataset.relion.kinds import StarKind, kind_of
from tomopolish.dataset.star import StarFile, read_star
from tomopolish.errors import InputError
from tomopolish.plain_text import listed

_MOST_NAMES = 3


@dataclass(frozen=True, kw_only=True)
class Role:
    """Role of a file in a data set.

    Attributes
    ----------
    title
        Description with its article: "a particle set".
    option
        Option for such a file.
    usual
        Usual names of the file, and the jobs that write it.
    patterns
        Usual file names, the most likely first.
    kinds
        Accepted kinds of STAR file; none where the file is a map.
    """

    title: str
    option: str
    usual: str
    patterns: tuple[str, ...]
    kinds: tuple[StarKind, ...] = ()


_HALF_MAP = "an unfiltered half map (half1.mrc and half2.mrc of Reconstruct particle)"
ROLES = {
    "optimisation set": Role(
        title="an optimisation set",
        option="--i",
        usual="the optimisation_set.star of Reconstruct particle, Extract subtomos or 3D auto-refine",
        patterns=("optimisation_set.star", "*_optimisation_set.star"),
        kinds=(kinds.OPTIMISATION_SET,),
    ),
    "tomograms": Role(
        title="a tomogram set",
        option="--t",
        usual="the tomograms.star of Reconstruct tomograms or of CTF refinement",
        patterns=("tomograms.star", "*tomograms.star", "aligned_tilt_series.star"),
        kinds=(kinds.TOMOGRAM_SET,),
    ),
    "particles": Role(
        title="a particle set",
        option="--p",
        usual="the run_data.star of 3D auto-refine",
        patterns=("run_data.star", "particles.star", "*particles.star", "*_data.star"),
        kinds=(kinds.PARTICLE_SET, kinds.PICKS),
    ),
    "trajectories": Role(
        title="a trajectory set",
        option="--mot",
        usual="the motion.star of Bayesian polishing",
        patterns=("motion.star",),
        kinds=(kinds.TRAJECTORIES,),
    ),
    "half map 1": Role(
        title="a half map", option="--ref1", usual=_HALF_MAP, patterns=("half1.mrc", "*half1*.mrc")
    ),
    "half map 2": Role(
        title="a half map", option="--ref2", usual=_HALF_MAP, patterns=("half2.mrc", "*half2*.mrc")
    ),
    "mask": Role(
        title="a mask", option="--mask", usual="the mask of Mask create", patterns=("mask.mrc", "*mask*.mrc")
    ),
    "fsc": Role(
        title="the FSC of the reference",
        option="--fsc",
        usual="the postprocess.star of Post-processing",
        patterns=("postprocess.star", "fsc*.star"),
        kinds=(kinds.FSC, kinds.MODEL),
    ),
}
"""Component of a data set → its role."""


@dataclass(frozen=True, kw_only=True)
class NamedFile:
    """A file of a data set as the user named it.

    Attributes
    ----------
    path
        The file, or the first path where it was looked for.
    named
        Name of the file in the option or table.
    option
        Option that names it; None where a table does.
    source
        File and column that name it, where no option does.
    folders
        Folders in which a relative name was looked for.
    """

    path: Path
    named: str
    option: str | None = None
    source: str = ""
    folders: tuple[Path, ...] = ()

    def check(self, role: Role) -> None:
        """Raise InputError where the file is missing, a folder, or by its first bytes of another kind."""
        if not exists(self.path):
            raise self._error(not_found(self.named, self.folders))
        if self.path.is_dir():
            raise self._error(f"{self.named}: this is a folder; {_in_folder(self.path, self.named, role)}")
        content = content_of(self.path)
        if content is None or (content.is_star if role.kinds else content.is_mrc):
            return
        if content.is_star:
            raise self._error(str(wrong_star(read_star(self.path), role, self.path, self.named)))
        remedy = content.remedy or f"give {role.usual}"
        raise self._error(f"{self.named}: this is {content.description}, not {role.title}; {remedy}")

    def _error(self, sentence: str) -> InputError:
        return InputError(f"{self.option} {sentence}" if self.option else f"{self.source}: {sentence}")


def check_kind(star: StarFile, role: Role, path: Path) -> None:
    """Raise InputError where a STAR file is of a known kind that is not accepted for the role."""
    kind = kind_of(star)
    if kind is not None and kind not in role.kinds:
        raise wrong_star(star, role, path, star.source)


def wrong_star(star: StarFile, role: Role, path: Path, shown: str) -> InputError:
    """Return the error for a STAR file of the wrong kind; it says what the file is, and the remedy."""
    kind = kind_of(star)
    steps = []
    if kind is not None and kind.option and kind.option != role.option:
        steps.append(f"give it with {kind.option}")
    if kind is not None and kind.remedy:
        steps.append(kind.remedy)
    beside = _candidates(path.parent, role, path)
    names = [str(Path(shown.removeprefix(f"{role.option} ")).with_name(name)) for name in beside]
    nearby = f", perhaps {listed(names, 'or')} beside it" if names else ""
    steps.append(f"give {role.usual} with {role.option}{nearby}")
    return InputError(f"{shown}: this is {kinds.described(star)}, not {role.title}; {', and '.join(steps)}")


def _in_folder(folder: Path, named: str, role: Role) -> str:
    found = _candidates(folder, role)
    if found:
        return f"give a file in it: {listed([str(Path(named) / name) for name in found], 'or')}"
    return f"it contains no file named like {role.title}; give {role.usual}"


def _candidates(folder: Path, role: Role, own: Path | None = None) -> list[str]:
    """Return file names in a folder that are usual for a role, the most likely first."""
    try:
        found = [path.name for pattern in role.patterns for path in sorted(folder.glob(pattern))]
    except OSError:
        return []
    return [name for name in dict.fromkeys(found) if own is None or name != own.name][:_MOST_NAMES]
