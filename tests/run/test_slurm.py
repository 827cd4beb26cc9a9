"""Runs whose workers are jobs of Slurm, for which commands stand in that run the jobs here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_stand_in import SlurmStandIn

from tomopolish.cli import run

pytestmark = [
    pytest.mark.usefixtures("dask_leavings"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Dask leaves sockets to the collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
PROFILE = """slurm: true
workers: 2
slurm_partition: gpu
slurm_walltime: "00:20:00"
slurm_memory: 2GB
slurm_gpus: 1
slurm_directive: ["--account=lab"]
slurm_prologue: ["echo prologue has run"]
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
    assert run([*ALIGN, *options, "--o", "out"]) == 0
    captured = capsys.readouterr()
    assert "TS_01" in captured.out and "none left" in captured.out and captured.err == ""
    assert len(slurm.scripts) == 2
    for script in slurm.scripts:
        for line in DIRECTIVES:
            assert line in script.splitlines(), script
    assert slurm.cancelled == ["1", "2"]
    assert slurm.all_ended()
    assert run([*ALIGN, "--o", "alone"]) == 0
    for name in ("particles.star", "tilt_series/TS_01.star", "tilt_series/TS_02.star"):
        assert (project / "out" / name).read_bytes() == (project / "alone" / name).read_bytes()


@pytest.mark.parametrize("accepts_rest", [False, True], ids=["none", "all but the first"])
def test_slurm_that_refuses_jobs_ends_the_run_in_a_sentence(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    accepts_rest: bool,
) -> None:
    stand_in = SlurmStandIn(tmp_path / "slurm", refuses=True, accepts_rest=accepts_rest)
    monkeypatch.setenv("PATH", str(stand_in.commands), prepend=":")
    assert run([*ALIGN, "--slurm", "--workers", "2", "--slurm_partition", "none", "--o", "out"]) == 2
    error = capsys.readouterr().err
    assert "invalid partition specified: none" in error and error.count("\n") == 1
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert stand_in.submissions == 2
    assert stand_in.cancelled == (["7"] if accepts_rest else [])


def test_a_machine_without_slurm_is_told_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(project))
    assert run([*ALIGN, "--slurm", "--workers", "2", "--o", "out"]) == 2
    assert "the command sbatch is not there" in capsys.readouterr().err
    assert not (project / "out").exists()
