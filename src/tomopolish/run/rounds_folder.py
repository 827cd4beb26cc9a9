"""The output folder of a polishing run, as other commands find it: which round is its best."""

from __future__ import annotations

from pathlib import Path

from tomopolish.dataset.star import read_star
from tomopolish.errors import InputError
from tomopolish.output.rounds import FILE_NAME as TABLE_NAME
from tomopolish.run.folder.written import STATE_FOLDER

JOURNAL_NAME = "rounds.json"
"""Journal of the rounds, in the program's own folder."""


def round_name(number: int) -> str:
    """Return the name of a round and of its folder."""
    return f"round{number:02d}"


def is_of_rounds(folder: Path) -> bool:
    """Return whether a folder is the output folder of a polishing run."""
    return (folder / STATE_FOLDER / JOURNAL_NAME).exists()


def best_alignment(folder: Path) -> Path | None:
    """Return the folder of the best round in a polishing run's output; None where that is the input.

    Where the table of rounds cannot be read, it is the folder of the first round.
    """
    try:
        table = read_star(folder / TABLE_NAME).table("rounds")
        is_best = table.ints("tomopolishIsBest").tolist()
        best = int(table.ints("tomopolishRound")[is_best.index(1)])
    except (InputError, ValueError):
        best = 1
    return folder / round_name(best) if best else None
