"""A command replaces what it wrote itself; other files on request only; inputs never."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tomopolish.errors import InputError
from tomopolish.run.folder.guard import Guard, Inputs
from tomopolish.run.folder.output import check_folder, own_folder

NAMES = ("particles.star", "tilt_series/TS_01.star")


def write(
    folder: Path,
    *names: str,
    command: str = "align",
    overwrite: bool = False,
    inputs: Inputs | None = None,
    obsolete: bool = False,
) -> None:
    guard = Guard(
        folder=folder, shown="--o out", command=command, overwrite=overwrite, inputs=inputs or Inputs()
    )
    with own_folder(guard, [command], names) as out, out.new_files(obsolete=lambda _: obsolete) as new:
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(f"by {command}")


def held(folder: Path) -> list[str]:
    found = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    return sorted(p.as_posix() for p in found if p.parts[0] != ".tomopolish")


def test_a_command_replaces_what_it_wrote(tmp_path: Path) -> None:
    for _ in range(2):
        write(tmp_path, *NAMES)
    shutil.copytree(tmp_path, tmp_path / "copy", copy_function=shutil.copy)  # with other times of change
    write(tmp_path / "copy", *NAMES)
    assert held(tmp_path / "copy") == list(NAMES)


FOREIGN: dict[str, tuple[Callable[[Path], object], str]] = {
    "another program's": (lambda folder: (folder / NAMES[0]).write_text("x"), "did not write"),
    "edited": (
        lambda folder: (write(folder, *NAMES), (folder / NAMES[0]).write_text("edited")),
        "which has changed since 'tomopolish align' wrote it",
    ),
    "same size and longer ago": (
        lambda folder: (
            write(folder, *NAMES),
            (folder / NAMES[0]).write_text("by alias"),
            os.utime(folder / NAMES[0], (1e9, 1e9)),
        ),
        "has changed since",
    ),
    "another command's": (
        lambda folder: write(folder, *NAMES, command="simulate"),
        "which 'tomopolish simulate' wrote",
    ),
    "a link": (lambda folder: (folder / NAMES[0]).symlink_to("nowhere"), "did not write"),
    "the list is gone": (
        lambda folder: (write(folder, *NAMES), (folder / ".tomopolish/written.json").unlink()),
        "did not write",
    ),
    "the list is damaged": (
        lambda folder: (write(folder, *NAMES), (folder / ".tomopolish/written.json").write_text('{"files"')),
        "did not write",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_other_files_are_replaced_on_request_only(tmp_path: Path, case: str) -> None:
    prepare, reason = FOREIGN[case]
    prepare(tmp_path)
    before = [(tmp_path / name).lstat().st_ino for name in held(tmp_path)]
    with pytest.raises(InputError, match=r"--o out would replace particles\.star, which ") as refused:
        write(tmp_path, *NAMES)
    assert reason in str(refused.value)
    assert [(tmp_path / name).lstat().st_ino for name in held(tmp_path)] == before
    write(tmp_path, *NAMES, overwrite=True)
    assert (tmp_path / NAMES[0]).read_text() == "by align"
    assert not (tmp_path / NAMES[0]).is_symlink()
    write(tmp_path, *NAMES)


def test_a_folder_that_is_refused_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / NAMES[0]).write_text("x")
    with pytest.raises(InputError):
        write(tmp_path, *NAMES)
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[0]]


WAYS: dict[str, Callable[[Path, Path], Path]] = {
    "itself": lambda source, folder: source.rename(folder / NAMES[1]),
    "symbolic link": lambda source, folder: (folder / NAMES[1]).symlink_to(source) or source,
    "hard link": lambda source, folder: (folder / NAMES[1]).hardlink_to(source) or source,
    "linked folder": lambda source, folder: (
        (folder / "tilt_series").rmdir()
        or (folder / "tilt_series").symlink_to(source.parent)
        or source.rename(source.with_name("TS_01.star"))
    ),
    "by another path": lambda source, folder: (
        source.rename(folder / NAMES[1]).parent / "../tilt_series/TS_01.star"
    ),
}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_inputs_are_never_replaced(tmp_path: Path, way: str, overwrite: bool) -> None:
    folder = tmp_path / "out"
    (folder / "tilt_series").mkdir(parents=True)
    source = tmp_path / "inputs" / "mine.star"
    source.parent.mkdir()
    source.write_text("precious")
    named = WAYS[way](source, folder)
    for inputs in (Inputs(sets=lambda: [named]), Inputs(images=lambda: [named])):
        with pytest.raises(
            InputError, match=r"--o out would replace the input .*\.star: give another folder"
        ):
            write(folder, *NAMES, inputs=inputs, overwrite=overwrite)
    assert named.read_text() == (folder / NAMES[1]).read_text() == "precious"


def test_an_input_is_no_obsolete_file(tmp_path: Path) -> None:
    write(tmp_path, *NAMES)
    write(tmp_path, "other.star", inputs=Inputs(sets=lambda: [tmp_path / NAMES[0]]), obsolete=True)
    assert held(tmp_path) == ["other.star", "particles.star"]


def test_what_a_command_does_not_write_again_goes_if_nobody_has_changed_it(tmp_path: Path) -> None:
    write(tmp_path, *NAMES, "motion.star", "Trajectories/a.ply", "report.html")
    write(tmp_path, "imod/TS_01.xf", command="export")
    (tmp_path / "motion.star").write_text("edited")
    (tmp_path / "notes.md").write_text("mine")
    write(tmp_path, NAMES[0], obsolete=True)
    assert held(tmp_path) == ["imod/TS_01.xf", "motion.star", "notes.md", "particles.star"]
    assert not (tmp_path / "Trajectories").exists()


@pytest.mark.parametrize("name", ["../precious.star", "/precious.star", "a/../../precious.star"])
def test_an_edited_list_removes_nothing_elsewhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    write(folder, *NAMES)
    precious = tmp_path / "precious.star"
    precious.write_text("x")
    state = precious.stat()
    path = folder / ".tomopolish/written.json"
    content = json.loads(path.read_text())
    content["files"][name.replace("/precious", f"{tmp_path}/precious", 1) if name[0] == "/" else name] = [
        "align", state.st_size, state.st_mtime_ns, "",
    ]  # fmt: skip
    path.write_text(json.dumps(content))
    write(folder, NAMES[0], obsolete=True)
    assert precious.exists()
    assert held(folder) == [NAMES[0]]


@pytest.mark.parametrize("shape", ["folder at the file's place", "file at the folder's place"])
def test_what_cannot_be_replaced_by_a_file_is_refused_even_on_request(tmp_path: Path, shape: str) -> None:
    if shape.startswith("folder"):
        (tmp_path / NAMES[0]).mkdir()
    else:
        (tmp_path / "tilt_series").write_text("")
    with pytest.raises(InputError, match="move"):
        write(tmp_path, *NAMES, overwrite=True)


def test_a_folder_within_that_holds_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "temp").mkdir()
    (tmp_path / "temp/TS_01.npz").write_text("another program's")
    (tmp_path / "temp/else.txt").write_text("mine")
    with own_folder(Guard(folder=tmp_path, shown="out", command="align"), ["align"]) as out:
        out.claim("temp", ["TS_02.npz"])
    (tmp_path / ".tomopolish/written.json").unlink()
    with (
        pytest.raises(InputError, match=r"would replace temp/TS_01\.npz"),
        own_folder(Guard(folder=tmp_path, shown="out", command="align"), ["align"]) as out,
    ):
        out.claim("temp", ["TS_01.npz"])


def test_a_folder_of_another_commands_output_is_its_own(tmp_path: Path) -> None:
    def check(name: str, *, overwrite: bool = False) -> None:
        check_folder(Guard(folder=tmp_path / name, shown="--o x", command="align", overwrite=overwrite))

    with own_folder(Guard(folder=tmp_path, shown="out", command="polish"), ["polish"]) as out:
        out.claim("round01", [])
        check("round01")  # as polish itself does, within the same process
    for name in ("round01", "round01/maps/new"):
        with pytest.raises(InputError, match="belongs to the output of 'tomopolish polish'"):
            check(name)
        check(name, overwrite=True)
    check("round02")
    check("")
