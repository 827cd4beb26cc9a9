"""A run into the folder of an earlier one leaves nothing of it that no longer belongs to the results."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from small_project import make_settings
from tomopolish.run.outputs import look_for_outputs
from tomopolish.settings.alignment import AlignSettings, RunSettings
from tomopolish.settings.inputs import InputPaths, SpeciesPaths

MOVING = ("optimisation_set.star", "motion.star", "Trajectories/TS_01_x1.ply", "Trajectories/TS_01_x8.ply")
STILL = ("optimisation_set.star",)


def settings(folder: Path, **run: bool) -> AlignSettings:
    return make_settings(48, 6, run=RunSettings(output_folder=folder, **run))


def write(folder: Path, *names: str) -> None:
    """As the program writes: a new file that takes the place of the old one."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        new = folder / "new.part"
        new.write_text("same size")
        new.replace(folder / name)


def carry_out(folder: Path, *names: str, **run: bool) -> list[str]:
    earlier = look_for_outputs(settings(folder, **run))
    write(folder, *names)
    return sorted(earlier.remove_stale())


def held(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_what_the_new_run_does_not_write_again_goes(tmp_path: Path) -> None:
    assert carry_out(tmp_path, *MOVING) == []
    assert carry_out(tmp_path, *MOVING) == []
    assert carry_out(tmp_path, *STILL) == sorted(set(MOVING) - set(STILL))
    assert held(tmp_path) == ["optimisation_set.star", "temp/written.json"]
    assert not (tmp_path / "Trajectories").exists()
    assert carry_out(tmp_path, *STILL) == []


def test_a_file_written_again_stays_even_where_clocks_are_coarse(tmp_path: Path) -> None:
    for _ in range(2):
        earlier = look_for_outputs(settings(tmp_path))
        write(tmp_path, *MOVING)
        for name in MOVING:
            os.utime(tmp_path / name, (1e9, 1e9))
        assert earlier.remove_stale() == []
    assert set(MOVING) <= set(held(tmp_path))


def test_nothing_else_is_ever_removed(tmp_path: Path) -> None:
    # files of the same names that another program left, before and after
    others = (
        "motion.star",
        "Trajectories/TS_09_x1.ply",
        "Trajectories/mine.txt",
        "notes.md",
        "sub/motion.star",
    )
    write(tmp_path, *others)
    carry_out(tmp_path, "optimisation_set.star", "Trajectories/TS_01_x1.ply")
    (tmp_path / "Trajectories/TS_01_x8.ply").write_text("another program's")
    assert carry_out(tmp_path, *STILL) == ["Trajectories/TS_01_x1.ply"]
    assert set(others) | {"Trajectories/TS_01_x8.ply"} <= set(held(tmp_path))
    # one of ours that somebody has changed since
    carry_out(tmp_path, *MOVING)
    (tmp_path / "motion.star").write_text("edited by hand")
    assert "motion.star" not in carry_out(tmp_path, *STILL)
    assert (tmp_path / "motion.star").read_text() == "edited by hand"


@pytest.mark.parametrize(
    "name", ["../precious.star", "/precious.star", "notes.md", "a/b/motion.star", "temp"]
)
def test_an_edited_list_removes_nothing_that_is_no_result(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    carry_out(folder, *STILL)
    path = Path(str(tmp_path) + name) if name.startswith("/") else folder / name
    if not path.exists():
        write(path.parent, path.name)
    state = path.stat()
    listed = {str(path) if name.startswith("/") else name: [state.st_size, state.st_mtime_ns]}
    (folder / "temp/written.json").write_text(json.dumps(listed))
    assert carry_out(folder, *STILL) == [] and path.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"motion.star": 3}', '{"motion.star": ["a", "b"]}', "3"]
)
def test_a_damaged_list_removes_nothing(tmp_path: Path, content: str) -> None:
    carry_out(tmp_path, *MOVING)
    (tmp_path / "temp/written.json").write_text(content)
    assert carry_out(tmp_path, *STILL) == []
    assert set(MOVING) <= set(held(tmp_path))


def test_diagnostics_of_tomograms_that_are_kept_stay(tmp_path: Path) -> None:
    files = ("optimisation_set.star", "CCsum_TS_01.mrc", "diag_TS_01_frq_weight.mrc")
    carry_out(tmp_path, *files)
    assert carry_out(tmp_path, *STILL, only_do_unfinished=True) == []
    assert carry_out(tmp_path, *STILL) == list(files[:2] + files[2:])[1:]


def test_species_that_take_no_part_any_more_go(tmp_path: Path) -> None:
    def of(*names: str) -> AlignSettings:
        species = tuple(SpeciesPaths(name=n, optimisation_set=Path(f"{n}.star"), box_px=48) for n in names)
        return replace(settings(tmp_path), inputs=InputPaths(species=species))

    earlier = look_for_outputs(of("a", "b"))
    write(tmp_path, "tomograms.star", *(f"{n}/{f}" for n in "ab" for f in ("particles.star", "motion.star")))
    write(tmp_path, "b/my_mask.star")
    assert earlier.remove_stale() == []
    earlier = look_for_outputs(of("a"))
    write(tmp_path, "tomograms.star", "a/particles.star")
    assert sorted(earlier.remove_stale()) == ["a/motion.star", "b/motion.star", "b/particles.star"]
    assert held(tmp_path / "b") == ["my_mask.star"]
