"""Tomograms on workers of their own, which die, run out of memory, or find bad data."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from faulty_stages import STAGES, Project, result_of

from tomopolish.errors import InputError, RunError, RunStopped
from tomopolish.run.cluster import distributed
from tomopolish.run.cluster.distributed import refine_on_cluster
from tomopolish.run.cluster.launch import Cluster, open_cluster, slurm_options, threads_of_worker
from tomopolish.run.local import RunReport, refine
from tomopolish.run.reporter import SilentReporter
from tomopolish.run.store import ResultsStore
from tomopolish.settings.alignment import AlignSettings, InputPaths, RunSettings, WindowSettings
from tomopolish.settings.cluster import ClusterSettings, SlurmSettings, TlsFiles
from workers_marks import ON_WORKERS, forking_workers

pytestmark = ON_WORKERS


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings, folder = ClusterSettings(workers=2), tmp_path_factory.getbasetemp()
    with forking_workers(), opened(settings, folder) as cluster:
        yield cluster


def opened(settings: ClusterSettings, folder: Path) -> AbstractContextManager[Cluster]:
    return open_cluster(settings, 1, SilentReporter(), shared_folder=folder)


def refined(
    cluster: Cluster, folder: Path, names: Sequence[str], reporter: SilentReporter | None = None, **run: Any
) -> RunReport:
    settings = AlignSettings(
        inputs=InputPaths(optimisation_set=Path("optimisation_set.star")),
        windows=WindowSettings(box_px=96),
        run=RunSettings(output_folder=folder, **run),
    )
    return refine(
        Project(tuple(names), folder),
        settings,
        STAGES,
        reporter or SilentReporter(),
        store=ResultsStore(folder=folder / "temp"),
        runner=partial(refine_on_cluster, cluster, look=lambda: None),
    )


def test_results_come_back_in_the_projects_order_whoever_was_first(cluster: Cluster, tmp_path: Path) -> None:
    names = [f"TS_{i:02d}" for i in (7, 3, 5, 1, 2)]
    report = refined(cluster, tmp_path, names)
    assert list(report.results) == names
    assert repr(report.results["TS_03"]) == repr(result_of("TS_03"))
    assert report.failures == {}


def test_a_killed_worker_costs_nothing_but_time(cluster: Cluster, tmp_path: Path) -> None:
    report = refined(cluster, tmp_path, ["TS_01", "killed once", "TS_02"])
    assert (tmp_path / "killed").exists()
    assert list(report.results) == ["TS_01", "killed once", "TS_02"]
    assert report.failures == {}
    assert not list((tmp_path / "temp").glob("*.part"))


def test_messages_lost_with_their_worker_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "SECONDS_BETWEEN_LOOKS", 0.01)
    fleet = distributed._Fleet(cluster=SimpleNamespace(client=None), work=None, debug=False)  # type: ignore[arg-type]
    message = distributed.Done(seconds=1.0)
    lost, late = _Ended("lost"), _Ended("late")
    for future in (lost, late):
        fleet._futures[future.key] = (future.key, future)
        fleet._ended.put(future)
    assert fleet.finished() == [] and fleet.running == 2
    for lost.status in ("lost", "pending"):  # while another worker refines its tomogram
        assert fleet.finished() == [] and fleet.running == 2
    lost.status, lost.message = "finished", message
    assert fleet.finished() == [("lost", message)]
    assert fleet.finished() == [] and fleet.running == 1
    with pytest.raises(RunError, match="did not deliver a worker's message within 60 s"):
        fleet.finished()


@dataclass
class _Ended:
    """A future of Dask's that has ended; its message is on the way, or lost."""

    key: str
    status: str = "finished"
    message: distributed.Done | None = None

    def result(self, timeout: float) -> distributed.Done:
        if self.message is None:
            raise TimeoutError
        return self.message


def test_faults_stay_with_their_tomogram(cluster: Cluster, tmp_path: Path) -> None:
    names = ["TS_01", "killed always", "TS_02", "no memory", "unreadable", "internal", "odd"]
    reporter = SilentReporter()
    report = refined(cluster, tmp_path, names, reporter)
    assert list(report.results) == ["TS_01", "TS_02", "odd"]
    assert list(report.failures) == ["killed always", "no memory", "unreadable", "internal"]
    assert "died repeatedly" in report.failures["killed always"]
    assert "out of memory" in report.failures["no memory"]
    assert report.failures["unreadable"] == "TS.mrcs: section 3 cannot be read"
    details = tmp_path / "errors/internal.txt"
    assert "(LookupError: Failed in the pipeline); please report it" in report.failures["internal"]
    assert f"with the file {details}" in report.failures["internal"]
    assert "in align" in details.read_text() and "\x1b" not in details.read_text()
    assert "odd is odd" in reporter.warnings
    again = refined(cluster, tmp_path, ["TS_01", "TS_02", "odd"], only_do_unfinished=True)
    assert list(again.results) == ["TS_01", "TS_02", "odd"]


def test_names_that_are_no_text_and_look_alike_are_refined(cluster: Cluster, tmp_path: Path) -> None:
    names = ["TS_\udcc5", "TS_\\udcc5", "TS_Å", "TS 1\t2"]
    report = refined(cluster, tmp_path, names)
    assert list(report.results) == names


def test_strict_ends_at_the_first_failure(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="unreadable failed: TS"):
        refined(cluster, tmp_path, ["unreadable", *[f"TS_{i}" for i in range(50)]], strict=True)
    assert len(list(tmp_path.glob("TS_*.begun"))) < 50


