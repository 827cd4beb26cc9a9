"""STAR files: every cell, label, order and version tag survives; faults are named by table and row."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tomopolish.dataset.star import (
    GrowingFile,
    StarFile,
    StarTable,
    format_floats,
    format_vectors,
    read_star,
    write_star,
)
from tomopolish.dataset.star_syntax import parse_tables, print_table
from tomopolish.errors import InputError, RunError

ODD = st.sampled_from(list("ab01.-+eE[],/@#_;'\"\t $?"))
CELLS = st.text(st.one_of(ODD, st.characters(blacklist_categories=["Cc", "Cs"])), max_size=8)
ASCII_CELLS = st.text(st.one_of(ODD, st.characters(min_codepoint=32, max_codepoint=126)), max_size=8)
LABELS = st.lists(st.from_regex(r"rln[A-Za-z0-9_]{1,8}", fullmatch=True), min_size=1, max_size=4, unique=True)
NAMES = st.from_regex(r"[A-Za-z0-9_./-]{0,10}", fullmatch=True)


def content(tables: tuple[StarTable, ...]) -> list[tuple[object, ...]]:
    return [(t.name, t.version, t.is_loop, t.continues, dict(t.columns), list(t.columns)) for t in tables]


def printable(table: StarTable) -> bool:
    try:
        "".join(print_table(table))
    except InputError:
        return False
    return True


@st.composite
def star_contents(draw: st.DrawFn, cells: st.SearchStrategy[str] = CELLS) -> dict[str, Any]:
    """Arguments of a StarTable; the table itself is made in the test, where its types are checked."""
    labels = draw(LABELS)
    is_loop = draw(st.booleans())
    rows = draw(st.integers(0, 4)) if is_loop else 1
    columns = {label: draw(st.lists(cells, min_size=rows, max_size=rows)) for label in labels}
    version = draw(st.none() | st.from_regex(r"[0-9]{5}", fullmatch=True))
    return {"name": draw(NAMES), "columns": columns, "is_loop": is_loop, "version": version}


@given(contents=st.lists(star_contents(), max_size=4))
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(contents: list[dict[str, Any]]) -> None:
    tables = tuple(StarTable(**c) for c in contents)
    assume(all(map(printable, tables)))
    text = "".join(piece for table in tables for piece in print_table(table))
    again = parse_tables(text, "memory")
    assert content(again) == content(tables)
    assert "".join(piece for table in again for piece in print_table(table)) == text


BEYOND_CIF = ("$", "[", "]", "_", ";", "data_", "loop_", "save_", "stop_", "global_")


@given(contents=star_contents(ASCII_CELLS))
@settings(max_examples=150, deadline=None)
def test_an_independent_reader_sees_the_same_cells(contents: dict[str, Any]) -> None:
    table = StarTable(**contents)
    cells = [cell for column in table.columns.values() for cell in column]
    assume(printable(table) and all(not c.lower().startswith(BEYOND_CIF) for c in cells))
    (block,) = gemmi.cif.read_string("".join(print_table(table)), 0)
    for label, column in table.columns.items():
        raw = list(block.find_values(f"_{label}"))
        assert [v[1:-1] if v[:1] in ("'", '"') else v for v in raw] == column


PIECES = [
    "a",
    "1.",
    "_",
    "_a",
    "#",
    "# version 5",
    ";",
    "'",
    '"',
    " ",
    "\t",
    "\n",
    "\n\n",
    "data_",
    "loop_",
    "[",
    "\r",
    "\v",
    "\f",
    "\x1b[31m",
    "\x1c",
    "\x85",
    "\xa0",
    "\u2028",
    "\u202e",
    "\udcff",
    "\ufeff",
]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused_in_one_sentence(pieces: list[str]) -> None:
    text = "data_\n" + "".join(pieces)
    try:
        tables = parse_tables(text, "odd.star")
    except InputError as problem:
        assert "odd.star" in str(problem)
        return
    printed = "".join(piece for table in tables for piece in print_table(table))
    assert content(parse_tables(printed, "odd.star")) == content(tables)


def star_files(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.star"))
    assert files
    return files


def check_round_trip(path: Path, out: Path) -> None:
    """Cells as an independent reader sees the raw tokens; labels, order and tags line by line."""
    write_star(out, read_star(path))
    before, after = (
        gemmi.cif.read_file(str(path), check_level=0),
        gemmi.cif.read_file(str(out), check_level=0),
    )
    assert [b.name for b in before] == [b.name for b in after]
    for old, new in zip(before, after, strict=True):
        assert [(i.pair, i.loop and (i.loop.tags, list(i.loop.values))) for i in old] == [
            (i.pair, i.loop and (i.loop.tags, list(i.loop.values))) for i in new
        ]

    def words(file: Path) -> list[list[str]]:
        return [line.split() for line in file.read_text().splitlines() if line.strip()]

    numbered = [line for line in words(path) if not (len(line) == 1 and line[0].startswith("_"))]
    written = words(out)
    if len(numbered) == len(words(path)):  # files whose labels carry their "#n": identical but for blanks
        assert written == numbered


def test_round_trip_of_the_small_reference(mini: Path, tmp_path: Path) -> None:
    for path in star_files(mini):
        check_round_trip(path, tmp_path / "out.star")


def test_round_trip_of_all_reference_runs(golden: Path, tmp_path: Path) -> None:
    for path in star_files(golden):
        check_round_trip(path, tmp_path / "out.star")


TEXT = """
# version 30001

