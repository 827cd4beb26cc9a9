"""Whole runs on a small project with changed files: they end in results or in a sentence, and in no fault."""

from __future__ import annotations

import contextlib
import io
import os
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mutations import Change, change_archive, change_mrc, change_result, change_star
from sound_project import BOX, IMAGES, STARS, SoundProject

from tomopolish.cli import run
from tomopolish.dataset.mrc import read_header
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.star import read_star

RESULT = "out/temp/TS_01.npz"
FILES = (*STARS, *IMAGES, RESULT)
OTHERS = (("--dry_run",), ("reconstruct", "--b", str(BOX)), ("export",))
"""Options and commands that leave the refined sets as they are."""

OPTIONS = (
    (),
    ("--motion",),
    ("--deformation", "--def_model", "linear"),
    ("--const_p",),
    ("--shift_only",),
    *OTHERS,
)
"""Options of `align`, or a command with options of its own."""

SETS = (
    "optimisation_set.star",
    "tomograms.star",
    "particles.star",
    "motion.star",
    "uncertainty.star",
    "scores.star",
)
MOST_SECONDS = 60.0
"""Processor time of one run, which usually takes a twentieth of a second."""

_FAULT = re.compile("internal error|out of memory|Traceback|unexpected [A-Z]|Exception ignored")
_LINE = re.compile("warning: |tomopolish: ")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\udc80-\udcff]")
_NO_NUMBER = re.compile(r"[\[,+-]*(?:nan|inf(?:inity)?)(?![a-z_])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended: its exit status, what it said, and its processor time."""

    status: int
    output: str
    errors: str
    seconds: float


class WholeRuns:
    """A sound project that is refined again and again, each time with other files changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        project = SoundProject(folder)
        self._contents = dict(project.contents)
        with self._inside():
            assert self._run(()).status == 0
            self._contents[RESULT] = (folder / RESULT).read_bytes()
            self._stored_sets = {name: (folder / "out" / name).read_bytes() for name in SETS[1:3]}

    @property
    def result(self) -> bytes:
        """The stored result of the project as it is."""
        return self._contents[RESULT]

    def survive(self, name: str, changes: list[Change], options: tuple[str, ...]) -> str:
        """Run with one file changed; returns how that ended, and raises AssertionError where it must not."""
        path = self._folder / name
        content = _changed(name, self._contents[name], changes)
        path.write_bytes(content)
        if name == RESULT:
            options = ("--only_do_unfinished",)
        start = "optimisation_set_r4.star" if "_r4" in name else "optimisation_set.star"
        try:
            with self._inside():
                ended = self._run(options, start)
                self._check(ended)
                allowed = set(_NO_NUMBER.findall(content.decode("utf-8", "surrogateescape")))
                if ended.status == 0 and options not in OTHERS:
                    self._check_sets(allowed)
                elif ended.status == 0:
                    _check_files(Path(options[0]), allowed)
                if name == RESULT and not _keeps_checksum(changes):
                    self._check_resumed(ended)
        finally:
            path.write_bytes(self._contents[name])
        return f"status {ended.status}"

    def _run(self, options: tuple[str, ...], start: str = "optimisation_set.star") -> Ended:
        output, errors = io.StringIO(), io.StringIO()
        line = ["align", "--i", start, "--b", str(BOX), "--r", "4", "--no_report", "--o", "out", *options]
        if options and not options[0].startswith("-"):
            line = [*options, "--i", start, "--o", options[0]]
        begin = time.process_time()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = run(line)
        seconds = time.process_time() - begin
        return Ended(status=status, output=output.getvalue(), errors=errors.getvalue(), seconds=seconds)

    def _check(self, ended: Ended) -> None:
        said = ended.output + ended.errors
        assert ended.status in (0, 1, 2), said
        assert not _FAULT.search(said), said
        assert not _UNSEEN.search(said), said
        assert all(_LINE.match(line) for line in ended.errors.splitlines()), said
        assert ended.status == 0 or re.search("tomopolish: | failed| is left out: ", said), said
        assert ended.seconds < MOST_SECONDS, f"{ended.seconds:.0f} s"

    def _check_sets(self, allowed: set[str]) -> None:
        """The sets can be read, and hold no number that is none, but what the changed file had."""
        for path in [*map(Path("out").joinpath, SETS), *Path("out/tilt_series").glob("*.star")]:
            for table in read_star(path).tables if path.exists() else ():
                for label, cells in table.columns.items():
                    found = {text for cell in cells for text in _NO_NUMBER.findall(cell)}
                    assert found <= allowed, f"{path}, {table.name}, {label}: {found}"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = open_dataset(Path("out/optimisation_set.star"), working_directory=Path.cwd())
            for tomogram in dataset.tomogram_names:
                dataset.load(tomogram)

    def _check_resumed(self, ended: Ended) -> None:
        """A result that cannot be used is made again, so that the sets are the same as ever."""
        assert ended.status == 0, ended.errors
        for name, content in self._stored_sets.items():
            assert (Path("out") / name).read_bytes() == content, name

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        before = Path.cwd()
        os.chdir(self._folder)
        try:
            yield
        finally:
            os.chdir(before)


def _check_files(folder: Path, allowed: set[str]) -> None:
    """Exports and maps hold no number that is none, but what the changed file had; logs may quote input."""
    for path in folder.rglob("*"):
        if path.suffix == ".mrc":
            assert np.isfinite(read_header(path).read_volume()).all(), path
        elif path.is_file() and path.parent.name != ".tomopolish" and path.suffix != ".log":
            words = re.split(r"[\s,;=\"'<>()]+", path.read_text("utf-8", "surrogateescape"))
            found = {text for word in words for text in _NO_NUMBER.findall(word) if text == word}
            assert found <= allowed, f"{path}: {found}"


def _changed(name: str, content: bytes, changes: list[Change]) -> bytes:
    if name != RESULT:
        return (change_star if name.endswith(".star") else change_mrc)(content, changes)
    return (change_result if _keeps_checksum(changes) else change_archive)(content, changes)


def _keeps_checksum(changes: list[Change]) -> bool:
    """Whether a result is changed together with its checksum."""
    return sum(more for _, _, _, more in changes) % 2 == 1
