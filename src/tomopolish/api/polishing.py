"""`polish`: rounds of alignment and reconstruction, from a project to its sharpest map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tomopolish.api.keywords import AnyPath, PolishOptions, public, settings_of
from tomopolish.api.projects import project_of, python_call, with_boxes
from tomopolish.api.requests import align_request
from tomopolish.api.showing import Result, data_frame, reporter_of
from tomopolish.errors import InputError
from tomopolish.plain_text import counted

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Unpack

    from tomopolish.dataset.species import Project
    from tomopolish.output.table import Table
    from tomopolish.results.rounds import Round


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PolishRun(Result):
    """A project after polishing.

    Attributes
    ----------
    rounds
        Every round, the input first.
    reason
        Why the run ended, as a sentence.
    output_folder
        Where the results are.
    optimisation_sets
        Species → the set that names the results of the best round.
    report_path
        ``report.html``, where there is one.
    warnings
        One sentence each.
    """

    rounds: tuple[Round, ...]
    reason: str
    output_folder: Path
    optimisation_sets: Mapping[str, Path]
    report_path: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def optimisation_set(self) -> Path:
        """The optimisation set of the first, usually the only, species."""
        return next(iter(self.optimisation_sets.values()))

    @property
    def best(self) -> Round:
        """The round whose half maps agree best."""
        from tomopolish.results.rounds import best_round

        return best_round(self.rounds)

    def facts(self) -> list[str]:
        """Return the number of rounds, the resolution, and where the results are."""
        from tomopolish.rounds.wording import resolutions

        resolution = f"{resolutions(self.best)} at FSC 0.143"
        return [counted(len(self.rounds) - 1, "round"), resolution, f"{self.output_folder}/"]

    def sentence(self) -> str:
        """Say why the run ended and what the best round reached, as the command does."""
        from tomopolish.output.rounds import gain_sentence

        return f"{self.reason} {gain_sentence(self.rounds)}"

    @property
    def tables(self) -> tuple[Table, ...]:
        """The command's table of rounds."""
        from tomopolish.output.rounds import rounds_table

        return (rounds_table(self.rounds),)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return a row for each round as a pandas DataFrame; raises RunError without pandas."""
        from tomopolish.output.rounds import round_rows

        return data_frame(round_rows(self.rounds))


@public(PolishOptions)
def polish(
    project: Project | AnyPath | Mapping[str, Project | AnyPath],
    output_folder: AnyPath,
    *,
    box_px: int | Mapping[str, int],
    range_px: int = 20,
    symmetry: str | Mapping[str, str] = "C1",
    threads: int = 1,
    show_progress: bool = False,
    **options: Unpack[PolishOptions],
) -> PolishRun:
    """Refine a project in rounds until its half maps gain no more, as `tomopolish polish` does.

    Parameters
    ----------
    project
        What `load` returns, the path of an optimisation set, or species' name → one of these, as in `align`.
        Its half maps are the first round's references; without half maps, these are reconstructed from the
        input.
    output_folder
        Receives a folder for each round, and the best round's optimisation set, sharpened map and FSC.
    box_px, range_px
        Box around each particle (one, or species → box), and the largest displacement that the first round
        searches.
    symmetry
        Point group (one, or species → point group): C1, C2 …, D2 …, T, O, I1, I2.
    threads, show_progress
        As in `align`.
    **options
        Those of `align`, but for shifts alone, ``evaluate`` and ``diagnostics``, and of `PolishSettings`:
        ``max_rounds``: largest number of rounds (8); ``crop_px``: edge of the maps;
        ``initial_resolution_angstrom``: limit of the references in the first round; ``own_references``: start
        from half maps of the input even where there are others. Without any of ``joint``, ``orientations``,
        ``defocus`` and so on, ``joint`` is True.

    Returns
    -------
    The rounds, and where the results are.

    Raises
    ------
    InputError
        When arguments or data cannot work.
    RunError
        When a round cannot be computed, or the results cannot be written.
    """
    from dataclasses import fields

    from tomopolish.rounds.polish import polish_project
    from tomopolish.settings.joint import JointSettings
    from tomopolish.settings.polish import PolishSettings

    chosen = _with_symmetries(with_boxes(project_of(project), box_px), symmetry)
    keywords = {"box_px": box_px, "range_px": range_px, "threads": threads, **options}
    own = {**({} if isinstance(symmetry, Mapping) else {"symmetry": symmetry}), **options}
    stated = {"symmetry": symmetry, **keywords}
    invocation = python_call("polish", chosen, output_folder, **stated)
    if not any(name in options for name in ("joint", *(field.name for field in fields(JointSettings)))):
        keywords["joint"] = True
    chosen, align = align_request(chosen, output_folder, keywords)
    settings = settings_of(PolishSettings, {**own, "align": align})
    reporter = reporter_of(show_progress)
    outcome = polish_project(settings, invocation, reporter, project=chosen)
    names = [species.name for species in chosen.species]
    return PolishRun(
        rounds=outcome.rounds,
        reason=outcome.reason,
        output_folder=settings.align.run.output_folder,
        optimisation_sets=dict(zip(names, outcome.optimisation_sets, strict=True)),
        report_path=outcome.page,
        warnings=reporter.warnings,
    )


def _with_symmetries(project: Project, symmetry: str | Mapping[str, str]) -> Project:
    """Return the project with a point group for each species, where they are named one by one."""
    if not isinstance(symmetry, Mapping):
        return project
    missing = [each.name for each in project.species if each.name not in symmetry]
    if missing:
        raise InputError(
            f"symmetry: no point group is given for {missing[0]}; add it, or give one name for all"
        )
    species = [replace(each, symmetry=symmetry[each.name]) for each in project.species]
    return replace(project, species=tuple(species))
