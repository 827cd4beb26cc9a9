"""`tomopolish demo`: the other commands in sequence, on a small project."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from tomopolish.cli import align, evaluate, simulate
from tomopolish.cli.grouped import FILE, Section, command, invocation, overwrite_flag
from tomopolish.run.invocation import Invocation

SIMULATION = (
    "--tomograms 2 --particles 40 --box 64 --image_size 512 480 --tilt_step 3 --snr 60 --max_error 9 --seed 1"
)
ALIGNMENT = "--b 64 --r 10"


def _sections() -> list[Section]:
    section = Section("Options")
    section.value("--o", "FOLDER", "Folder of the project and the result.", type=FILE, default=Path("demo"))
    section.value("--j", "N", "Number of threads.", type=int, default=os.cpu_count() or 1)
    overwrite_flag(section)
    return [section]


def _demo(o: Path, j: int, overwrite: bool) -> int:
    from tomopolish.run.folder.guard import Guard
    from tomopolish.run.folder.output import own_folder
    from tomopolish.run.reporter import reporter_for

    project, result = o / "project", o / "aligned"
    always = f"--j {j}{' --overwrite' if overwrite else ''}"
    steps = (
        (simulate.COMMAND, f"--o {_quoted(project)} {SIMULATION} {always}"),
        (
            align.COMMAND,
            f"--i {_quoted(project / 'optimisation_set.star')} {ALIGNMENT} {always} --o {_quoted(result)}",
        ),
        (
            evaluate.COMMAND,
            f"--truth {_quoted(project / 'truth.json')} --i {_quoted(result / 'optimisation_set.star')}",
        ),
    )
    debug = invocation().debug
    with own_folder(Guard(folder=o, shown=f"--o {o}", command="demo"), invocation().command):
        for step, options in steps:
            line = f"tomopolish {step.name} {options}"
            reporter_for(sys.stdout).say(f"\n$ {line}")
            arguments = Invocation(command=tuple(shlex.split(line)), debug=debug)
            status = step.main(shlex.split(options), standalone_mode=False, obj=arguments)
            if status:
                return int(status)
    return 0


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


COMMAND = command(
    "demo",
    _demo,
    _sections(),
    text="Simulate a small project with a known truth, align it, and say in the last line what improved. "
    "The commands are shown. An earlier demo in the folder is replaced.",
)
