"""Closing tables and the note."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from tomopolish import __version__
from tomopolish.output.note import note_lines, write_note
from tomopolish.output.table import change_table, flagged_words, time_table
from tomopolish.results.tomogram import TomogramStatistics

STATISTICS = TomogramStatistics(
    particles=60,
    visible_pairs=2345,
    log_likelihood_gain=1234.56,
    rms_shift_angstrom=3.21,
    rms_angle_degrees=0.1234,
    rms_position_angstrom=4.5,
    seconds_by_stage={"windows": 12.0, "solve": 3.4},
    evaluations=31,
)


def test_the_change_table_gives_every_figure_under_its_heading() -> None:
    title, upper, lower, rule, row = change_table({"TS_01": STATISTICS}).plain().splitlines()
    assert "root mean square" in title
    assert set(rule) == {"-"}
    assert lower.startswith("tomogram  ")
    assert row.startswith("TS_01  ")
    for first, second, figure in (
        ("", "particles", "60"),
        ("visible", "pairs", "2345"),
        ("log-likelihood", "gained", "1234.6"),
        ("shifts", "(Å)", "3.21"),
        ("angles", "(°)", "0.123"),
        ("positions", "(Å)", "4.50"),
    ):
        end = row.index(f" {figure}") + len(figure) + 1
        assert upper[:end].rstrip().endswith(first)
        assert lower[:end].endswith(second)
    assert max(map(len, (upper, lower, rule, row))) <= 80


def test_flagged_particles_and_images_are_counted() -> None:
    some = replace(STATISTICS, flagged_particles=3, flagged_tilts=0)
    none = replace(STATISTICS, flagged_particles=0, flagged_tilts=0)
    table = change_table({"TS_01": some, "TS_02": none})
    assert table.columns[1:3] == ("particles\n(flagged)", "images\nflagged")
    assert [row[1:3] for row in table.rows] == [("60 (3)", "0"), ("60 (0)", "0")]
    assert max(map(len, table.plain().splitlines())) <= 80
    assert change_table({"TS_02": none}).columns[1] == "particles"
    assert flagged_words([some, none]) == "3 of 120 particles and 0 tilt images are flagged"
    only_image = replace(none, flagged_tilts=1)
    assert flagged_words([only_image]) == "0 of 60 particles and 1 tilt image is flagged"
    assert flagged_words([none]) == "No particle and no tilt image is flagged"
    assert flagged_words([STATISTICS]) is None


def test_the_time_table_leaves_a_stage_empty_where_it_did_not_run() -> None:
    other = TomogramStatistics(
        **{**STATISTICS.__dict__, "seconds_by_stage": {"windows": 1.0, "gauge": 0.5}},
    )
    table = time_table({"TS_01": STATISTICS, "TS_02": other})
    assert tuple(table.columns) == ("tomogram", "windows", "solve", "gauge", "all")
    assert list(table.rows) == [
        ("TS_01", "12.0", "3.4", "", "15.4"),
        ("TS_02", "1.0", "", "0.5", "1.5"),
    ]


def test_the_note_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    started = datetime(2025, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    command = ["tomopolish", "align", "--o", "my results"]
    write_note(tmp_path / "note.txt", note_lines(command, started))
    text = (tmp_path / "note.txt").read_text()
    assert "tomopolish align --o 'my results'" in text
    assert __version__ in text
    line = next(line for line in text.splitlines() if line.startswith("started: "))
    assert datetime.fromisoformat(line.removeprefix("started: ")) == started
