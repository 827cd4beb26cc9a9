"""run.log and run.yaml: what was said and how a command was run, whatever becomes of it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

import tomopolish
from tomopolish.cli import run
from tomopolish.plain_text import safe_to_show
from tomopolish.run.journal import checksums, recording
from tomopolish.run.journal.log_file import open_log
from tomopolish.run.journal.provenance import commit

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "7"]
QUICK = [*ALIGN, "--no_report", "--hold_out", "0"]


def record_of(folder: Path, name: str = "run.yaml") -> dict[str, Any]:
    content = yaml.safe_load((folder / name).read_text())
    assert isinstance(content, dict)
    return content


def said(folder: Path) -> list[str]:
    """Return the messages in a log, without time and level."""
    lines = (folder / "run.log").read_text().splitlines()
    return [line.split(" ", 1)[1].split(maxsplit=1)[1] for line in lines if line[:2] == "20"]


def test_the_log_holds_all_that_was_said_and_more(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ALIGN, "--it", "3", "--s_vel", "2", "--o", "out"]) == 0
    shown, log = capsys.readouterr(), said(project / "out")
    text = "\n".join(log)
    assert log[0].endswith("align --i optimisation_set.star --b 48 --r 7 --it 3 --s_vel 2 --o out")
    assert log[0].startswith(f"tomopolish {tomopolish.__version__}: tomopolish align ")
    for start in (
        "Input: optimisation_set.star, 2 tomograms, 12 particles",
        "Resolution: ",
        "Mask: mask.mrc",
        "Processors: CPU, 1 thread (--device auto: CuPy is not installed",
        "Output: out",
    ):
        assert start in text and start in shown.out
    assert "--s_vel has no effect without --motion" in log
    assert log[-1].startswith("ended with exit status 0 after ")
    words = " ".join((project / "out/run.log").read_text().split())
    for line in shown.out.splitlines():
        assert " ".join(line.split()) in words
    levels = {
        line.split()[1] for line in (project / "out/run.log").read_text().splitlines() if line[:2] == "20"
    }
    assert levels == {"DEBUG", "INFO", "WARNING"}


def test_quiet_shows_warnings_alone_and_loses_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*QUICK, "--s_vel", "2", "--o", "out", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "warning: --s_vel has no effect without --motion\n")
    assert any(line.startswith("Refined sets: out/") for line in said(project / "out"))
    assert run([*QUICK, "--o", "out", "--quiet", "--verbose"]) == 2
    assert "--quiet and --verbose contradict" in capsys.readouterr().err


def test_how_it_was_run_is_recorded(project: Path) -> None:
    before = datetime.now().astimezone()
    assert run([*ALIGN, "--no_report", "--s_vel", "2", "--j", "2", "--o", "out"]) == 0
    record = record_of(project / "out")
    assert record["command"] == "align" and record["exit_status"] == 0 and record["threads"] == 2
    options = record["options"]
    assert options["i"] == ["optimisation_set.star"] and options["r"] == 7 and options["hold_out"] == "auto"
    assert options["use_SNR_weight"] is False
    start, end = (datetime.fromisoformat(record[name]) for name in ("start", "end"))
    assert before.replace(microsecond=0) <= start <= end <= datetime.now().astimezone()
    assert record["working_directory"] == str(project)
    assert {"python", "numpy", "numba"} <= record["versions"].keys()
    assert record["warnings"] == ["--s_vel has no effect without --motion"]
    tables = {row["path"]: row for row in record["inputs"]["tables_and_maps"]}
    for name in ("particles.star", "ref_half1.mrc", "mask.mrc", "tilt_series/TS_02.star"):
        assert tables[name]["sha256"] == sha256((project / name).read_bytes()).hexdigest()
    assert record["inputs"]["images"]["number"] == 2


def test_the_commit_is_that_of_the_checkout(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    (root / "src/tomopolish").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    assert commit(root / "src/tomopolish") is None
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "pyproject.toml"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert commit(root / "src/tomopolish") == head
    (root / "pyproject.toml").write_text("changed")
    assert commit(root / "src/tomopolish") == f"{head}-dirty"


def test_a_failed_and_a_stopped_run_say_so(project: Path) -> None:
    assert run([*QUICK, "--it", "2", "--freq_cutoff", "900", "--o", "out"]) == 2
    record = record_of(project / "out")
    assert record["exit_status"] == 2 and record["end"]
    assert any("leaves no frequency" in line for line in said(project / "out"))
    code = (
        "import os, signal\n"
        "from tomopolish import pipeline\n"
        "def stop(*_):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "pipeline.align_tomogram = stop\n"
        "from tomopolish.cli import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *QUICK, "--o", "stopped"], check=False, capture_output=True
    )
    assert ended.returncode == 128 + signal.SIGTERM
    assert record_of(project / "stopped")["exit_status"] == ended.returncode
    assert said(project / "stopped")[-2] == "terminated"


def test_commands_in_one_folder_keep_their_records(project: Path) -> None:
    assert run([*QUICK, "--it", "2", "--o", "out"]) == 0
    first = (project / "out/run.yaml").read_bytes()
    export = ["export", "--i", "out/optimisation_set.star", "--format", "imod", "--o", "out"]
    assert run(export) == run(["report", "out"]) == 0
    assert (project / "out/run.yaml").read_bytes() == first
    assert record_of(project / "out", "run_export.yaml")["options"]["format"] == ["imod"]
    start = f"tomopolish {tomopolish.__version__}: tomopolish "
    begun = [line.removeprefix(start).split()[0] for line in said(project / "out") if line.startswith(start)]
    assert begun == ["align", "export", "report"]


def test_files_of_others_stay(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "out").mkdir()
    (project / "precious").write_text("mine")
    (project / "out/run.log").symlink_to(project / "precious")
    (project / "out/run.yaml").write_text("of another program: yes\n")
    assert run([*QUICK, "--it", "2", "--o", "out"]) == 0
    assert (project / "precious").read_text() == "mine"
    assert (project / "out/run.yaml").read_text() == "of another program: yes\n"
    assert "ended with exit status 0" in (project / "out/run_tomopolish.log").read_text()
    assert record_of(project / "out", "run_align.yaml")["exit_status"] == 0
    (project / "out/run_tomopolish.log").write_text("of another program")
    assert run([*QUICK, "--it", "2", "--o", "out"]) == 0
    assert "run.log cannot be written (" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full device")
def test_a_full_disk_of_the_log_does_not_matter(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(folder: Path) -> Any:
        opened = open_log(folder)
        assert not isinstance(opened, str)
        os.close(opened._descriptor)
        opened._descriptor = os.open("/dev/full", os.O_WRONLY)
        return opened

    monkeypatch.setattr(recording, "open_log", full)
    assert run([*QUICK, "--it", "2", "--o", "out"]) == 0
    errors = capsys.readouterr().err
    assert errors.count("messages cannot be written (No space left on device); the run goes on") == 1
    assert (project / "out/optimisation_set.star").exists()
    assert "No space left" in record_of(project / "out")["warnings"][0]


HOSTILE = "TS\x1b[2J\x07 x\u202e\n2026-11-29T00:00:00+00:00 INFO    ended with exit status 0"


def test_no_name_can_write_escapes_or_forge_a_message(tmp_path: Path) -> None:
    opened = open_log(tmp_path)
    assert not isinstance(opened, str)
    opened.write(logging.LogRecord("tomopolish", logging.INFO, "", 0, "%s", (HOSTILE,), None))
    opened.close()
    content = (tmp_path / "run.log").read_text()
    assert safe_to_show(content) == content and "\x1b" not in content
    assert [line[:2] for line in content.splitlines()] == ["# ", "20", "  "]


def test_functions_record_too_and_a_program_gets_the_messages(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    refined = tomopolish.align(
        "optimisation_set.star", "out", box_px=48, range_px=7, max_iterations=2, report=False
    )
    assert any(line.startswith("Refined sets: ") for line in said(project / "out"))
    record = record_of(project / "out")
    assert record["command"] == "align" and record["exit_status"] == 0
    assert "tomopolish.align" in record["call"] or "align(" in record["call"]
    assert record["arguments"]["range_px"] == 7
    assert [r.name for r in caplog.records if r.getMessage().startswith("Refined sets")] == ["tomopolish"]
    assert not [r for r in caplog.records if r.levelno < logging.INFO]
    assert refined.output_folder is not None
    assert run(["align", "--config", "out/run.yaml"]) == 2


def test_checksums_notice_what_they_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"image{n}.mrc" for n in range(3)]
    for path in paths:
        path.write_bytes(bytes(range(256)) * 400)
    monkeypatch.setattr(checksums, "MOST_SAMPLED", 2)
    first = checksums.image_checksums(paths, tmp_path)
    assert first["number"] == 3 and len(first["files"]) == 2 and first["bytes"] == 3 * 102_400
    for path in (paths[0], paths[2]):
        state = path.stat()
        with path.open("r+b") as stream:
            stream.seek(-1, 2)
            stream.write(b"x")
        if path == paths[0]:  # of the others, only size and time are known
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert checksums.image_checksums(paths, tmp_path)["sha256"] != first["sha256"]
    missing = checksums.table_checksums([tmp_path / "none.star"], tmp_path)
    assert missing == [{"path": "none.star", "unreadable": "No such file or directory"}]
