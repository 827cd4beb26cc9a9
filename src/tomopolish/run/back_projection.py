"""Back-projection of the tomograms of a data set, in groups whose sums are added up in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from tomopolish.dataset.project import Dataset
from tomopolish.dataset.remarks import Remark, Remarks
from tomopolish.dataset.screening import screening_warnings
from tomopolish.errors import RunError, RunStopped, TomopolishError
from tomopolish.imaging.backproject import Reconstruction, empty_reconstruction
from tomopolish.physics.symmetry import point_group
from tomopolish.run.reporter import Reporter

MOST_GROUPS = 16
"""Maximum number of groups of tomograms; a constant, so that sums do not depend on the number of workers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BackProjection:
    """The sums over some or all tomograms of a data set.

    Attributes
    ----------
    failures
        Tomogram → why it is left out.
    remarks
        Tomogram → remarks on reading it.
    """

    sums: Reconstruction
    failures: Mapping[str, str]
    remarks: Mapping[str, Sequence[Remark]]

    def remark_sentences(self) -> list[str]:
        """Return one sentence for each kind of remark."""
        remarks = Remarks()
        for name, of_tomogram in self.remarks.items():
            remarks.add(name, of_tomogram)
        return remarks.sentences()

    def plus(self, later: BackProjection) -> BackProjection:
        """Return the sums over these and over later tomograms."""
        return BackProjection(
            sums=self.sums.plus(later.sums),
            failures={**self.failures, **later.failures},
            remarks={**self.remarks, **later.remarks},
        )


def groups_of(names: Sequence[str]) -> list[Sequence[str]]:
    """Divide names of tomograms into groups of neighbours, for one worker each.

    The sums over a group are added to those over all groups before it. Thus they are the same on any number
    of workers, and one process keeps no more than two of them, which a tree of additions would not allow.
    """
    count = min(len(names), MOST_GROUPS)
    ends = [len(names) * i // count for i in range(count + 1)]
    return [names[first:end] for first, end in pairwise(ends)]


def back_project(
    dataset: Dataset, box_px: int, symmetry: str, threads: int, reporter: Reporter
) -> BackProjection:
    """Return the back-projection of all tomograms of a data set.

    A tomogram that cannot be used is left out, with a warning. Raises InputError when a set lacks columns, or
    the point group is unknown, and RunError when no tomogram can be used.
    """
    dataset.check_columns()
    first, *others = groups_of(dataset.tomogram_names)
    with reporter.open(len(dataset.tomogram_names)):
        projected = back_project_group(dataset, first, box_px, symmetry, threads, reporter)
        for names in others:
            projected = projected.plus(
                back_project_group(dataset, names, box_px, symmetry, threads, reporter)
            )
    return usable(dataset, projected)


def back_project_group(
    dataset: Dataset, names: Sequence[str], box_px: int, symmetry: str, threads: int, reporter: Reporter
) -> BackProjection:
    """Return the back-projection of the named tomograms; within `reporter.open`.

    A tomogram that cannot be used is left out, with a warning.
    """
    sums = empty_reconstruction(box_px, point_group(symmetry))
    failures, remarks = dict[str, str](), dict[str, Sequence[Remark]]()
    with ThreadPoolExecutor(threads) as pool:
        for name in names:
            with reporter.tomogram(name) as progress:
                try:
                    series, particles = dataset.load(name)
                    series = sums.add(series, particles, pool, progress)
                except RunStopped:
                    raise
                except TomopolishError as problem:
                    failures[name] = str(problem)
                    reporter.warn(f"{name} is left out: {problem}")
                    continue
            remarks[name] = series.remarks
            for sentence in screening_warnings(series):
                reporter.warn(sentence)
    return BackProjection(sums=sums.joined(), failures=failures, remarks=remarks)


def usable(dataset: Dataset, projected: BackProjection) -> BackProjection:
    """Return a back-projection of all tomograms; raises RunError where none of them could be used."""
    names = dataset.tomogram_names
    if len(projected.failures) == len(names):
        raise RunError(f"no tomogram can be used; {names[0]}: {projected.failures[names[0]]}")
    return projected
