"""`tomopolish reconstruct`: half maps and their FSC."""

from __future__ import annotations

import sys
from typing import Any

from tomopolish.cli.fields import settings_of
from tomopolish.cli.grouped import FILE, Section, command, invocation, overwrite_flag
from tomopolish.cli.shared import (
    add_relion_version,
    add_sets,
    add_tilt_options,
    open_sets,
    tilt_selection,
)


def _sections() -> list[Section]:
    source = Section("Input")
    add_sets(source)
    source.value("--mask", "MRC", "Mask of the FSC; overrides that of --i.", type=FILE)
    add_relion_version(source)
    add_tilt_options(source)
    maps = Section("Maps")
    text = "Box size: edge of the box around each particle image."
    maps.value("--b", "PX", text, type=int, required=True)
    maps.value("--crop", "PX", "Edge of the maps.  [default: as --b]", type=int)
    maps.value("--sym", "GROUP", "Point group: C1, C2 …, D2 …, T, O, I1, I2.", default="C1")
    output = Section("Output")
    output.value("--o", "FOLDER", "Output folder.", type=FILE, required=True)
    output.value("--j", "N", "Number of threads.", type=int, default=1)
    overwrite_flag(output)
    return [source, maps, output]


def _reconstruct(**values: Any) -> int:
    from tomopolish.run.commands.reconstruct import (
        ReconstructSettings,
        reconstruct_dataset,
        resolution_sentence,
    )
    from tomopolish.run.reporter import reporter_for

    settings = settings_of(ReconstructSettings, values)
    dataset = open_sets(values, mask=values["mask"], selection=tilt_selection(values))
    reporter = reporter_for(sys.stdout)
    maps = reconstruct_dataset(dataset, settings, reporter, invocation())
    pixel_size = dataset.pixel_size_angstrom
    reporter.say(resolution_sentence(maps.fsc, pixel_size, settings.output_folder, maps.failures))
    return 1 if maps.failures else 0


COMMAND = command(
    "reconstruct",
    _reconstruct,
    _sections(),
    text="Reconstruct half maps by weighted back-projection of the tilt images, and compute their FSC.",
    epilog="Example: tomopolish reconstruct --i out/optimisation_set.star --b 128 --o maps",
)
