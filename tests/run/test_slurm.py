"""Runs whose workers are jobs of Slurm, for which commands stand in that run the jobs here."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from runs_on_workers import Listener, refined
from slurm_stand_in import SlurmStandIn

from tomopolish.cli import run
from tomopolish.run.cluster.launch import open_cluster
from tomopolish.settings.cluster import ClusterSettings, SlurmSettings
from workers_marks import ON_WORKERS

slurm_jobs = pytest.importorskip("tomopolish.run.cluster.slurm_jobs")
pytestmark = ON_WORKERS
PROFILE = """slurm: true
workers: 1
slurm_partition: gpu
slurm_walltime: "00:20:00"
slurm_memory: 2GB
slurm_gpus: 1
slurm_directive: ["--account=lab"]
slurm_prologue: ["echo prologue has run", "stat -c %a 'out (1)'/.tomopolish/workers-*{,/key.pem} > modes"]
"""
_ALIGN = "align --i optimisation_set.star --b 48 --r 6 --no_report"
ALIGN = _ALIGN.split()
DIRECTIVES = (
    "#SBATCH -p gpu",
    "#SBATCH -t 00:20:00",
    "#SBATCH --mem=2G",
    "#SBATCH --cpus-per-task=1",
    "#SBATCH --gres=gpu:1",
    "#SBATCH --account=lab",
    "#SBATCH --exclusive",
    "echo prologue has run",
)


@pytest.fixture
def slurm(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmStandIn]:
    stand_in = SlurmStandIn(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(stand_in.commands), prepend=":")
    yield stand_in
    stand_in.end()
    print(stand_in.output)  # shown where the test has failed


@pytest.mark.slow
def test_jobs_of_slurm_refine_the_tomograms(
    project: Path, slurm: SlurmStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "lab.yaml").write_text(PROFILE)
    options = [
        "--cluster_profile",
        "lab.yaml",
        "--slurm_directive=--exclusive",
        "--j",
        "1",
        "--device",
        "cpu",
    ]
    assert run([*ALIGN, *options, "--o", "out (1)"]) == 0
    captured = capsys.readouterr()
    assert "TS_01" in captured.out and "none left" in captured.out
    assert all("ended at the edge of their windows" in line for line in captured.err.splitlines())
    assert len(slurm.scripts) == 1
    for script in slurm.scripts:
        for line in DIRECTIVES:
            assert line in script.splitlines(), script
        assert "PRIVATE KEY" not in script
        assert f"#SBATCH --output='{project}/out (1)/workers/slurm-%j.out'" in script.splitlines()
        assert (
            script.index("PYTHONSAFEPATH=1")
            < script.index("DASK_TEMPORARY_DIRECTORY")
            < script.index("dask_worker")
        )
    assert (project / "modes").read_text().split() == ["700", "600"]
    assert not list((project / "out (1)").rglob("workers-*"))
    assert slurm.cancelled == ["1"]
    assert slurm.all_ended()
    assert run([*ALIGN, "--o", "alone"]) == 0
    for name in ("particles.star", "tilt_series/TS_01.star", "tilt_series/TS_02.star"):
        assert (project / "out (1)" / name).read_bytes() == (project / "alone" / name).read_bytes()


@pytest.mark.parametrize("accepts_rest", [False, True], ids=["none", "all but the first"])
def test_slurm_that_refuses_jobs_ends_the_run_in_a_sentence(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    accepts_rest: bool,
) -> None:
    stand_in = SlurmStandIn(tmp_path / "slurm", refuses=True, accepts_rest=accepts_rest, seconds=0.5)
    monkeypatch.setenv("PATH", str(stand_in.commands), prepend=":")
    assert run([*ALIGN, "--slurm", "--workers", "2", "--slurm_partition", "none", "--o", "out"]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"tomopolish: the workers cannot be started: Slurm refused {1 if accepts_rest else 2} of 2 jobs "
        "(sbatch: error: invalid partition specified: none); see the options that begin with --slurm_\n"
    )
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert stand_in.submissions == 2
    assert stand_in.cancelled == (["7"] if accepts_rest else [])


@pytest.mark.parametrize("is_asked_twice", [False, True], ids=["once", "twice"])
def test_a_run_stopped_while_slurm_takes_its_jobs_cancels_them(
    project: Path, tmp_path: Path, is_asked_twice: bool
) -> None:
    stand_in = SlurmStandIn(tmp_path / "slurm", seconds=1)
    path = f"{stand_in.commands}{os.pathsep}{os.environ['PATH']}"
    command = [
        sys.executable,
        "-m",
        "tomopolish",
        *ALIGN,
        "--slurm",
        "--workers",
        "2",
        "--slurm_memory",
        "1GB",
    ]
    run = subprocess.Popen(
        [*command, "--o", "out"], env={**os.environ, "PATH": path}, stderr=subprocess.PIPE, text=True
    )
    while stand_in.being_taken() < 2:
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGTERM)
    if is_asked_twice:
        time.sleep(0.7)
        run.send_signal(signal.SIGTERM)
    _, error = run.communicate(timeout=60)
    assert run.returncode == 143 and "Traceback" not in error, error
    assert ("and asked again: ended at once" in error) == is_asked_twice
    assert stand_in.all_ended()
    assert set(stand_in.cancelled) == {"1", "2"}


def test_a_slurm_slow_to_cancel_costs_no_result(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = SlurmStandIn(tmp_path / "slurm")
    scancel = stand_in.commands / "scancel"
    scancel.write_text(scancel.read_text().replace("sleep 0", "sleep 3"))
    monkeypatch.setenv("PATH", str(stand_in.commands), prepend=":")
    monkeypatch.setattr("tomopolish.run.cluster.launch.SECONDS_TO_CANCEL", 1)
    assert run([*ALIGN, "--slurm", "--workers", "1", "--slurm_memory", "2GB", "--j", "1", "--o", "out"]) == 0
    assert (project / "out/particles.star").exists()
    stand_in.end()


def test_jobs_that_end_before_their_worker_connects_end_the_run(
    project: Path, slurm: SlurmStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SECONDS_UNTIL_WORDS", "SECONDS_BETWEEN_QUESTIONS"):
        monkeypatch.setattr(f"tomopolish.run.cluster.waiting.{name}", 0.5)
    assert run([*ALIGN, "--slurm", "--workers", "1", "--slurm_prologue", "exit 3", "--o", "out"]) == 1
    assert (
        "the Slurm jobs (1) ended before one of their workers connected: their output "
        "(workers/slurm-NUMBER.out in the output folder) says why"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("gpus", [0, 2], ids=["one worker in a job", "two workers in a job"])
def test_jobs_that_reach_their_time_limit_are_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: SlurmStandIn, gpus: int
) -> None:
    monkeypatch.setattr(slurm_jobs, "SECONDS_BETWEEN_QUESTIONS", 0.2)
    sources = ":".join(shlex.quote(str(Path(__file__).parents[i])) for i in (0, 1))
    described = SlurmSettings(memory="2GB", gpus=gpus, prologue=(f"export PYTHONPATH={sources}:$PYTHONPATH",))
    state = tmp_path / "out" / ".tomopolish"
    state.mkdir(parents=True)
    reporter = Listener()
    with open_cluster(
        ClusterSettings(workers=1, slurm=described), 1, reporter, shared_folder=state
    ) as cluster:
        report = refined(cluster, tmp_path, "at the job's time limit", "TS_02")
    assert not report.failures and len(report.results) == 2
    assert len(slurm.scripts) == 2
    sentence = "1 Slurm job has ended, as at the time limit (--slurm_walltime): it is submitted again"
    usual = ("Waiting for the worker of a Slurm job", "Workers are reached over TLS")
    assert [line for line in reporter.said if not line.startswith(usual)] == [sentence]
    assert slurm.all_ended()


def test_a_slurm_that_refuses_to_replace_a_job_is_asked_again() -> None:
    answers: list[list[Exception]] = [
        [RuntimeError("stderr:\nlimit of jobs")],
        [RuntimeError("the same")],
        [],
    ]
    jobs = SimpleNamespace(had_workers={"job-0"}, connected=set, ended=set, lost=lambda: None)

    def submit_again(names: set[str]) -> list[RuntimeError]:
        refusals = answers.pop(0)
        jobs.had_workers -= set() if refusals else names
        return refusals

    jobs.submit_again = submit_again
    reporter = Listener()
    renewal = slurm_jobs.Renewal(jobs=jobs, reporter=reporter)  # type: ignore[arg-type]
    for _ in range(4):
        assert renewal.lost() is None
    assert not answers, "it was asked until it accepted the job, and not once more"
    assert reporter.warnings == [
        "Slurm refuses to replace jobs that have ended (limit of jobs): the run tries again every 30 s"
    ]


def test_a_dry_run_shows_the_script_of_the_jobs(
    project: Path, slurm: SlurmStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--slurm", "--workers", "3", "--slurm_account", "lab7", "--slurm_qos", "long", "--j", "2"]
    assert run([*ALIGN, *options, "--o", "out", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "Script of each of the 3 Slurm jobs" in out
    for line in ("#SBATCH -A lab7", "#SBATCH --qos=long", "#SBATCH --cpus-per-task=2"):
        assert line in out.splitlines()
    assert not slurm.scripts and not (project / "out").exists()


def test_a_machine_without_slurm_is_told_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(project))
    assert run([*ALIGN, "--slurm", "--workers", "2", "--o", "out"]) == 2
    assert "command not found: sbatch" in capsys.readouterr().err
    assert not (project / "out").exists()
