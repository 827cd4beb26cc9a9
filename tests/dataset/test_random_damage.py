"""Random damage to a sound project ends in the clean error or in a sound project, nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_edits import set_cell
from tomopolish.dataset.check import check_project
from tomopolish.dataset.mrc import read_header
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.species import Project
from tomopolish.dataset.star import read_star
from tomopolish.errors import InputError, RunError

FIVE = ["optimisation_set.star", "tomograms.star", "particles.star", "tilt_series/TS_01.star", "fsc.star"]
FOUR = ["optimisation_set_r4.star", "tomograms_r4.star", "particles_r4.star"]
VALUES = st.one_of(
    st.sampled_from(
        ["", "nan", "inf", "-1", "0", "1e400", "1e30", "[1,2]", "[]", "None", "TS_01", "..", "/", "1_0"]
    ),
    st.text(st.characters(blacklist_categories=["Cc", "Cs"]), max_size=5),
    st.integers(-(10**12), 10**12).map(str),
)


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def outcome(start: str) -> str:
    """Return the outcome for a project: it passes, or is refused in one sentence."""
    try:
        check_project(
            Project.of(open_dataset(Path(start), trajectories=Path("relion/motion/motion.star")), 48)
        )
    except InputError as problem:
        assert "\n" not in str(problem)
        return "refused"
    return "passed"


@pytest.fixture(scope="module")
def sandbox(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage") / "project"
    shutil.copytree(mini, folder)
    return folder


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_value_in_any_cell(sandbox: Path, data: st.DataObject) -> None:
    with inside(sandbox):
        name = data.draw(st.sampled_from(FIVE + FOUR))
        star = read_star(name)
        table = data.draw(st.sampled_from(star.tables))
        label = data.draw(st.sampled_from(sorted(table.columns)))
        row = data.draw(st.integers(0, len(table) - 1))
        value = data.draw(VALUES)
        original = Path(name).read_bytes()
        try:
            with contextlib.suppress(InputError):  # a value that no STAR file can hold
                set_cell(name, table.name, label, row, value)
            outcome(FOUR[0] if name in FOUR else FIVE[0])
        finally:
            Path(name).write_bytes(original)


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_damage_to_the_text(sandbox: Path, data: st.DataObject) -> None:
    """A stretch of bytes is lost, doubled or overwritten."""
    with inside(sandbox):
        name = data.draw(st.sampled_from([*FIVE, *FOUR, "relion/motion/motion.star"]))
        original = Path(name).read_bytes()
        start = data.draw(st.integers(0, len(original)))
        stop = data.draw(st.integers(start, min(len(original), start + 200)))
        middle = data.draw(st.one_of(st.just(b""), st.just(original[start:stop] * 2), st.binary(max_size=20)))
        try:
            Path(name).write_bytes(original[:start] + middle + original[stop:])
            outcome(FOUR[0] if name in FOUR else FIVE[0])
        finally:
            Path(name).write_bytes(original)


@given(position=st.integers(0, 1023), value=st.binary(min_size=1, max_size=8), length=st.integers(0, 3000))
@settings(max_examples=300, deadline=None)
def test_any_damage_to_an_mrc_header(sandbox: Path, position: int, value: bytes, length: int) -> None:
    raw = bytearray((sandbox / "mask.mrc").read_bytes())
    raw[position : position + len(value)] = value
    path = sandbox / "damaged.mrc"
    path.write_bytes(raw if length > 2000 else raw[:length])
    try:
        header = read_header(path)
        volume = header.read_volume()
    except (InputError, RunError) as problem:
        assert "damaged.mrc" in str(problem)
        return
    assert volume.shape == header.shape and volume.dtype == np.float32


def test_an_undamaged_project_passes(sandbox: Path) -> None:
    with inside(sandbox):
        assert outcome(FIVE[0]) == outcome(FOUR[0]) == "passed"
