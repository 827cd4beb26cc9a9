"""`tomopolish evaluate`: errors of a result against the truth of a simulation."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tomopolish.cli.grouped import FILE, Section, command
from tomopolish.cli.shared import add_relion_version, version_from


def _sections() -> list[Section]:
    section = Section("Input")
    section.value("--truth", "JSON", "Truth of the simulation: its truth.json.", type=FILE, required=True)
    section.value("--i", "STAR", "Optimisation set or output folder to evaluate.", type=FILE, required=True)
    section.value(
        "--before",
        "STAR",
        "Optimisation set before refinement.  [default: the set beside the truth]",
        type=FILE,
    )
    add_relion_version(section)
    output = Section("Output")
    output.flag("--json", "Print JSON instead of a table.")
    return [section, output]


def _evaluate(truth: Path, i: Path, before: Path | None, relion_version: str, json: bool) -> int:
    from tomopolish.output.evaluation import evaluation_json, evaluation_tables
    from tomopolish.run.reporter import reporter_for
    from tomopolish.simulate.evaluate import evaluate_project

    evaluation = evaluate_project(i, truth, before=before, relion_version=version_from(relion_version))
    if json:
        click.echo(evaluation_json(evaluation))
    else:
        reporter = reporter_for(sys.stdout)
        for name, reason in evaluation.failures.items():
            reporter.warn(f"{name} is left out: {reason}")
        for number, table in enumerate(evaluation_tables(evaluation)):
            if number:
                reporter.say("")
            reporter.show(table)
        reporter.say(f"\n{evaluation.summary()}")
    return 1 if evaluation.failures else 0


COMMAND = command(
    "evaluate",
    _evaluate,
    _sections(),
    text="Compare a result with the truth of a simulation: errors of the particles' projections in the "
    "images, and of every kind of refined parameter.",
    epilog="Example: tomopolish evaluate --truth project/truth.json --i out/optimisation_set.star",
)
