"""Whenever and however a process ends that replaces sets: no optimisation set joins new and old files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tomopolish.errors import InputError, RunError
from tomopolish.run.folder import switch
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder

SCRIPT = Path(__file__).with_name("kill_points.py")
Found = Mapping[str, Sequence[Mapping[str, str]]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Way of ending → for each step at which a process ended, what was there, and what came of it."""
    folder = tmp_path_factory.mktemp("kill points")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), "SIGKILL", "SIGTERM", "full disk"],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    result: Found = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("way", ["SIGKILL", "SIGTERM", "full disk"])
def test_no_step_leaves_a_mixture_and_the_next_command_completes_it(found: Found, way: str) -> None:
    steps = found[way]
    assert len(steps) > 20
    for step in steps:
        assert step["after"] in ("old", "new", *(["none"] if way != "SIGTERM" else []))
        # what was complete before the switch stays, what had begun to be switched is switched
        assert step["completed"] == step["after"] or step["completed"] == "new"
        assert step.get("again", "new") == "new"
        assert step["left"] == "lock written.json"
    assert {step["after"] for step in steps} >= {"old", "new"}


def test_a_process_that_is_asked_to_end_says_what_is_there(found: Found) -> None:
    says = {"old": "; nothing has been changed in out", "new": "; its files are in out"}
    for step in found["SIGTERM"][:-1]:
        if says["old"] in step["said"] or says["new"] in step["said"]:
            assert says[step["after"]] in step["said"]
        else:  # before the folder is its own
            assert step["said"] == "AskedToEnd: terminated" and step["after"] == "old"


def test_one_whose_disk_is_full_says_where_the_new_files_are(found: Found) -> None:
    for step in found["full disk"]:
        if step["after"] == "none":
            assert (
                "cannot be replaced (No space left on device); the new files are complete in" in step["said"]
            )
        assert step["said"] in ("", "done") or "No space left on device" in step["said"]


def write(folder: Path, text: str, *names: str, overwrite: bool = False) -> None:
    guard = Guard(folder=folder, shown="out", command="align", overwrite=overwrite)
    with own_folder(guard, ["align"]) as out, out.new_files(joining=["set.star"]) as new:
        for name in names:
            (new / name).write_text(text)


def stop_before(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    move = switch._move

    def stopping(source: Path, target: Path) -> None:
        if target.name == name:
            raise RunError("stopped")
        move(source, target)

    monkeypatch.setattr(switch, "_move", stopping)


def test_a_file_changed_since_an_interruption_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "old", "a.star", "b.star", "set.star")
    with monkeypatch.context() as patch:
        stop_before("b.star", patch)
        with pytest.raises(RunError):
            write(tmp_path, "new", "a.star", "b.star", "set.star")
    (tmp_path / "b.star").write_text("edited by hand")
    with pytest.raises(InputError, match=r"b\.star: this file has changed since a command"):
        write(tmp_path, "newer", "a.star", "b.star", "set.star")
    assert (tmp_path / "b.star").read_text() == "edited by hand"
    (tmp_path / "b.star").rename(tmp_path / "mine.star")  # as the message says
    write(tmp_path, "newer", "a.star", "b.star", "set.star")
    assert [(tmp_path / f"{n}.star").read_text() for n in ("a", "b", "set")] == ["newer"] * 3


def test_new_files_that_somebody_removed_are_not_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "old", "set.star")
    with monkeypatch.context() as patch:
        stop_before("b.star", patch)
        with pytest.raises(RunError):
            write(tmp_path, "new", "a.star", "b.star", "set.star")
    (tmp_path / ".tomopolish/new/b.star").unlink()
    with own_folder(Guard(folder=tmp_path, shown="out", command="align"), ["align"]):
        assert not (tmp_path / "set.star").exists()
    write(tmp_path, "newer", "a.star", "b.star", "set.star")


@pytest.mark.parametrize(
    "change",
    [
        {"sources": {"set.star": "../precious"}},
        {"sources": {"../../set.star": ".tomopolish/new/a"}},
        {"sources": {"set.star": "link/precious"}},
        {"obsolete": ["/precious"]},
        {"replaced": 3},
        {"joining": None},
    ],
)
def test_a_journal_that_leads_elsewhere_is_not_followed(tmp_path: Path, change: dict[str, object]) -> None:
    folder = tmp_path / "out"
    write(folder, "old", "set.star")
    (tmp_path / "precious").write_text("precious")
    (folder / "link").symlink_to(tmp_path)
    journal = {"command": "align", "sources": {}, "joining": [], "obsolete": [], "replaced": {}}
    (folder / ".tomopolish/switch.json").write_text(json.dumps(journal | change))
    with own_folder(Guard(folder=folder, shown="out", command="align"), ["align"]):
        pass
    assert (tmp_path / "precious").read_text() == "precious"
    assert (folder / "set.star").read_text() == "old"


def test_a_part_of_the_folder_may_lie_on_another_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "old", "a.star", "set.star")

    def elsewhere(source: Path, target: Path) -> None:
        if source.parent != target.parent:
            raise OSError(18, "Invalid cross-device link")
        source.rename(target)

    monkeypatch.setattr(Path, "replace", elsewhere)
    write(tmp_path, "new", "a.star", "set.star")
    assert [(tmp_path / f"{n}.star").read_text() for n in ("a", "set")] == ["new", "new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".tomopolish", "a.star", "set.star"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_that_is_read_only_is_noticed_before_anything_changes(tmp_path: Path) -> None:
    write(tmp_path, "old", "set.star")
    (tmp_path / "tilt_series").mkdir(mode=0o500)
    guard = Guard(folder=tmp_path, shown="out", command="align")
    with (
        pytest.raises(RunError, match="tilt_series: files cannot be replaced there"),
        own_folder(guard, ["align"]) as out,
        out.new_files(joining=["set.star"]) as new,
    ):
        (new / "tilt_series").mkdir()
        for name in ("set.star", "tilt_series/TS_01.star"):
            (new / name).write_text("new")
    assert (tmp_path / "set.star").read_text() == "old"


def test_results_of_a_long_run_survive_that_somebody_cleans_up(tmp_path: Path) -> None:
    with own_folder(Guard(folder=tmp_path, shown="--o out", command="align"), ["tomopolish"]) as out:
        shutil.rmtree(tmp_path / ".tomopolish")
        with out.new_files() as new:
            (new / "particles.star").write_text("refined")
    assert (tmp_path / "particles.star").read_text() == "refined"
    assert [path.name for path in (tmp_path / ".tomopolish").iterdir()] == ["written.json"]
