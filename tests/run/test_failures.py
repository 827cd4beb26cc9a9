"""Internal errors: one sentence for the user, and a file of details for those who fix them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tomopolish.errors import InputError
from tomopolish.plain_text import uncoloured
from tomopolish.run.failures import Failure, forget


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_an_internal_error_asks_for_a_report_and_keeps_its_traceback(tmp_path: Path) -> None:
    error = raised(IndexError("index 7 is\n\tout of \x1b[31mbounds\x1b[0m"))
    sentence = Failure.of(error).recorded(tmp_path, "TS_04")
    path = tmp_path / "errors/TS_04.txt"
    assert sentence == (
        "an internal error of tomopolish (IndexError: index 7 is out of bounds); please report it to the "
        f"authors, with the file {path}, which contains the details"
    )
    text = path.read_text()
    assert "in raised" in text and "IndexError" in text and "Python 3." in text
    assert not any(ord(c) < 32 and c not in "\n\t" for c in text)


def test_expected_errors_leave_no_file(tmp_path: Path) -> None:
    sentence = "particles.star: row 3 is bad; correct it"
    assert Failure.of(InputError(sentence)).recorded(tmp_path, "TS_04") == sentence
    assert not list(tmp_path.iterdir())


def test_a_long_message_is_cut_in_the_sentence_and_whole_in_the_file(tmp_path: Path) -> None:
    sentence = Failure.of(raised(ValueError("x" * 5000))).recorded(tmp_path, "TS_04")
    assert len(sentence) < 450
    assert "x" * 5000 in (tmp_path / "errors/TS_04.txt").read_text()


@pytest.mark.parametrize("name", ["../outside", "a/b", "TS\udc80", "x" * 300, ".hidden", ""])
def test_any_name_of_a_tomogram_gives_a_file_inside_the_folder(name: str, tmp_path: Path) -> None:
    Failure.of(raised(ValueError(f"in {name}"))).recorded(tmp_path, name)
    assert [path.parent for path in tmp_path.rglob("*.txt")] == [tmp_path / "errors"]
    forget(tmp_path, name)
    assert not list(tmp_path.iterdir())


def test_files_of_others_are_neither_replaced_nor_removed(tmp_path: Path) -> None:
    other = tmp_path / "errors/TS_04.txt"
    other.parent.mkdir()
    other.write_text("my notes")
    sentence = Failure.of(raised(ValueError("no"))).recorded(tmp_path, "TS_04")
    forget(tmp_path, "TS_04")
    assert other.read_text() == "my notes"
    elsewhere = Path(sentence.partition("the file ")[2].partition(", which")[0])
    assert "ValueError: no" in elsewhere.read_text()
    elsewhere.unlink()


def test_without_a_place_for_the_file_debug_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    sentence = Failure.of(raised(ValueError("no"))).recorded(tmp_path / "gone", "TS_04")
    assert sentence.endswith("please report it to the authors, with the output of --debug")


def test_terminals_get_no_escape_sequences_of_libraries() -> None:
    assert uncoloured("\x1b[1m\x1b[31mred\x1b[0m \x1b]0;title\x07and\x1b(B plain") == "red and plain"
