"""`tune`: the motion prior that suits a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopolish.api.keywords import AnyPath, TuneOptions, checked, public, settings_of
from tomopolish.api.projects import project_of, python_call, selecting, single, with_boxes
from tomopolish.api.requests import align_settings
from tomopolish.api.showing import Result, named_table, reporter_of
from tomopolish.plain_text import counted
from tomopolish.settings.alignment import MotionSettings
from tomopolish.settings.wording import in_python

if TYPE_CHECKING:
    import pandas
    from typing_extensions import Unpack

    from tomopolish.dataset.species import Project
    from tomopolish.output.table import Table
    from tomopolish.run.commands.tune import TuneSettings
    from tomopolish.tune.tuning import Tuning


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TuningRun(Result):
    """The motion prior that was found.

    Attributes
    ----------
    motion
        For ``align(..., motion=...)``; None where the images show no motion that neighbours share.
    tuning
        All priors that were tried, with their evidence.
    tomograms
        Names of those that were used.
    failures
        Tomogram → why it was left out.
    plot_path, json_path
        Plot of the evidence, and all figures.
    """

    motion: MotionSettings | None
    tuning: Tuning
    tomograms: tuple[str, ...]
    failures: Mapping[str, str]
    output_folder: Path
    plot_path: Path
    json_path: Path
    warnings: tuple[str, ...] = ()

    def facts(self) -> list[str]:
        """Return the number of tomograms, the prior, and where the plot is."""
        found = "no shared motion"
        if self.motion is not None:
            scales = (self.motion.velocity_scale, self.motion.distance_scale)
            found = "velocity_scale={:.3g}, distance_scale={:.4g}".format(*scales)
            found += ", square-exponential" if self.motion.squared_exponential else ""
        return [counted(len(self.tomograms), "tomogram"), found, f"{self.output_folder}/"]

    def sentence(self) -> str:
        """Say what the images tell, and what they do not, as the command does."""
        from tomopolish.output.tuning import verdict

        return in_python(" ".join(verdict(self.tuning)))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The command's tables: the best prior for each distance scale, and the candidates."""
        from tomopolish.output.tuning import candidates_table, distance_table

        return (distance_table(self.tuning), candidates_table(self.tuning))

    def to_dataframe(self, table: str = "tomograms") -> pandas.DataFrame:
        """Return a table as a pandas DataFrame.

        Parameters
        ----------
        table
            ``"tomograms"``: the noise of each; ``"distances"``: the best velocity scale for each kernel and
            distance scale; ``"candidates"``: the priors among which the choice fell. Scales are in Å per
            e⁻/Å², or with `absolute` in Å per tilt image and Å.

        Raises
        ------
        InputError
            When there is no such table.
        RunError
            When pandas is not installed.
        """
        from tomopolish.output.tuning import candidate_rows, distance_rows, noise_rows

        return named_table(
            table,
            {
                "tomograms": lambda: noise_rows(self.tuning, self.tomograms, self.failures),
                "distances": lambda: distance_rows(self.tuning),
                "candidates": lambda: candidate_rows(self.tuning),
            },
        )


@public(TuneOptions)
def tune(
    project: Project | AnyPath,
    output_folder: AnyPath,
    *,
    box_px: int,
    range_px: int = 20,
    threads: int = 1,
    show_progress: bool = False,
    **options: Unpack[TuneOptions],
) -> TuningRun:
    """Find the motion prior for which the images are most probable, as `tomopolish tune` does.

    Parameters
    ----------
    project
        What `load` returns, or the path of an optimisation set, of one species.
    output_folder
        Receives ``tune.json``, ``tune.svg`` and a note.
    box_px, range_px, threads, show_progress
        As in `align`.
    **options
        ``tomograms`` (5): number of tomograms, those with most particles; ``max_particles`` (100): used of
        each. ``distance_scale``, ``squared_exponential``: keep this instead of searching it; ``absolute``:
        scales per tilt image. Fields of `WindowSettings` and `WeightSettings`, ``reference_scale``,
        ``exclude_tilts``, ``max_tilt_angle_degrees``, ``max_dose``, ``device``, ``overwrite`` and ``strict``:
        as in `align`.

    Returns
    -------
    The prior, and the evidence for it.

    Raises
    ------
    InputError
        When arguments or data cannot work; nothing has been computed then.
    RunError
        When no tomogram could be aligned, or a file cannot be written.
    """
    from tomopolish.run.commands.tune import JSON_NAME, PLOT_NAME, run_tune

    chosen = project_of(project)
    single(chosen, "tune")
    chosen = with_boxes(chosen, box_px)
    keywords: dict[str, Any] = {"box_px": box_px, "range_px": range_px, "threads": threads, **options}
    invocation = python_call("tune", chosen, output_folder, **keywords)
    settings = _tune_settings(chosen, output_folder, keywords)
    carried = {name: value for name, value in keywords.items() if name not in OWN}

    def align_call(motion: MotionSettings | None) -> str:
        prior = {} if motion is None else {"motion": motion}
        return python_call("align", chosen, "FOLDER", **carried, **prior).command[-1]

    reporter = reporter_of(show_progress)
    outcome = run_tune(settings, invocation, align_call, reporter, project=selecting(chosen, keywords))
    folder = settings.align.run.output_folder
    return TuningRun(
        motion=outcome.motion,
        tuning=outcome.tuning,
        tomograms=outcome.tomograms,
        failures={name: in_python(reason) for name, reason in outcome.failures.items()},
        output_folder=folder,
        plot_path=folder / PLOT_NAME,
        json_path=folder / JSON_NAME,
        warnings=reporter.warnings,
    )


OWN = ("tomograms", "max_particles", "distance_scale", "squared_exponential", "absolute", "overwrite")
"""Keywords that an alignment with the prior does not take over."""


def _tune_settings(project: Project, output_folder: AnyPath, keywords: Mapping[str, Any]) -> TuneSettings:
    from tomopolish.run.commands.tune import TuneSettings

    distance = checked("distance_scale", keywords.get("distance_scale"), "float | None")
    kernel = checked("squared_exponential", keywords.get("squared_exponential"), "bool | None")
    stated = {"absolute": keywords.get("absolute"), "distance_scale": distance, "squared_exponential": kernel}
    motion = settings_of(MotionSettings, {name: value for name, value in stated.items() if value is not None})
    align = align_settings(project, output_folder, {**keywords, "motion": motion})
    return settings_of(
        TuneSettings,
        {
            **keywords,
            "align": align,
            "search_distance": distance is None,
            "search_kernel": kernel is None,
        },
    )