data_ # first

_rlnA 1   # a comment
_rlnB "two words"
_rlnC ""
_rlnD

# a comment

data_TS_01/1

loop_
_rlnX #1
_rlnY #2
  000001@stack#1.mrcs   [1,2,3]
# in between

'it''s' 'say "hi" '
data_2024/a.mrc "" # trailing

# version 50001
data_empty

data_none
loop_
_rlnOnly
data_last
loop_
_rlnOne
only
"""


def test_quotes_comments_and_empty_tables() -> None:
    tables = parse_tables(TEXT, "t.star")
    assert [t.name for t in tables] == ["", "TS_01/1", "empty", "none", "last"]
    assert [t.version for t in tables] == ["30001", None, "50001", None, None]
    assert dict(tables[0].columns) == {"rlnA": ["1"], "rlnB": ["two words"], "rlnC": [""], "rlnD": [""]}
    assert not tables[0].is_loop
    assert dict(tables[1].columns) == {
        "rlnX": ["000001@stack#1.mrcs", "it''s", "data_2024/a.mrc"],
        "rlnY": ["[1,2,3]", 'say "hi" ', ""],
    }
    assert dict(tables[3].columns) == {"rlnOnly": []} and tables[3].is_loop
    assert tables[4].columns["rlnOne"] == ["only"]


def test_a_block_with_pairs_and_loops_stays_one_block() -> None:
    text = "data_x\n_a 1\nloop_\n_b\n1\n2\n_c 3\n"
    tables = parse_tables(text, "t.star")
    assert [(t.is_loop, t.continues, len(t)) for t in tables] == [
        (False, False, 1),
        (True, True, 2),
        (False, True, 1),
    ]
    printed = "".join(piece for table in tables for piece in print_table(table))
    assert printed.count("data_x") == 1
    assert content(parse_tables(printed, "t.star")) == content(tables)


def test_windows_line_ends_and_foreign_bytes(tmp_path: Path) -> None:
    source = tmp_path / "in.star"
    source.write_bytes(b"data_x\r\nloop_\r\n_a #1\r\n_b #2\r\nd\xe9j\xe0.mrc 1\r\n")
    star = read_star(source)
    assert star.table("x").floats("b").tolist() == [1.0]
    write_star(tmp_path / "out.star", star)
    assert b"d\xe9j\xe0.mrc 1\n" in (tmp_path / "out.star").read_bytes()


BAD = {
    "few values": ("data_x\nloop_\n_a\n_b\n1 2\n3\n", "row 2"),
    "two short rows": ("data_x\nloop_\n_a\n_b\n_c\n1\n2\n", "row 1: has 1 values for 3 labels"),
    "many values": ("data_x\nloop_\n_a\n_b\n1 2 3\n", "row 1: has 3 values for 2 labels"),
    "label twice": ("data_x\nloop_\n_a\n_a\n1 2\n", "column a occurs twice"),
    "row without loop": ("data_x\n1 2\n", "is not in a loop"),
    "row without labels": ("data_x\nloop_\n1 2\n", "is not in a loop"),
    "loop without labels": ("data_x\nloop_\n\ndata_y\n", "without labels"),
    "nameless label": ("data_x\n_ 1\n", "label without a name"),
    "no block": ("_a 1\n", "before any 'data_'"),
    "prose": ("Dear RELION,\n", "before any 'data_'"),
    "text field": ("data_x\n_a\n;one\ntwo\n;\n", "text field"),
    "two values in a pair": ("data_x\n_a 1 2\n", "a has 2 values"),
    "binary": ("data_x\n_a \0\n", "binary"),
}


@pytest.mark.parametrize("case", BAD)
def test_faults_are_named(case: str) -> None:
    text, expected = BAD[case]
    with pytest.raises(InputError) as caught:
        parse_tables(text, "bad.star")
    assert str(caught.value).startswith("bad.star") and expected in str(caught.value)


def table(**columns: list[str]) -> StarTable:
    return StarTable(name="t", columns=columns, source="f.star")


def test_typed_columns() -> None:
    t = table(a=["1", "2.50", "-3e-2"], b=["1", "2.0", "-3"], c=["[1,2]", "[ 3, 4 ]", "[5,6]"])
    assert t.floats("a").tolist() == [1.0, 2.5, -0.03]
    assert t.ints("b").tolist() == [1, 2, -3]
    assert [t.vector("c", row).tolist() for row in range(3)] == [[1, 2], [3, 4], [5, 6]]
    assert t.floats("z", default=7.0).tolist() == [7.0] * 3
    assert table(c=["[]"]).vector("c", 0).shape == (0,)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda t: t.strings("z"), "column z is missing"),
        (lambda t: t.floats("a"), "row 2: a is 'x', which is not a number"),
        (lambda t: t.floats("n"), "row 1: n is 'nan', which is not a finite number"),
        (lambda t: t.ints("h"), "row 2: h is '1.5', which is not a whole number"),
        (lambda t: t.vector("w", 0), "row 1: w is '1,2', which is not a vector"),
        (lambda t: t.vector("w", 1), "row 2: w is '[1,b]', which is not a vector of numbers"),
        (lambda t: t.vector("i", 0), "row 1: i is '[inf]', which is not a vector of finite"),
    ],
)
def test_cells_of_the_wrong_type_are_named(read: object, expected: str) -> None:
    t = table(
        a=["1", "x"],
        n=["nan", "1"],
        h=["1", "1.5"],
        w=["1,2", "[1,b]"],
        i=["[inf]", ""],
    )
    with pytest.raises(InputError) as caught:
        read(t)  # type: ignore[operator]
    assert str(caught.value).startswith("f.star, table t") and expected in str(caught.value)


def test_replacing_columns_keeps_their_order_and_the_original() -> None:
    t = table(a=["1"], b=["2"])
    changed = t.with_columns({"b": ["3"], "c": ["4"]})
    assert dict(changed.columns) == {"a": ["1"], "b": ["3"], "c": ["4"]}
    assert list(changed.columns) == ["a", "b", "c"] and t.columns["b"] == ["2"]
    with pytest.raises(ValueError, match="2 cells for 1 rows"):
        t.with_columns({"a": ["1", "2"]})
    star = StarFile(tables=(t,)).with_table(changed).with_table(StarTable(name="u"))
    assert star.names == ("t", "u") and star.table("t") is not t and "u" in star


def test_numbers_become_text() -> None:
    assert format_floats(np.array([1.0, -0.0, -1e-9, -2.5])) == [
        "1.000000",
        "0.000000",
        "0.000000",
        "-2.500000",
    ]
    assert format_vectors(np.array([[1.0, -0.25, 1 / 3]])) == ["[1,-0.25,0.333333333333]"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.star"
    write_star(target, [table(a=["1"])])
    before = target.read_bytes()
    with pytest.raises(InputError, match=r"table t, a: the value 'x.n' has a line end"):
        write_star(target, [table(a=["1"]), table(a=["x\n"])])
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.star"]
    with pytest.raises(RunError, match="cannot be written"):
        write_star(target / "below" / "b.star", [])


@pytest.mark.parametrize("name", ["absent.star", ".", "x" * 5000])
def test_files_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"; (correct|give|check) "):
        read_star(tmp_path / name)


def test_a_large_table_is_read_and_written_in_seconds(tmp_path: Path) -> None:
    rows, rng = 200_000, np.random.default_rng(0)
    number = np.char.mod("%.6f", rng.normal(scale=300, size=rows)).tolist()
    names = [f"TS_{i // 1000:03d}/{i % 1000}" for i in range(rows)]
    big = table(rlnName=names, **{f"rlnC{i}": number for i in range(24)})
    start = time.perf_counter()
    write_star(tmp_path / "big.star", [big])
    written = time.perf_counter()
    again = read_star(tmp_path / "big.star").table("t")
    done = time.perf_counter()
    assert again.columns["rlnC23"] == number and again.columns["rlnName"] == names
    # Some ten times the time this takes on an idle core.
    assert written - start < 10 and done - written < 10


def test_tables_that_grow_have_a_column_that_only_a_later_tomogram_has(tmp_path: Path) -> None:
    growing = GrowingFile(tmp_path / "scores.star", "# version")
    growing.append("tilts", {"rlnTomoName": ["TS_01", "TS_01"]})
    growing.append("tilts", {"rlnTomoName": ["TS_02"], "turn": ["1.500000"]})
    growing.write()
    table = read_star(tmp_path / "scores.star").table("tilts")
    assert list(table.strings("rlnTomoName")) == ["TS_01", "TS_01", "TS_02"]
    np.testing.assert_array_equal(table.floats("turn"), [0, 0, 1.5])
