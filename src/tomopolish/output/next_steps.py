"""Next steps after a run, with the paths of its results, for the report and for logfile.pdf."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from tomopolish.output.table import flagged_words
from tomopolish.results.tomogram import TomogramStatistics
from tomopolish.results.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Place:
    """Paths of a run's results, as its user names them.

    Attributes
    ----------
    folder
        The output folder.
    sets
        Refined optimisation sets.
    boxes_px
        Edge of the boxes of each set's particles; empty where it is not known.
    """

    folder: str
    sets: tuple[str, ...] = ()
    boxes_px: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """A sentence, and the commands that do what it says."""

    sentence: str
    commands: tuple[str, ...] = ()


def next_steps(
    verdict: Verdict | None,
    statistics: Mapping[str, TomogramStatistics],
    failures: Mapping[str, str],
    place: Place | None,
) -> tuple[NextStep, ...]:
    """Return what a user should do next, the most important first."""
    steps = [_by_outcome("" if verdict is None else verdict.outcome, place)]
    flagged = flagged_words(statistics.values())
    if flagged is not None and not flagged.startswith("No "):
        steps.append(
            _without_flagged(flagged, tilts=any(s.flagged_tilts for s in statistics.values()), place=place)
        )
    if failures:
        steps.append(
            NextStep(
                sentence="Correct the causes of the failures, and give the same command with "
                "--only_do_unfinished: it refines only the tomograms that failed."
            )
        )
    return tuple(steps)


def _by_outcome(outcome: str, place: Place | None) -> NextStep:
    sets = "" if place is None or not place.sets else f": {', '.join(place.sets)}"
    if outcome == "helped":
        return NextStep(
            sentence="Use the refined set instead of the input"
            f"{sets}. In RELION, extract the particles again from it, then reconstruct or refine.",
            commands=_reconstruct(place),
        )
    sentences = {
        "settled": "Use the input or the refined set; further rounds of the same refinement change nothing.",
        "harmed": "Use the input set, not the refined one. Look at the tomograms that became worse.",
        "open": "Use the input set: nothing shows that the refined one is better.",
        "doubtful": "Correct the cause that the verdict names, and run again; do not use the refined set "
        "before.",
    }
    untested = (
        f"Compare maps before you use the refined set{sets}. Give the same command with --evaluate, or "
        "without --hold_out 0."
    )
    return NextStep(sentence=sentences.get(outcome, untested))


def _reconstruct(place: Place | None) -> tuple[str, ...]:
    """Return the commands that reconstruct half maps of each set."""
    if place is None or len(place.boxes_px) != len(place.sets):
        return ()
    folder = f"{place.folder.rstrip('/')}_maps"
    several = len(place.sets) > 1
    commands = []
    for name, box_px in zip(place.sets, place.boxes_px, strict=True):
        out = f"{folder}/{PurePath(name).parent.name}" if several else folder
        commands.append(
            shlex.join(["tomopolish", "reconstruct", "--i", name, "--b", str(box_px), "--o", out])
        )
    return tuple(commands)


def _without_flagged(flagged: str, *, tilts: bool, place: Place | None) -> NextStep:
    if place is None or not place.sets:
        return NextStep(sentence=f"{flagged}: look at them, and leave them out with tomopolish select.")
    words = ["tomopolish", "select", "--i", place.folder, *(["--drop_tilts"] if tilts else [])]
    return NextStep(
        sentence=f"{flagged}: look at them, then write sets without them.",
        commands=(shlex.join([*words, "--o", f"{place.folder.rstrip('/')}_selected"]),),
    )
