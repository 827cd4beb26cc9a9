"""STAR files are read a little at a time, in time and memory that follow their size, whatever they hold."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomopolish.dataset import star_syntax
from tomopolish.dataset.cells import Cells
from tomopolish.dataset.star import read_star, write_star
from tomopolish.dataset.star_syntax import parse_tables
from tomopolish.errors import InputError

LINES = ("data_a", "data_", "loop_", "_x #1", "_y #2", "1 2", "'a b' 3", "# version 7", "", "\x1b[0m \u202e")
ENDS = ("\n", "\r\n", "\r", "\n\n", "\r\r\n")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS)), max_size=25),
    st.integers(1, 9),
    st.integers(1, 4),
)
def test_where_the_file_is_cut_makes_no_difference(
    lines: list[tuple[str, str]], block: int, rows: int
) -> None:
    text = "data_first\n" + "".join(line + end for line, end in lines)

    def outcome() -> object:
        pieces = [text.encode()[i : i + block] for i in range(0, len(text.encode()), block)]
        try:
            tables = star_syntax._parse(star_syntax._blocks_of_lines(pieces, "t.star"), "t.star")
        except InputError as problem:
            return str(problem)
        return [(t.name, t.version, {k: list(v) for k, v in t.columns.items()}) for t in tables]

    with pytest.MonkeyPatch.context() as patch:
        cut = outcome()
        patch.setattr(star_syntax, "_ROWS_AT_ONCE", rows)
        assert outcome() == cut
        block = len(text.encode())
        assert outcome() == cut


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.star").write_bytes(b"\xef\xbb\xbfdata_x\r\n_a 1\r\n")
    assert read_star(tmp_path / "a.star").table("x").value("a") == "1"


ODD = (
    "note\x1b[31m",
    "\x07",
    "a\x1cb",
    "\x85",
    "\xa0",
    "\u2028",
    "\u202eabc",
    "\udcff\udc80",
    "\x7f",
    "\ufeff",
)


def test_characters_that_no_terminal_should_get_go_back_as_they_were(tmp_path: Path) -> None:
    for cell in ODD:
        text = f"\ndata_t\n\nloop_\n_rlnA #1\n_rlnB #2\n1 {cell}\n2 {cell}\n\n"
        source = tmp_path / "a.star"
        source.write_bytes(text.encode("utf-8", "surrogateescape"))
        star = read_star(source)
        assert star.table("t").columns == {"rlnA": ["1", "2"], "rlnB": [cell, cell]}
        write_star(tmp_path / "b.star", star)
        assert (tmp_path / "b.star").read_bytes() == source.read_bytes()


def test_form_feeds_and_vertical_tabs_separate_cells() -> None:
    assert parse_tables("data_t\nloop_\n_a\n_b\n1\v2\n'3 4'\f5\n", "t.star")[0].columns == {
        "a": ["1", "3 4"],
        "b": ["2", "5"],
    }


SLOW = {
    "quotes that never close": lambda n: "data_\n_a " + '"a ' * n,
    "both quotes": lambda n: "data_\n_a " + "\"a 'b " * n,
    "quotes in rows": lambda n: "data_\nloop_\n_a\n" + '"a ' * n,
    "blanks": lambda n: "data_\nloop_\n_a\n1" + " " * n + "\n" + "2\n",
    "blanks before a break": lambda n: "data_\nloop_\n_a\n1\n" + " " * n + "data_x y",
    "long names": lambda n: "data_" + "x" * n + " y\n",
    "comments between rows": lambda n: "data_\nloop_\n_a\n" + "1\n#\n" * (n // 4),
    "blocks": lambda n: "data_\n" * (n // 40),
    "labels": lambda n: "data_\nloop_\n" + "".join(f"_{i}\n" for i in range(n // 40)),
    "carriage returns": lambda n: "data_\nloop_\n_a\n" + "1\r" * n,
    "one long line": lambda n: "data_\nloop_\n_a\n" + "1 " * n,
}


@pytest.mark.parametrize("kind", SLOW)
def test_no_text_takes_more_than_its_share_of_time(kind: str) -> None:
    text = SLOW[kind](100_000)
    start = time.process_time()
    try:
        parse_tables(text, "slow.star")
    except InputError as problem:
        assert len(str(problem)) < 300
    # Some hundredths of a second; a time that grows with the square of the length would be minutes.
    assert time.process_time() - start < 5


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory() -> None:
    pieces = (b"data_x\n_a " if i == 0 else b"a" * (1 << 20) for i in range(1 << 20))
    with pytest.raises(InputError, match=r"big.star: .*line is longer than 16 MiB"):
        star_syntax._parse(star_syntax._blocks_of_lines(pieces, "big.star"), "big.star")


def test_more_tables_or_labels_than_any_file_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(star_syntax, "MOST_TABLES", 5)
    assert len(parse_tables("data_\n" * 5, "t.star")) == 5
    with pytest.raises(InputError, match=r"t\.star: there are more than 5 tables"):
        parse_tables("data_\n" * 6, "t.star")
    labels = "".join(f"_a{i}\n" for i in range(10_001))
    with pytest.raises(InputError, match=r"t\.star, table x: has more than 10000 labels"):
        parse_tables(f"data_x\nloop_\n{labels}", "t.star")


MEASURE = """
import re, sys
from pathlib import Path
from tomopolish.dataset.star import read_star, write_star
def kilobytes(of):
    return int(re.search(of + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = kilobytes("VmRSS")
star = read_star(sys.argv[1])
write_star(sys.argv[2], star)
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
def test_a_table_takes_no_more_memory_than_three_times_its_file(tmp_path: Path) -> None:
    source = tmp_path / "big.star"
    row = "".join(f"{i * 37.123456:.6f} " for i in range(23)) + "é TS_01/1\n"
    labels = "".join(f"_rlnC{i} #{i + 1}\n" for i in range(25))
    source.write_text(f"\ndata_particles\n\nloop_\n{labels}{row * 120_000}\n", encoding="utf-8")
    script = [sys.executable, "-c", MEASURE, str(source), str(tmp_path / "copy.star")]
    done = subprocess.run(script, capture_output=True, text=True, check=True, env={**os.environ})
    assert int(done.stdout) * 1024 < 3 * source.stat().st_size
    assert (tmp_path / "copy.star").stat().st_size == source.stat().st_size


def test_compact_columns_are_sequences() -> None:
    texts = [f"{i}\udcff" if i % 3 else "" for i in range(10_000)]
    cells = Cells.of(texts)
    assert len(cells) == 10_000 and list(cells) == texts and cells == texts and texts == cells
    assert [cells[i] for i in (0, -1, 4096, 9_999, 5)] == [texts[i] for i in (0, -1, 4096, 9_999, 5)]
    assert cells[10:20] == texts[10:20] and cells != texts[1:] and cells != "text"
    assert Cells.of([]) == [] and "…" in repr(cells)
    with pytest.raises(IndexError):
        cells[10_000]
    with pytest.raises(ValueError, match="line feed"):
        Cells.of(["a\nb"])
