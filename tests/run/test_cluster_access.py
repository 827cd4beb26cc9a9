"""Who can connect to a run's workers, and how long a run waits for those that do not come."""

from __future__ import annotations

import importlib.util
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from runs_on_workers import Listener, refined

from tomopolish.errors import InputError, RunError
from tomopolish.run.cluster import launch, waiting
from tomopolish.run.cluster.launch import Cluster, open_cluster
from tomopolish.run.cluster.security import scratch_folder, shared_security
from tomopolish.run.cluster.waiting import Patience, wait_for_scheduler
from tomopolish.run.reporter import SilentReporter
from tomopolish.settings.cluster import ClusterSettings, TlsFiles
from workers_marks import ON_WORKERS

pytestmark = ON_WORKERS


def listening() -> dict[tuple[str, int], int]:
    """Addresses at which this process and its children listen, with the process."""
    here = psutil.Process()
    found = {}
    for process in (here, *here.children(recursive=True)):
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found[tuple(connection.laddr)] = process.pid
    return found


@pytest.fixture(scope="module")
def before() -> set[tuple[str, int]]:
    return set(listening())


@pytest.fixture(scope="module")
def cluster(before: set[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings, folder = ClusterSettings(workers=1), tmp_path_factory.getbasetemp()
    with open_cluster(settings, 1, SilentReporter(), shared_folder=folder) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def tls(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """The cluster's certificate and key in files, as a user has those of a running scheduler."""
    folder = tmp_path_factory.mktemp("tls")
    security = cluster.client.security
    texts = {"ca.pem": security.tls_ca_file, "cert.pem": security.tls_client_cert}
    for name, text in {**texts, "key.pem": security.tls_client_key}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return TlsFiles(ca_file=folder / "ca.pem", cert=folder / "cert.pem", key=folder / "key.pem")


def answers(address: str, security: Any) -> bool:
    patience = Patience(awaited="it", remedy="-", seconds=10.0, reporter=SilentReporter())
    try:
        wait_for_scheduler(address, security, patience, lambda: None)
    except InputError:
        return False
    return True


def test_other_users_can_use_none_of_a_runs_ports(cluster: Cluster, before: set[tuple[str, int]]) -> None:
    from distributed.security import Security

    own = cluster.client.security
    ports = {address: process for address, process in listening().items() if address not in before}
    assert len(set(ports.values())) == 2  # the run's and its worker's
    assert {host for host, _ in ports} == {"127.0.0.1"}
    for_dask = [port for _, port in ports if not serves_pages(port)]
    assert len(for_dask) == 3  # of scheduler, nanny and worker
    for port in for_dask:
        assert answers(f"tls://127.0.0.1:{port}", own)
        assert not answers(f"tls://127.0.0.1:{port}", Security.temporary())
        assert not answers(f"tcp://127.0.0.1:{port}", Security())


def serves_pages(port: int) -> bool:
    """Whether a browser is understood at a port, where it finds no page."""
    codes = []
    for page in ("status", "info/main/workers.html", "json/counts.json", "metrics", "health"):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10)
        except urllib.error.HTTPError as error:
            codes.append(error.code)
        except OSError:
            return False
    assert codes == [404] * 5
    return True


def test_a_running_scheduler_takes_the_users_certificates(
    cluster: Cluster, tls: TlsFiles, tmp_path: Path
) -> None:
    settings = ClusterSettings(
        scheduler=cluster.client.scheduler.address, tls=tls, dashboard=True, connect_timeout_s=10
    )
    reporter = Listener()
    with open_cluster(settings, 1, reporter, shared_folder=tmp_path) as other:
        refined(other, tmp_path)
    assert (tmp_path / "TS_01.begun").exists()
    assert len(reporter.said) == 1 and reporter.said[0].startswith("Dask dashboard: http")
    assert reporter.warnings == []


def test_a_worker_that_dies_is_replaced(cluster: Cluster, tmp_path: Path) -> None:
    """Those of `test_distributed` are forked, this one is started as a user's are."""
    report = refined(cluster, tmp_path, "killed once")
    assert (tmp_path / "killed").exists()
    assert list(report.results) == ["killed once"]


def test_certificates_that_do_not_do_are_refused_in_a_sentence(
    cluster: Cluster, tls: TlsFiles, tmp_path: Path
) -> None:
    address = cluster.client.scheduler.address
    with shared_security(tmp_path) as strange:
        other = TlsFiles(
            ca_file=Path(strange.tls_ca_file),
            cert=Path(strange.tls_client_cert),
            key=Path(strange.tls_client_key),
        )
        for files, sentence in (
            (None, "requires certificates: give --tls_ca_file"),
            (other, f"--scheduler {address}: no Dask scheduler answers"),
            (replace(tls, key=tmp_path / "none.pem"), "none.pem: file not found"),
            (replace(tls, key=other.key), "these are not PEM files"),
        ):
            settings = ClusterSettings(scheduler=address, tls=files, connect_timeout_s=5)
            with (
                pytest.raises(InputError, match=sentence),
                open_cluster(settings, 1, SilentReporter(), shared_folder=tmp_path),
            ):
                pass
    assert not list(tmp_path.iterdir())


def test_a_key_that_others_can_read_and_a_scheduler_without_tls_are_warned_of(
    tls: TlsFiles, tmp_path: Path
) -> None:
    assert tls.key is not None
    key = tmp_path / "key.pem"
    key.write_bytes(tls.key.read_bytes())
    key.chmod(0o640)
    for settings, sentence in (
        (ClusterSettings(scheduler="tls://127.0.0.1:9", tls=replace(tls, key=key)), "chmod 600"),
        (ClusterSettings(scheduler="tcp://127.0.0.1:9"), "neither encrypted nor authenticated"),
    ):
        reporter = SilentReporter()
        with (
            pytest.raises(InputError, match=r"127.0.0.1:9: no Dask scheduler answers"),
            open_cluster(replace(settings, connect_timeout_s=0.5), 1, reporter, shared_folder=tmp_path),
        ):
            pass
        assert len(reporter.warnings) == 1 and sentence in reporter.warnings[0]


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SECONDS_UNTIL_WORDS", 0.4)
    reporter = Listener()
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = ClusterSettings(
            scheduler=f"tcp://127.0.0.1:{server.getsockname()[1]}", connect_timeout_s=1.5
        )
        start = time.monotonic()
        with (
            pytest.raises(InputError, match=r"no Dask scheduler answers there \(no answer within 1.5 s\)"),
            open_cluster(settings, 1, reporter, shared_folder=tmp_path),
        ):
            pass
    assert time.monotonic() - start < 10
    assert any("Waiting for the Dask scheduler tcp://" in sentence for sentence in reporter.said)


def test_a_run_without_workers_says_so_and_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(waiting, "SECONDS_UNTIL_WORDS", 0.4)
    reporter = Listener()
    with LocalCluster(n_workers=0, dashboard_address=None, scheduler_kwargs=NO_DASHBOARD) as empty:
        settings = ClusterSettings(scheduler=empty.scheduler_address, connect_timeout_s=1.5)
        with (
            open_cluster(settings, 1, reporter, shared_folder=tmp_path) as cluster,
            pytest.raises(RunError, match=r"waited 1\.5 s in vain for a worker of the Dask scheduler tcp"),
        ):
            refined(cluster, tmp_path)
    assert any("start workers with 'dask worker tcp://" in sentence for sentence in reporter.said)


NO_DASHBOARD = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}


@pytest.mark.usefixtures("forked_workers")
def test_workers_that_die_as_they_start_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dask = pytest.importorskip("dask")
    monkeypatch.setattr(launch, "LEAST_WORKER_BYTES", 0)
    settings = ClusterSettings(workers=1, worker_memory="1MB", connect_timeout_s=1.0)
    with (
        # Dask looks at once, not ten times a second: else a worker may take its first task before it dies.
        dask.config.set({"distributed.worker.memory.monitor-interval": "1ms"}),
        open_cluster(settings, 1, SilentReporter(), shared_folder=tmp_path) as cluster,
        pytest.raises(
            RunError, match="waited 1 s in vain for a worker process that does not end: give workers more"
        ),
    ):
        refined(cluster, tmp_path)


@pytest.mark.parametrize(
    ("memory", "sentence"),
    [("90MB", "less than an idle worker needs"), ("much", "is not a valid size: give a number and a unit")],
)
def test_memory_that_no_worker_can_start_with_is_refused(memory: str, sentence: str, tmp_path: Path) -> None:
    settings = ClusterSettings(workers=1, worker_memory=memory)
    with (
        pytest.raises(InputError, match=f"--worker_memory {memory} is.*{sentence.removeprefix('is ')}"),
        open_cluster(settings, 1, SilentReporter(), shared_folder=tmp_path),
    ):
        pass


def can_import(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def test_modules_of_other_users_are_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask's own scratch folder has a known name, and comes first where modules are looked for."""
    temporary = tmp_path / "tmp"
    planted = temporary / "dask-scratch-space"
    planted.mkdir(parents=True)
    temporary.chmod(0o1777)
    planted.chmod(0o777)
    (planted / "planted_by_others.py").touch()
    project = tmp_path / "project"
    project.mkdir()
    (project / "planted_in_the_project.py").touch()
    monkeypatch.chdir(project)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with open_cluster(ClusterSettings(workers=1), 1, SilentReporter(), shared_folder=tmp_path) as cluster:
        (scratch,) = temporary.glob("tomopolish-*")
        assert scratch.stat().st_mode & 0o077 == 0
        (of_worker,) = cluster.client.run(lambda: list(sys.path)).values()
        for places in (sys.path, of_worker):
            assert str(planted) not in places
        assert str(project) not in of_worker and "" not in of_worker
        assert not can_import("planted_by_others")
    assert list(temporary.iterdir()) == [planted]


def test_a_folder_for_temporary_files_that_others_control_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)  # others can rename and replace what is there
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with scratch_folder(tmp_path) as scratch:
        assert temporary not in scratch.parents
    monkeypatch.setattr("tomopolish.run.cluster.security.fault_of", lambda path: f"{path} is open")
    with pytest.raises(InputError, match=r"set TMPDIR to a folder of yours"), scratch_folder(tmp_path):
        pass
    assert not list(temporary.iterdir())
