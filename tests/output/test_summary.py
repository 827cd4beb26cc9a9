"""summary.csv: every tomogram, the worst first."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from tomopolish.output.summary import write_summary
from tomopolish.output.table import times_of_all
from tomopolish.results.tomogram import Evidence, TomogramStatistics
from tomopolish.results.verdict import verdict

STATISTICS = TomogramStatistics(
    particles=12,
    visible_pairs=130,
    log_likelihood_gain=250.5,
    rms_shift_angstrom=1.25,
    rms_angle_degrees=0.125,
    rms_position_angstrom=float("nan"),
    seconds_by_stage={"noise": 1.5, "refinement": 2.0},
    evaluations=9,
)
EVIDENCE = Evidence(
    particles=12, pairs=14, gain=70.0, standard_error=7.0, agreement_before=0.25, agreement_after=0.75
)


def of(agreement: float, gain: float = 70.0) -> TomogramStatistics:
    return replace(STATISTICS, evidence=replace(EVIDENCE, agreement_after=agreement, gain=gain))


def test_the_failed_and_the_worst_come_first(tmp_path: Path) -> None:
    statistics = {"TS_1": of(0.75), "=2+5": of(0.5), "bad\x1b[2J": of(0.6, gain=-70.0), "none": STATISTICS}
    evidence = {name: s.evidence for name, s in statistics.items() if s.evidence is not None}
    write_summary(tmp_path / "summary.csv", statistics, {"TS_9": 'no "images", none'}, verdict(evidence))
    with (tmp_path / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["tomogram"] for row in rows] == ["TS_9", "bad\\x1b[2J", "none", "'=2+5", "TS_1"]
    assert rows[0]["failure"] == 'no "images", none' and rows[0]["particles"] == ""
    assert rows[1]["verdict"] == "worse" and rows[4]["verdict"] == "better"
    assert float(rows[4]["agreement_after"]) == 0.75 and float(rows[4]["gain_per_pair"]) == 5
    assert rows[4]["rms_position_angstrom"] == "" and rows[4]["visible_pairs"] == "130"


def test_times_of_many_tomograms_are_summed() -> None:
    table = times_of_all({"a": STATISTICS, "b": replace(STATISTICS, seconds_by_stage={"noise": 0.5})})
    assert table.columns == ("tomograms", "noise", "refinement", "all")
    assert table.rows == [("all 2", "2.0", "2.0", "4.0")]


def test_the_page_names_every_column(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.csv", {"a": STATISTICS}, {}, None)
    page = (Path(__file__).parents[2] / "docs/logs.md").read_text(encoding="utf-8")
    for column in (tmp_path / "summary.csv").read_text().splitlines()[0].split(","):
        assert f"`{column}`" in page
