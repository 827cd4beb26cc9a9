"""Whole commands on what other people's files bring: one image, other systems' names, tomograms of no use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tomopolish
from star_edits import constant_stack, drop_column, edit, keep_rows, set_cell
from tomopolish.cli import run
from tomopolish.dataset.mrc import read_header, write_stack
from tomopolish.dataset.star import StarTable, read_star

SET = "optimisation_set.star"
ALIGN = ("align", "--i", SET, "--b", "48", "--r", "6", "--hold_out", "0", "--no_report", "--o", "out")
RECONSTRUCT = ("reconstruct", "--i", SET, "--b", "48", "--o", "maps")


def positions(name: str, folder: str = ".") -> np.ndarray:
    return tomopolish.load(f"{folder}/{SET}").first.load(name)[1].positions_px


def without_images(name: str) -> None:
    """Put a stack of constant images in the place of a tomogram's own."""
    path = Path(f"tilt_series/{name}.mrcs")
    path.unlink()
    constant_stack(path, (11, 192, 192), 1.5)


def with_backslashes(path: str, table: str, *labels: str) -> None:
    """Write names of files as programs for Windows do."""

    def change(old: StarTable) -> StarTable:
        return old.with_columns({n: [c.replace("/", "\\") for c in old.strings(n)] for n in labels})

    edit(path, table, change)


def test_one_tilt_image_is_refined_and_said_to_know_nothing_of_depth(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_rows("tilt_series/TS_02.star", "TS_02", slice(5, 6))
    path = Path("tilt_series/TS_02.mrcs")
    image = read_header(path).read_volume()[5:6].astype(np.float32)
    path.unlink()
    write_stack(path, image, count=1, size_px=(192, 192), pixel_size_angstrom=4.0)
    for options in ((), ("--shift_only",), ("--motion", "--s_vel", "0.4")):
        assert run([*ALIGN, *options]) == 0
        assert "only one tilt image of TS_02 is used, which tells nothing of depth" in capsys.readouterr().err
    assert run([*ALIGN, "--exclude_tilts", "TS_01:1-3,5-11"]) == 0
    assert "only one tilt image of TS_01 is used" in capsys.readouterr().err
    moved = np.linalg.norm(positions("TS_01", "out") - positions("TS_01"), axis=-1)
    assert 0.1 < moved.max() < 12
    assert run(["export", "--i", SET, "--o", "exported"]) == 0


def test_leaving_out_all_images_on_request_says_to_leave_out_fewer(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ALIGN, "--dry_run", "--exclude_tilts", "TS_01 : 1-11"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "none of its tilt images can be used: --exclude_tilts; leave fewer out, or" in said


def test_a_tomogram_of_no_use_costs_itself_in_maps_and_their_comparison(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without_images("TS_02")
    assert run(RECONSTRUCT) == 1
    captured = capsys.readouterr()
    assert "warning: TS_02 is left out: none of the tilt images of TS_02 can be used" in captured.err
    assert captured.out.endswith("Left out: TS_02.\n")
    damaged = read_header(Path("maps/half1.mrc")).read_volume()
    assert run([*ALIGN, "--evaluate"]) == 1
    assert "were not compared" not in capsys.readouterr().err
    assert Path("out/evaluation/fsc_after.star").exists()
    edit("tomograms.star", "global", lambda t: replace(t, columns={k: v[:1] for k, v in t.columns.items()}))
    assert run(RECONSTRUCT) == 0
    np.testing.assert_array_equal(read_header(Path("maps/half1.mrc")).read_volume(), damaged)
    without_images("TS_01")
    assert run(RECONSTRUCT) == 1
    assert "no tomogram can be used; TS_01: none of the tilt images" in capsys.readouterr().err


def test_a_tomogram_that_cannot_be_read_is_left_out_of_the_evaluation(
    project: Path, mini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((mini / "truth.json").read_text())
    Path("truth.json").write_text(json.dumps({**truth, "TS_02": truth["TS_01"]}))
    for broken, sound in (("TS_01", "TS_02"), ("TS_02", "TS_01")):
        path = Path(f"tilt_series/{broken}.mrcs")
        path.rename("aside.mrcs")
        assert run(["evaluate", "--truth", "truth.json", "--i", SET]) == 1
        captured = capsys.readouterr()
        assert f"warning: {broken} is left out: tomograms.star, table global" in captured.err
        assert sound in captured.out and "in 1 tomogram(s)" in captured.out
        Path("aside.mrcs").rename(path)
    assert run(["evaluate", "--truth", "truth.json", "--i", SET, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failures"] == {}


def test_names_of_files_with_backslashes_are_found_and_written_with_slashes(project: Path) -> None:
    assert run(ALIGN) == 0
    usual = {name: positions(name, "out") for name in ("TS_01", "TS_02")}
    table = read_star(SET).tables[0]
    with_backslashes(SET, table.name, *table.columns)
    with_backslashes("tomograms.star", "global", "rlnTomoTiltSeriesStarFile", "rlnTomoTiltSeriesName")
    for row in range(11):
        set_cell(
            "tilt_series/TS_02.star", "TS_02", "rlnMicrographName", row, f"{row + 1}@tilt_series\\TS_02.mrcs"
        )
    assert run(ALIGN) == 0
    for name, expected in usual.items():
        np.testing.assert_array_equal(positions(name, "out"), expected)
    written = ["out/optimisation_set.star", "out/tomograms.star", "out/tilt_series/TS_02.star"]
    assert not any("\\" in Path(path).read_text() for path in written)
    drop_column("tomograms.star", "global", "rlnTomoTiltSeriesName")
    keep_rows("tomograms.star", "global", slice(1, 2))
    assert run([*ALIGN, "--dry_run"]) == 0


def test_text_in_utf_16_is_named_with_what_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        text = "\ufeff" + read_text("particles.star")
        Path("other.star").write_bytes(text.encode(encoding))
        assert run([*ALIGN, "--dry_run", "--p", "other.star"]) == 2
        assert "this is text in UTF-16, not a particle set; save it again as UTF-8" in capsys.readouterr().err


def read_text(path: str) -> str:
    return Path(path).read_text()
