"""`export` and `report`: results for other programs, and for readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomopolish.api.keywords import AnyPath, public, settings_of
from tomopolish.api.projects import folder_of, project_of, python_call, single
from tomopolish.api.showing import Result, data_frame, reporter_of
from tomopolish.plain_text import counted
from tomopolish.settings.wording import in_python

if TYPE_CHECKING:
    import pandas

    from tomopolish.dataset.species import Project
    from tomopolish.output.table import Table
    from tomopolish.run.commands.export import ExportedTomogram


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ExportRun(Result):
    """Files for other programs.

    Attributes
    ----------
    folders
        Format → folder of its files.
    tomograms
        Tomogram → what became of it, and what the formats leave out.
    failures
        Tomogram → why it was left out.
    warnings
        One sentence each.
    """

    output_folder: Path
    folders: Mapping[str, Path]
    tomograms: Mapping[str, ExportedTomogram]
    failures: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def facts(self) -> list[str]:
        """Return the number of tomograms, the formats, and where the files are."""
        failed = [f"{len(self.failures)} failed"] if self.failures else []
        return [counted(len(self.tomograms), "tomogram"), *failed, *self.folders, f"{self.output_folder}/"]

    def sentence(self) -> str:
        """Say where the files are, and which tomograms are left out, as the command does."""
        left_out = f" Left out: {', '.join(self.failures)}." if self.failures else ""
        return f"In {self.output_folder}: {', '.join(self.folders)}.{left_out}"

    @property
    def tables(self) -> tuple[Table, ...]:
        """The command's table of residuals."""
        from tomopolish.run.commands.export import export_table

        return (export_table(self.tomograms),)

    def to_dataframe(self) -> pandas.DataFrame:
        """Return residuals as a pandas DataFrame, a row for each tomogram; raises RunError without pandas."""
        rows: list[dict[str, Any]] = [
            {
                "tomogram": name,
                "tilts": one.tilts,
                "particles": one.particles,
                **{f"residual_{key}_px": value for key, value in one.residual_px.items()},
                "motion_px": one.motion_px,
                "deformation_px": one.deformation_px,
                "failure": "",
            }
            for name, one in self.tomograms.items()
        ]
        rows += [{"tomogram": name, "failure": reason} for name, reason in self.failures.items()]
        return data_frame(rows)


@public()
def export(
    project: Project | AnyPath,
    output_folder: AnyPath,
    *,
    formats: str | Sequence[str] | None = None,
    voxel_angstrom: float | None = None,
    magnification: float = 1.0,
    overwrite: bool = False,
    show_progress: bool = False,
) -> ExportRun:
    """Write alignments, positions and trajectories for other programs, as `tomopolish export` does.

    Parameters
    ----------
    project
        What `load` returns, or the path of an optimisation set, of one species.
    output_folder
        Each format gets a folder in it.
    formats
        Some of ``imod``, ``aretomo``, ``warp``, ``napari``, ``chimerax``, ``copick``, ``portal``; None: all.
    voxel_angstrom
        Voxel size of the tomograms that napari, copick and the portal show; None: that of the tilt images.
    magnification
        Of the motion in napari and ChimeraX.
    overwrite
        Whether files may be replaced that no earlier export wrote.
    show_progress
        As in `align`.

    Returns
    -------
    Where the files are, and how exactly they describe each tomogram.

    Raises
    ------
    InputError
        When arguments or data cannot work, or a file would replace what it must not.
    RunError
        When a file cannot be written.
    """
    from tomopolish.run.commands.export import FORMATS, ExportSettings, export_dataset

    chosen = project_of(project)
    dataset = single(chosen, "export")
    asked = FORMATS if formats is None else (formats,) if isinstance(formats, str) else tuple(formats)
    keywords: dict[str, Any] = {
        "formats": asked,
        "voxel_angstrom": voxel_angstrom,
        "magnification": magnification,
        "overwrite": overwrite,
    }
    folder = folder_of(chosen, output_folder)
    settings = settings_of(ExportSettings, {**keywords, "output_folder": folder})
    reporter = reporter_of(show_progress)
    written = export_dataset(
        dataset, settings, reporter, python_call("export", chosen, output_folder, **keywords)
    )
    return ExportRun(
        output_folder=folder,
        folders={name: folder / name for name in settings.formats},
        tomograms=written.tomograms,
        failures={name: in_python(reason) for name, reason in written.failures.items()},
        warnings=reporter.warnings,
    )


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReportRun(Result):
    """A report that was written again.

    Attributes
    ----------
    path
        ``report.html``.
    damaged
        Tomogram → why its stored result could not be read.
    """

    path: Path
    damaged: Mapping[str, str]

    def facts(self) -> list[str]:
        """Return where the report is."""
        return [f"{len(self.damaged)} damaged"] * bool(self.damaged) + [str(self.path)]

    def sentence(self) -> str:
        """Say where the report is, as the command does."""
        return f"Report: {self.path}"


@public()
def report(folder: AnyPath, *, overwrite: bool = False, show_progress: bool = False) -> ReportRun:
    """Write ``report.html`` of an output folder of `align` again, as `tomopolish report` does.

    Parameters
    ----------
    folder
        The output folder; that of an interrupted run is reported as far as it came.
    overwrite
        Whether files may be replaced that no alignment wrote.
    show_progress
        As in `align`.

    Returns
    -------
    Where the report is.

    Raises
    ------
    InputError
        When the folder holds no results, or is in use.
    RunError
        When a library is missing, or a file cannot be written.
    """
    from tomopolish.run.commands.report import report_of_folder

    path, damaged = report_of_folder(
        Path(folder), python_call("report", folder), reporter_of(show_progress), overwrite=overwrite
    )
    return ReportRun(path=path, damaged={name: in_python(reason) for name, reason in damaged.items()})
