"""logfile.pdf: its first page says what a user of RELION's GUI needs to know, and fits on the page."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from made_results import make_result, with_scores
from matplotlib.colors import to_rgba

from tomopolish.dataset.scores import SHOWS_NOTHING
from tomopolish.output.drawing import VERDICTS
from tomopolish.output.logfile import (
    MOST_ROWS,
    MOST_WARNINGS,
    RunPages,
    TomogramPage,
    first_page,
    write_logfile,
)
from tomopolish.output.next_steps import NextStep
from tomopolish.results.doubts import MIRRORED
from tomopolish.results.tomogram import TomogramStatistics
from tomopolish.results.verdict import verdict

RESULT = with_scores(make_result(1, tilts=3, particles=4), {1: (SHOWS_NOTHING, 0.03)})


def figures(gain: float = 400.0, **changes: Any) -> TomogramStatistics:
    evidence = RESULT.statistics.evidence
    assert evidence is not None
    return replace(RESULT.statistics, evidence=replace(evidence, gain=gain, **changes))


def run_of(statistics: dict[str, TomogramStatistics], **parts: Any) -> RunPages:
    evidence = {name: s.evidence for name, s in statistics.items() if s.evidence is not None}
    return RunPages(statistics=statistics, failures={}, outcome=verdict(evidence), **parts)


def text_of(figure: Any) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def test_the_first_page_has_the_verdict_in_its_colour() -> None:
    for doubts, colour, words in (
        ((), VERDICTS["helped"], "The refinement helped"),
        ((MIRRORED,), VERDICTS["doubtful"], "Whether it helped cannot be judged"),
    ):
        page = first_page(run_of({"TS": figures(doubts=doubts)}))
        (said,) = [text for text in page.texts if text.get_bbox_patch() is not None]
        assert said.get_text().startswith(words)
        assert said.get_bbox_patch().get_edgecolor() == to_rgba(colour)


def test_the_first_page_has_warnings_next_steps_and_the_worst_tomograms_first() -> None:
    statistics = {f"TS_{i:02d}": figures(400.0 + i) for i in range(40)} | {"TS_bad": figures(-400.0)}
    run = run_of(
        statistics,
        warnings=[f"warning {i}: {'long ' * 30}" for i in range(30)],
        steps=[NextStep(sentence="Do this.", commands=("tomopolish select --i a --o b",))],
        report="Polish/job011/report.html",
    )
    page = first_page(replace(run, failures={"TS_lost": "no images"}))
    text = text_of(page)
    assert "41 tomograms refined, 1 failed" in page.get_suptitle()
    for words in ("Do this.", "tomopolish select --i a --o b", "Polish/job011/report.html"):
        assert words in text
    assert "Warnings (30)" in text and f"and {30 - MOST_WARNINGS} more in the report" in text
    rows = re.findall(r"^(TS_\w+|… \d+ more) *(\w+)?", text, re.MULTILINE)
    assert rows[:2] == [("TS_lost", "failed"), ("TS_bad", "worse")]
    assert 10 < len(rows) <= MOST_ROWS + 1
    assert rows[-1][0] == f"… {42 - (len(rows) - 1)} more"
    page.draw_without_rendering()
    width, height = page.get_size_inches() * page.dpi
    for shown in page.texts:
        box = shown.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, shown.get_text()


def test_there_is_no_plot_with_one_point(tmp_path: Path) -> None:
    def pages(tomograms: int, tilts: int) -> int:
        statistics = {f"TS_{i}": figures() for i in range(tomograms)}
        single = [
            TomogramPage(
                name=name,
                statistics=s,
                shifts_angstrom=np.zeros((tilts, 2)),
                angles_degrees=np.zeros(tilts),
            )
            for name, s in statistics.items()
        ]
        write_logfile(tmp_path / "logfile.pdf", run_of(statistics), single)
        return int(re.findall(rb"/Count (\d+)", (tmp_path / "logfile.pdf").read_bytes())[0])

    assert pages(1, 1) == 1  # the first page alone
    assert pages(1, 5) == 2
    assert pages(2, 1) == 2  # and the plots over tomograms
    assert pages(2, 5) == 4
