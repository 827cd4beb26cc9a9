"""Whole runs that are interrupted, terminated, killed, or find the disk full: real processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import killable_stages
import pytest

from tomopolish.cli import run
from tomopolish.run import align as whole_run

pytestmark = pytest.mark.usefixtures("blank_logfile")
SCRIPT = Path(__file__).with_name("killable_run.py")
_OPTIONS = "--i optimisation_set.star --b 48 --r 6 --no_report --hold_out 0 --o out --pipeline_control out"
OPTIONS = _OPTIONS.split()
CLUSTER = ["--workers", "1"]
SIGNALS = {"SIGINT": (130, "ABORTED"), "SIGTERM": (143, "ABORTED"), "SIGKILL": (-9, None)}
HERE = {**SIGNALS, "SIGHUP": (129, "ABORTED")}


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def session_members(session: int) -> list[int]:
    """Processes of a session that are still there."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(entry.name))
    return found


@pytest.fixture
def finished_processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Runs whose processes are ended with the test, whatever happens."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        for member in session_members(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        process.communicate()


def check_left_behind(project: Path) -> None:
    """The first tomogram is kept, and nothing half-written or misleading is there."""
    assert (project / "out/temp/TS_01.npz").exists()
    assert not (project / "out/temp/TS_02.npz").exists()
    assert not list((project / "out").rglob("*.star"))
    assert not list((project / "out").rglob(".*.part"))


def check_refused(project: Path, pid: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A second run into the same folder is told whose it is, and leaves the first and its job alone."""
    before = sorted((project / "out").rglob("*"))
    assert run(["align", *OPTIONS, "--const_a"]) == 2
    assert f"--o out is in use by process {pid} of " in capsys.readouterr().err
    assert sorted((project / "out").rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "where"),
    [
        *((name, "here") for name in HERE),
        *(pytest.param(name, "cluster", marks=pytest.mark.slow) for name in SIGNALS),
    ],
)
def test_a_run_that_is_ended_keeps_what_is_finished(
    project: Path,
    name: str,
    where: str,
    finished_processes: list[subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, left = HERE[name]
    process = start(*OPTIONS, *(CLUSTER if where == "cluster" else []))
    finished_processes.append(process)
    wait_until(lambda: (project / "begun").exists() and (project / "out/temp/TS_01.npz").exists())
    check_refused(project, process.pid, capsys)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=40)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    check_left_behind(project)
    exits = [path.name for path in (project / "out").glob("RELION_JOB_*")]
    assert exits == ([f"RELION_JOB_EXIT_{left}"] if left else [])
    assert ("with --only_do_unfinished resumes" in errors) == (left is not None)
    wait_until(lambda: not session_members(process.pid), 30)
    (project / "hurry").touch()
    monkeypatch.setitem(whole_run.run_align.__kwdefaults__, "stages", killable_stages.STAGES)
    assert run(["align", *OPTIONS, "--only_do_unfinished"]) == 0
    assert "TS_01 (1/2): finished earlier" in capsys.readouterr().out
    assert (project / "out/RELION_JOB_EXIT_SUCCESS").exists()


def test_a_full_disk_leaves_nothing_half_written(
    project: Path, finished_processes: list[subprocess.Popen[str]]
) -> None:
    (project / "hurry").touch()
    process = start("limit=600", *OPTIONS)
    finished_processes.append(process)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "TS_01 failed" in errors
    assert "cannot be written (File too large); check the folder and the free space" in errors
    assert not [path for path in (project / "out").rglob("*") if path.suffix in (".part", ".star", ".npz")]
    assert (project / "out/RELION_JOB_EXIT_FAILURE").exists()


def test_what_a_killed_writer_left_is_removed_by_the_next_run(project: Path) -> None:
    (project / "out/temp").mkdir(parents=True)
    leftover = project / f"out/temp/.TS_01.npz.{'0' * 32}.part"
    foreign = project / "out/temp/.notes.part"
    leftover.touch()
    foreign.touch()
    assert run(["align", *OPTIONS]) == 0
    assert not leftover.exists()
    assert foreign.exists()


def test_a_corrupt_image_costs_its_tomogram_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = project / "tilt_series/TS_02.mrcs"
    content = stack.read_bytes()
    stack.unlink()
    stack.write_bytes(content[:1500])  # no image of it is complete
    before = (project / "tilt_series/TS_02.star").read_text()
    assert run(["align", *OPTIONS]) == 1
    captured = capsys.readouterr()
    assert "warning: TS_02 failed: " in captured.err
    assert captured.out.splitlines()[-1].startswith("TS_02 failed and keeps its input values: ")
    assert "TS_02.mrcs" in captured.out.splitlines()[-1]
    assert "TS_01" in (project / "out/tomograms.star").read_text()
    assert (project / "out/tilt_series/TS_02.star").read_text().split() == before.split()
    assert run(["align", *OPTIONS, "--strict"]) == 2
    assert (project / "out/RELION_JOB_EXIT_FAILURE").exists()


def test_a_tomogram_without_visible_particles_is_listed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (project / "particles.star").read_text().splitlines()
    optics = next(i for i, line in enumerate(lines) if line.startswith("data_particles"))
    labels = [line.split()[0] for line in lines[optics:] if line.startswith("_rln")]
    column = labels.index("_rlnCenteredCoordinateXAngst")
    for i, line in enumerate(lines):
        if line.startswith("TS_02"):
            cells = line.split()
            cells[column] = "900000"
            lines[i] = " ".join(cells)
    (project / "particles.star").write_text("\n".join([*lines, ""]))
    assert run(["align", *OPTIONS]) == 1
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == (
        "TS_02 failed and keeps its input values: no particle is half a box (24 px) inside any tilt image"
    )
