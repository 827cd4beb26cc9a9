"""`tomopolish export`: alignments, positions and trajectories for other programs."""

from __future__ import annotations

import sys
from typing import Any

import click

from tomopolish.cli.fields import settings_of
from tomopolish.cli.grouped import FILE, NUMBER, Section, command, invocation, overwrite_flag
from tomopolish.cli.shared import add_relion_version, add_sets, open_sets

FORMATS = ("imod", "aretomo", "warp", "napari", "chimerax", "copick", "portal")


def _sections() -> list[Section]:
    source = Section("Input")
    add_sets(source)
    add_relion_version(source)
    output = Section("Output")
    output.value(
        "--o", "FOLDER", "Output folder, with a subfolder for each format.", type=FILE, required=True
    )
    output.value(
        "--format",
        "NAME",
        f"Format to write: {', '.join(FORMATS)}; repeatable.  [default: all]",
        type=click.Choice(FORMATS),
        multiple=True,
    )
    output.value(
        "--angpix",
        "Å",
        "Voxel size of the tomograms shown in napari, copick and the portal: the unit of coordinates.  "
        "[default: the tilt images' pixel size]",
        type=NUMBER,
    )
    output.value(
        "--magnify", "FACTOR", "Factor on the motion in napari and ChimeraX.", type=NUMBER, default=1.0
    )
    overwrite_flag(output)
    return [source, output]


def _export(**values: Any) -> int:
    from tomopolish.run.commands.export import ExportSettings, export_dataset, export_table
    from tomopolish.run.reporter import reporter_for

    formats = tuple(name for name in FORMATS if name in (values["format"] or FORMATS))
    settings = settings_of(ExportSettings, values, formats=formats)
    dataset = open_sets(values)
    reporter = reporter_for(sys.stdout)
    export = export_dataset(dataset, settings, reporter, invocation())
    reporter.show(export_table(export.tomograms))
    reporter.say(f"\nIn {settings.output_folder}: {', '.join(settings.formats)}.")
    if export.failures:
        reporter.say(f"Left out: {', '.join(export.failures)}.")
    return 1 if export.failures else 0


COMMAND = command(
    "export",
    _export,
    _sections(),
    text="Write alignments for IMOD, AreTomo and Warp, particle positions and trajectories for napari and "
    "ChimeraX, and positions with orientations for copick, ArtiaX and the CryoET Data Portal.",
    epilog="Example: tomopolish export --i out/optimisation_set.star --format imod --o exported",
)
