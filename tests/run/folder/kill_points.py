"""Ends processes at every step in which they change files, while they replace one generation by the next.

Prints, as JSON, for each way of ending and each step what the folder held afterwards, and what the next
command made of it.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tomopolish.errors import TomopolishError
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
from tomopolish.run.signals import ending_in_order

JOINING = ("optimisation_set.star", "second/optimisation_set.star")
KEPT = ("tomograms.star", "tilt_series/TS_01.star", "tilt_series/TS_02.star", *JOINING)
ONLY_OLD = ("motion.star", "Trajectories/TS_01_x1.ply", "third/optimisation_set.star")
ONLY_NEW = ("second/particles.star",)
STRIDES = {"SIGKILL": 1, "SIGTERM": 2, "full disk": 2}
STEPS = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir"})


def write_generation(folder: Path, text: str, names: tuple[str, ...]) -> None:
    guard = Guard(folder=folder, shown="--o out", command="align")
    with (
        own_folder(guard, ["tomopolish", "align"], names) as out,
        out.new_files(joining=JOINING, obsolete=lambda _: True) as new,
    ):
        for name in names:
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text)


def generation(folder: Path) -> str:
    """Say of which generation the optimisation sets are, and all that they join; "none" without a set."""
    sets = [name for name in (*JOINING, "third/optimisation_set.star") if (folder / name).exists()]
    found = {(folder / name).read_text() for name in sets}
    if not sets:
        return "none"
    for text, names in (("old", (*KEPT, *ONLY_OLD)), ("new", (*KEPT, *ONLY_NEW))):
        rest = [folder / name for name in names if "optimisation_set" not in name]
        if found == {text} and all(path.exists() and path.read_text() == text for path in rest):
            return text if text == "old" or not (folder / "motion.star").exists() else "mixed"
    return "mixed"


def end_at(step: int, way: str, folder: Path) -> list[int]:
    """From now on, end this process, or fail, as the step with that number is about to change a file.

    The list that is returned receives the step when it is reached.
    """
    count = 0
    reached: list[int] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if not (event in STEPS or writes) or str(folder) not in str(arguments[0]):
            return
        count += 1
        if count != step:
            return
        reached.append(step)
        if way == "full disk":
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
        os.kill(os.getpid(), getattr(signal, way))

    sys.addaudithook(watch)
    return reached


def carry_out(step: int, way: str, folder: Path, said: Path) -> None:
    """Replace the old generation in this process; what it says goes into a file."""
    reached = end_at(step, way, folder)
    sentence = ""
    with ending_in_order() as ending:
        try:
            with ending.raising():
                write_generation(folder, "new", (*KEPT, *ONLY_NEW))
        except (KeyboardInterrupt, TomopolishError, OSError) as error:
            sentence = f"{type(error).__name__}: {error}{ending.advice}"
    said.write_text(sentence if reached else "done")


def examine(base: Path, step: int, way: str) -> dict[str, str]:
    folder = base.with_name(f"out-{way.replace(' ', '-')}-{step}")
    said = base.with_name("said.txt")
    said.unlink(missing_ok=True)
    shutil.copytree(base, folder)
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            carry_out(step, way, folder, said)
        os._exit(0)
    os.waitpid(child, 0)
    found = {"said": said.read_text() if said.exists() else "", "after": generation(folder)}
    guard = Guard(folder=folder, shown="--o out", command="align")
    with own_folder(guard, ["tomopolish", "align"], [*KEPT, *ONLY_NEW]):
        found["completed"] = generation(folder)
    if way == "SIGKILL":
        write_generation(folder, "new", (*KEPT, *ONLY_NEW))
        found["again"] = generation(folder)
    found["left"] = " ".join(sorted(p.name for p in (folder / ".tomopolish").iterdir()))
    shutil.rmtree(folder)
    return found


def main() -> None:
    os.fsync = lambda descriptor: None  # type: ignore[assignment]  # machines do not stop here, processes do
    base = Path(sys.argv[1]) / "out"
    write_generation(base, "old", (*KEPT, *ONLY_OLD))
    found: dict[str, list[dict[str, str]]] = {}
    for way in sys.argv[2:]:
        found[way] = []
        for step in itertools.count(1, STRIDES[way]):
            found[way].append(examine(base, step, way))
            if found[way][-1]["said"] == "done":
                break
    print(json.dumps(found))


if __name__ == "__main__":
    main()
