"""A folder has one owner at a time; one that is gone, however it ended, does not block others."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from filelock import FileLock

from tomopolish.errors import InputError
from tomopolish.run.folder import lock
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.lock import FolderInUseError, read_owner, this_process
from tomopolish.run.folder.output import own_folder

OWNER = """
import sys, time
from pathlib import Path
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
with own_folder(Guard(folder=Path(sys.argv[1]), shown="out", command="align"), ["tomopolish", "align"]):
    print("owned", flush=True)
    time.sleep(60)
"""


ANN = {
    "host": "node17",
    "machine": "another",
    "process": 4,
    "process_start": "7",
    "user": "ann",
    "started": "2026-01-01",
    "command": "align",
}


def use(folder: Path) -> None:
    with own_folder(Guard(folder=folder, shown="--o out", command="align"), ["tomopolish", "align"]):
        assert read_owner(folder / ".tomopolish") is not None


def claim_elsewhere(folder: Path, age_seconds: float) -> Path:
    """Leave the record of an owner on another machine, whose lock this one does not see."""
    use(folder)
    record = folder / ".tomopolish/owner.json"
    record.write_text(json.dumps(ANN))
    then = time.time() - age_seconds
    os.utime(record, (then, then))
    return record


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
def test_the_second_process_is_told_who_owns_the_folder_until_that_has_ended(
    tmp_path: Path, ended_by: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"owned\n"
    try:
        with pytest.raises(FolderInUseError, match=rf"--o out is in use by process {process.pid} of .* on "):
            use(tmp_path)
    finally:
        process.send_signal(ended_by)
        process.communicate()
    use(tmp_path)
    assert sorted(p.name for p in (tmp_path / ".tomopolish").iterdir()) == ["lock"]


def test_an_owner_on_another_machine_is_believed_while_it_shows_signs_of_life(tmp_path: Path) -> None:
    record = claim_elsewhere(tmp_path, 20)
    with pytest.raises(FolderInUseError, match="process 4 of ann on node17") as refused:
        use(tmp_path)
    assert re.search(r"last seen (19|20|21) s ago", str(refused.value))
    assert f"remove {record}" in str(refused.value)
    record.unlink()  # as the message says
    use(tmp_path)


def test_an_owner_on_another_machine_that_went_quiet_is_gone(tmp_path: Path) -> None:
    claim_elsewhere(tmp_path, lock.QUIET_SECONDS + 5)
    use(tmp_path)


def test_an_owner_shows_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with own_folder(Guard(folder=tmp_path, shown="out", command="align"), ["align"]):
        record = tmp_path / ".tomopolish/owner.json"
        os.utime(record, (1e9, 1e9))
        end = time.monotonic() + 10
        while record.stat().st_mtime < 2e9 and time.time() - record.stat().st_mtime > 60:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(self: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refusing)


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_process_of_this_machine_that_is_gone_is_seen(tmp_path: Path) -> None:
    use(tmp_path)
    record = tmp_path / ".tomopolish/owner.json"
    mine = asdict(this_process(["align"]))
    ended = subprocess.Popen(["true"])
    ended.wait()
    for gone in ({"process": ended.pid}, {"process_start": "17"}):  # the latter: its number was given again
        record.write_text(json.dumps(mine | gone))
        use(tmp_path)
    record.write_text(json.dumps(mine))
    with pytest.raises(FolderInUseError, match=f"in use by process {os.getpid()} of "):
        use(tmp_path)


@pytest.mark.usefixtures("without_locks")
def test_without_locks_a_second_owner_is_refused(tmp_path: Path) -> None:
    with own_folder(Guard(folder=tmp_path, shown="out", command="align"), ["align"]):
        with pytest.raises(FolderInUseError):
            use(tmp_path)
        assert read_owner(tmp_path / ".tomopolish") is not None
    use(tmp_path)


def test_a_damaged_record_blocks_nobody(tmp_path: Path) -> None:
    claim_elsewhere(tmp_path, 0).write_text("{")
    use(tmp_path)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--o out cannot be used \(.*file.*Not a directory\)"):
        use(tmp_path / "file" / "out")
    (tmp_path / "trap").mkdir()
    (tmp_path / ".tomopolish").symlink_to(tmp_path / "trap")
    with pytest.raises(InputError, match="this is a link"):
        use(tmp_path)
    assert list((tmp_path / "trap").iterdir()) == []
