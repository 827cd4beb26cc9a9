"""STAR files that went through other systems and editors: the same tables, whatever ends and opens lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tomopolish.dataset.check import check_project
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.trajectories import read_trajectory_set
from tomopolish.dataset.species import Project
from tomopolish.dataset.star import StarFile, read_star, write_star

MOTION = "relion/motion/motion.star"
FILES = (
    "optimisation_set.star",
    "tomograms.star",
    "particles.star",
    "fsc.star",
    "tilt_series/TS_01.star",
    MOTION,
)
MARK = "\ufeff".encode()


def lines(text: bytes, change: Callable[[bytes], bytes]) -> bytes:
    return b"\n".join(map(change, text.split(b"\n")))


def is_row(line: bytes) -> bool:
    return bool(line) and line[:1] not in b"_#l" and not line.startswith(b"data_")


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "byte order mark": lambda text: MARK + text,
    "Windows": lambda text: MARK + text.replace(b"\n", b"\r\n"),
    "old Macintosh": lambda text: text.replace(b"\n", b"\r"),
    "mixed line ends": lambda text: text.replace(b"\n", b"\r\n", 9).replace(b"loop_\n", b"loop_\r"),
    "a mark before every table": lambda text: text.replace(b"\ndata_", b"\n" + MARK + b"data_"),
    "marks before comments": lambda text: text.replace(b"\n# version", b"\n" + MARK + b"# version"),
    "trailing white space": lambda text: lines(text, lambda line: line + b" \t \x0b"),
    "tabs": lambda text: lines(text, lambda line: line.replace(b" ", b"\t") if is_row(line) else line),
    "form feeds": lambda text: text.replace(b"\ndata_", b"\n\x0c\ndata_").replace(b"\nloop_", b"\n\x0cloop_"),
    "comments": lambda text: lines(text, lambda line: line + b" # checked" if is_row(line) else line),
    "blank lines": lambda text: (
        lines(text, lambda line: line + b"\n\n  " if is_row(line) else line) + b"\n\n \n"
    ),
    "no end of the last line": lambda text: text.rstrip(b"\n"),
    "no numbers of columns": lambda text: lines(
        text, lambda line: line.partition(b" #")[0] if line.startswith(b"_") else line
    ),
    "numbers stuck to labels": lambda text: lines(
        text, lambda line: line.replace(b" #", b"#") if line.startswith(b"_") else line
    ),
    "keywords in capitals": lambda text: text.replace(b"loop_", b"LOOP_").replace(b"data_", b"DATA_"),
}


def equal(one: StarFile, other: StarFile) -> bool:
    return one.names == other.names and all(
        {k: list(v) for k, v in a.columns.items()} == {k: list(v) for k, v in b.columns.items()}
        and (a.version, a.is_loop) == (b.version, b.is_loop)
        for a, b in zip(one.tables, other.tables, strict=True)
    )


@pytest.mark.parametrize("kind", CHANGES)
def test_every_file_of_a_project_reads_the_same(project: Path, kind: str) -> None:
    sound = {name: read_star(name) for name in FILES}
    series, particles = open_dataset(Path("optimisation_set.star"), trajectories=Path(MOTION)).load("TS_01")
    for name in FILES:
        if name != MOTION or kind != "keywords in capitals":  # trajectories are found by ``data_``
            Path(name).write_bytes(CHANGES[kind](Path(name).read_bytes()))
    for name, expected in sound.items():
        found = read_star(name)
        assert equal(found, expected), name
        write_star("again.star", found)
        assert equal(read_star("again.star"), expected)
    dataset = open_dataset(Path("optimisation_set.star"), trajectories=Path(MOTION))
    assert check_project(Project.of(dataset, 48)) == []
    again, found_particles = dataset.load("TS_01")
    np.testing.assert_array_equal(again.projections_px, series.projections_px)
    np.testing.assert_array_equal(found_particles.trajectories_px, particles.trajectories_px)


def test_trajectory_sets_that_were_joined(project: Path) -> None:
    """The second file's mark stands in the middle of the first's last block."""
    text = Path(MOTION).read_bytes()
    second = MARK + text.replace(b"data_TS_01/", b"data_TS_02/")
    Path("joined.star").write_bytes(text + second)
    found = read_trajectory_set(project / "joined.star", working_directory=project)
    names = [f"TS_0{tomogram}/{number}" for tomogram in (1, 2) for number in range(1, 7)]
    offsets = found.load(names, 11)
    np.testing.assert_array_equal(offsets[:6], offsets[6:])
