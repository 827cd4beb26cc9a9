"""The commands that a report suggests are those that a user can give as they stand."""

from __future__ import annotations

import shlex
from dataclasses import replace

import click
import pytest

from tomopolish.cli import COMMANDS
from tomopolish.output.next_steps import Place, next_steps
from tomopolish.results.tomogram import Evidence, TomogramStatistics, tomogram_warnings
from tomopolish.results.verdict import verdict, worst_first

EVIDENCE = Evidence(
    particles=80, pairs=200, gain=300.0, standard_error=20.0, agreement_before=0.3, agreement_after=0.7
)
FIGURES = TomogramStatistics(
    particles=80,
    visible_pairs=2000,
    log_likelihood_gain=900.0,
    rms_shift_angstrom=2.0,
    rms_angle_degrees=0.1,
    rms_position_angstrom=3.0,
    seconds_by_stage={"refinement": 2.0},
    evaluations=20,
    flagged_particles=3,
    flagged_tilts=0,
    evidence=EVIDENCE,
)
PLACE = Place(folder="Polish/job 7", sets=("Polish/job 7/optimisation_set.star",), boxes_px=(192,))


def run_of(**gains: float) -> dict[str, TomogramStatistics]:
    return {n: replace(FIGURES, evidence=replace(EVIDENCE, gain=gain)) for n, gain in gains.items()}


def steps(statistics: dict[str, TomogramStatistics], place: Place | None = PLACE) -> list[tuple[str, ...]]:
    found = next_steps(
        verdict({n: s.evidence for n, s in statistics.items() if s.evidence}), statistics, {}, place
    )
    return [(step.sentence, *step.commands) for step in found]


def test_a_run_that_helped_leads_to_maps_and_to_a_cleaned_set() -> None:
    (use, reconstruct), (flagged, select) = steps(run_of(a=300.0, b=250.0))
    assert "Use the refined set" in use and PLACE.sets[0] in use
    assert "6 of 160 particles" in flagged
    words = ["tomopolish", "select", "--i", "Polish/job 7", "--o", "Polish/job 7_selected"]
    assert shlex.split(select) == words
    for command in (reconstruct, select):
        program, name, *words = shlex.split(command)
        assert program == "tomopolish"
        command_named = COMMANDS.get_command(click.Context(COMMANDS), name)
        known = {option for p in command_named.params for option in p.opts}
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("gain", [0.0, -300.0])
def test_a_run_that_did_not_help_sends_the_user_back_to_the_input(gain: float) -> None:
    assert "Use the input set" in steps(run_of(a=gain, b=gain))[0][0]


def test_without_a_place_there_is_no_command() -> None:
    assert [len(step) for step in steps(run_of(a=300.0), None)] == [1, 1]


def test_tilt_images_that_are_flagged_are_dropped_too() -> None:
    flagged = {"a": replace(FIGURES, flagged_particles=0, flagged_tilts=2)}
    assert "--drop_tilts" in steps(flagged)[1][1]


def test_the_worst_tomograms_come_first_and_warnings_have_their_names() -> None:
    statistics = run_of(fine=300.0, worse=-300.0, unclear=1.0)
    statistics["weak"] = replace(FIGURES, evidence=replace(EVIDENCE, agreement_after=0.1))
    statistics["untested"] = replace(FIGURES, evidence=None, warnings=("it is odd", "untested is dark"))
    outcome = verdict({n: s.evidence for n, s in statistics.items() if s.evidence})
    assert worst_first(statistics, outcome) == ["worse", "unclear", "untested", "weak", "fine"]
    assert tomogram_warnings(statistics) == ["untested: it is odd", "untested is dark"]


def test_a_run_that_was_not_judged_says_how_to_judge_it() -> None:
    untested = {"a": replace(FIGURES, evidence=None, flagged_particles=0, flagged_tilts=0)}
    said = steps(untested)[0][0]
    assert said.endswith("Give the same command with --evaluate, or without --hold_out 0.")