def test_an_abort_stops_tomograms_that_are_being_refined(cluster: Cluster, tmp_path: Path) -> None:
    looks = iter(range(3))

    def look() -> None:
        if next(looks, None) is None:
            raise RunStopped("aborted")

    settings = AlignSettings(
        inputs=InputPaths(optimisation_set=Path("optimisation_set.star")),
        windows=WindowSettings(box_px=96),
        run=RunSettings(output_folder=tmp_path),
    )
    with pytest.raises(RunStopped):
        refine(
            Project(("TS_01", "slow", "TS_02"), tmp_path),
            settings,
            STAGES,
            SilentReporter(),
            store=ResultsStore(folder=tmp_path / "temp"),
            runner=partial(refine_on_cluster, cluster, look=look),
        )


@pytest.mark.slow
@pytest.mark.usefixtures("forked_workers")
def test_a_worker_beyond_its_memory_is_ended_and_the_others_go_on(tmp_path: Path) -> None:
    with opened(ClusterSettings(workers=1, worker_memory="700MB"), tmp_path) as cluster:
        report = refined(cluster, tmp_path, ["greedy", "TS_01"])
    assert list(report.results) == ["TS_01"]
    assert "out of memory" in report.failures["greedy"]


def _fake_devices(folder: str) -> None:
    """In a worker: have the machine seem to hold two CUDA devices, and a folder for temporary files."""
    import tempfile

    from tomopolish.imaging import devices

    tempfile.tempdir = folder
    devices.cuda_obstacle = lambda: None
    devices.cuda_device_count = lambda: 2


@pytest.mark.usefixtures("forked_workers")
def test_workers_compute_on_devices_of_their_own(tmp_path: Path) -> None:
    names = [f"where {i}" for i in range(8)]
    with opened(ClusterSettings(workers=2), tmp_path) as cluster:
        cluster.client.run(_fake_devices, str(tmp_path))
        refined(cluster, tmp_path, names)
    told = [(tmp_path / f"{name}.device").read_text().split() for name in names]
    by_process = dict(told)
    assert len(by_process) == 2
    assert set(by_process.values()) == {"cuda:0", "cuda:1"}
    assert all(by_process[process] == device for process, device in told)


def test_threads_never_outnumber_what_was_given() -> None:
    assert threads_of_worker(ClusterSettings(workers=3), 8) == 2
    assert threads_of_worker(ClusterSettings(workers=8), 4) == 1
    assert threads_of_worker(ClusterSettings(workers=8, slurm=SlurmSettings()), 4) == 4
    assert threads_of_worker(ClusterSettings(workers=8, slurm=SlurmSettings(gpus=2)), 4) == 2
    assert threads_of_worker(ClusterSettings(scheduler="tcp://x:1"), 4) == 4


def test_slurm_jobs_ask_for_what_the_options_say() -> None:
    from dask_jobqueue.slurm import SLURMJob

    slurm = SlurmSettings(
        partition="gpu",
        walltime="12:00:00",
        memory="32GB",
        gpus=1,
        directives=("--account=lab", "--exclusive"),
        prologue=("module load cuda",),
    )
    options = slurm_options(slurm, threads=6)
    script = SLURMJob("tcp://head:8786", name="tomopolish", **options).job_script()
    lines = script.splitlines()
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -t 12:00:00",
        "#SBATCH --mem=30G",
        "#SBATCH --cpus-per-task=6",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --account=lab",
        "#SBATCH --exclusive",
        "module load cuda",
    ):
        assert line in lines, script
    assert "--nthreads 1" in script


def test_a_job_with_several_gpus_has_a_worker_for_each() -> None:
    from dask_jobqueue.slurm import SLURMJob

    options = slurm_options(SlurmSettings(gpus=4, memory="64GB"), threads=3)
    script = SLURMJob("tcp://head:8786", name="tomopolish", **options).job_script()
    assert "#SBATCH --gres=gpu:4" in script and "#SBATCH --cpus-per-task=12" in script
    assert "--nworkers 4" in script and "--nthreads 1" in script


def test_without_dask_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with (
        pytest.raises(InputError, match=r"distributed is missing: pip install 'tomopolish\[cluster\]'"),
        opened(ClusterSettings(workers=2), Path()),
    ):
        pass


def test_settings_that_exclude_each_other_are_refused() -> None:
    sound = ClusterSettings(workers=2, slurm=SlurmSettings())
    for change, text in (
        ({"workers": 0}, "workers=0"),
        ({"workers": None}, "slurm needs workers"),
        ({"workers": None, "scheduler": "tcp://x:1"}, "scheduler and slurm"),
        ({"slurm": None, "scheduler": "tcp://x:1"}, "scheduler and workers"),
    ):
        with pytest.raises(InputError, match=text):
            replace(sound, **change)
    for change, text in (
        ({"tls": TlsFiles(ca_file=Path("ca"), cert=Path("c"))}, "are for scheduler"),
        ({"connect_timeout_s": 0.0}, "connect_timeout_s must be above 0"),
        ({"connect_timeout_s": 1e9}, "connect_timeout_s=1e.09 is above"),
    ):
        with pytest.raises(InputError, match=text):
            replace(sound, **change)
    with pytest.raises(InputError, match="several lines"):
        SlurmSettings(directives=("--a\nrm -rf x",))


def test_a_run_stopped_while_its_workers_start_ends_in_a_sentence(project: Path) -> None:
    options = "--i optimisation_set.star --b 48 --r 6 --workers 1 --o out"
    command = shlex.split(f"{sys.executable} -m tomopolish align {options}")
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    process = psutil.Process(run.pid)
    while not process.children():
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    _, error = run.communicate(timeout=60)
    assert run.returncode == 143
    assert error.strip().startswith("tomopolish: terminated; ") and error.strip().count("\n") == 0
