"""The worst tomograms first, and all warnings: what a user looks at first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tomopolish.results.tomogram import TomogramStatistics
from tomopolish.results.verdict import Verdict, verdict_on

WORST_FIRST = ("worse", "not judged", "undecided", "not tested", "better")
"""Verdicts on a tomogram, those that a user should look at first in front."""


def worst_first(statistics: Mapping[str, TomogramStatistics], verdict: Verdict | None) -> list[str]:
    """Return the names of tomograms: by verdict, then by agreement, the lowest first.

    The agreement is that of held-out pairs after the refinement; tomograms without any follow, by their gain
    per fitted pair.
    """

    def place(name: str) -> tuple[int, float, float]:
        figures = statistics[name]
        evidence = figures.evidence
        word = verdict_on(verdict, name)
        agreement = float("inf") if evidence is None else evidence.agreement_after
        return WORST_FIRST.index(word), agreement, figures.gain_per_visible_pair

    return sorted(statistics, key=place)


def tomogram_warnings(statistics: Mapping[str, TomogramStatistics]) -> list[str]:
    """Return the warnings of all tomograms, each with its tomogram's name."""
    return [
        sentence if name in sentence else f"{name}: {sentence}"
        for name, figures in statistics.items()
        for sentence in figures.warnings
    ]


def all_warnings(of_run: Iterable[str], statistics: Mapping[str, TomogramStatistics]) -> tuple[str, ...]:
    """Return the warnings of a run and of its tomograms, each once."""
    return tuple(dict.fromkeys([*of_run, *tomogram_warnings(statistics)]))
