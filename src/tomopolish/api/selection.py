"""`select`: sets without bad particles and tilt images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopolish.api.alignment import AlignmentRun
from tomopolish.api.keywords import AnyPath, SelectOptions, public, settings_of
from tomopolish.api.projects import folder_of, project_of, python_call
from tomopolish.api.showing import Result, data_frame, reporter_of
from tomopolish.errors import InputError
from tomopolish.plain_text import counted
from tomopolish.settings.wording import in_python

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Unpack

    from tomopolish.dataset.species import Project
    from tomopolish.run.commands.select import Selection


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SelectionRun(Result):
    """Sets that were cleaned.

    Attributes
    ----------
    optimisation_sets
        Species → its new optimisation set.
    selection
        Which particles and tilt images are left out, and why.
    warnings
        One sentence each.
    """

    output_folder: Path
    optimisation_sets: Mapping[str, Path]
    selection: Selection
    warnings: tuple[str, ...] = ()

    @property
    def optimisation_set(self) -> Path | None:
        """The new optimisation set of a single species; None where there are several."""
        sets = list(self.optimisation_sets.values())
        return sets[0] if len(sets) == 1 else None

    def facts(self) -> list[str]:
        """Return the numbers of particles and tilt images that are left out, and where the sets are."""
        choice = self.selection.choice
        particles = sum(sum(chosen.counts().values()) for chosen in choice.particles)
        tilts = sum(choice.tilt_counts().values())
        left_out = f"without {counted(particles, 'particle')} and {counted(tilts, 'tilt image')}"
        return [left_out, f"{self.output_folder}/"]

    def sentence(self) -> str:
        """Say how many particles and tilt images remain, as the command does."""
        return in_python(" ".join(self.selection.sentences()))

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the particles as a pandas DataFrame, a row each, with the reason of those left out.

        Raises RunError without pandas.
        """
        selection = self.selection
        rows = [
            {"species": species.name, "particle": name, "left_out": reason}
            for species, chosen in zip(selection.project.species, selection.choice.particles, strict=True)
            for name, reason in zip(species.dataset.particles.names, chosen.reasons, strict=True)
        ]
        return data_frame(rows)


@public(SelectOptions)
def select(
    result: AlignmentRun | Project | Mapping[str, Project | AnyPath] | AnyPath,
    output_folder: AnyPath,
    *,
    scores: AnyPath | Sequence[AnyPath] | None = None,
    min_probability: float | None = None,
    drop_flagged: bool = False,
    drop_tilts: bool = False,
    show_progress: bool = False,
    **options: Unpack[SelectOptions],
) -> SelectionRun:
    """Write sets without particles and tilt images of bad scores, as `tomopolish select` does.

    Parameters
    ----------
    result
        What `align` returned, with an output folder; or that folder, an optimisation set, or a project.
    output_folder
        Receives ``optimisation_set.star``, ``particles.star``, and with ``drop_tilts`` the tomogram set;
        those of several species are in folders of their names.
    scores
        File of scores, or one for each species; None: ``scores.star`` beside each optimisation set.
    min_probability
        Particles of a lower probability are left out.
    drop_flagged
        Whether flagged particles are left out. With neither, both apply, with a probability of 0.5.
    drop_tilts
        Whether flagged tilt images are left out.
    show_progress
        As in `align`.
    **options
        ``overwrite``: replace files that no earlier selection wrote.

    Returns
    -------
    The new sets, and what is left out.

    Raises
    ------
    InputError
        When arguments or data cannot work; nothing has been written then.
    RunError
        When a file cannot be written.
    """
    from tomopolish.run.commands.select import SelectSettings, open_sets, select_project

    if isinstance(result, AlignmentRun):
        if result.output_folder is None:
            raise InputError("result: the run is in memory only; select(run.write(FOLDER), ...) works")
        beginning = result.project.first.files.working_directory  # the current one may be another by now
        project = open_sets([beginning / result.output_folder], beginning)
        result = result.output_folder
    else:
        project = open_sets([Path(result)]) if isinstance(result, str | Path) else project_of(result)
    stated = [] if scores is None else [scores] if isinstance(scores, str | Path) else list(scores)
    keywords: dict[str, Any] = {
        "min_probability": min_probability,
        "drop_flagged": drop_flagged,
        "drop_tilts": drop_tilts,
        **options,
    }
    written = {"scores": [str(path) for path in stated]} if stated else {}
    invocation = python_call("select", result, output_folder, **written, **keywords)
    folder = folder_of(project, output_folder)
    settings = settings_of(SelectSettings, {**keywords, "output_folder": folder})
    reporter = reporter_of(show_progress)
    selection = select_project(project, [Path(path) for path in stated], settings, reporter, invocation)
    return SelectionRun(
        output_folder=folder,
        optimisation_sets=selection.optimisation_sets,
        selection=selection,
        warnings=reporter.warnings,
    )
