"""Back-projection in parts, as workers do it: sums, failures and messages are those of one process."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from star_edits import drop_column
from tomopolish.dataset.project import open_dataset
from tomopolish.errors import RunError
from tomopolish.run.cluster import maps
from tomopolish.run.cluster.launch import Cluster
from tomopolish.run.cluster.maps import added, back_project_part, back_projector
from tomopolish.run.cluster.waiting import Patience
from tomopolish.run.commands.reconstruct import back_project
from tomopolish.run.reporter import SilentReporter
from tomopolish.settings.alignment import RunSettings
from tomopolish.settings.cluster import ClusterSettings
from workers_marks import ON_WORKERS


def test_parts_add_up_to_all_tomograms_with_their_remarks_and_warnings(project: Path) -> None:
    drop_column("tomograms.star", "global", "rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
    (project / "tilt_series/TS_02.mrcs").unlink()
    dataset, reporter = open_dataset(Path("optimisation_set.star")), SilentReporter()
    everything = back_project(dataset, 48, "C1", 1, reporter)
    parts = [back_project_part(dataset, [name], 48, "C1", 1) for name in dataset.tomogram_names]
    together = added(*parts)
    np.testing.assert_array_equal(together.projected.sums.totals, everything.sums.totals)
    assert together.projected.failures == everything.failures
    assert everything.failures.keys() == {"TS_02"}
    assert list(together.warnings) == reporter.warnings
    assert together.projected.remark_sentences() == everything.remark_sentences() != []


class TestScheduler:
    """Back-projection with a scheduler that someone else runs."""

    pytestmark = ON_WORKERS

    def test_tasks_share_a_workers_threads_and_a_lost_scheduler_is_a_sentence(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        distributed = pytest.importorskip("distributed")
        threads, begun, ended = list[int](), threading.Event(), threading.Event()

        def endless(*arguments: object) -> None:
            threads.append(int(str(arguments[-1])))
            begun.set()
            ended.wait(60)

        monkeypatch.setattr(maps, "back_project_part", endless)
        with (
            distributed.LocalCluster(
                n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
            ) as scheduler,
            distributed.Client(scheduler, timeout=1, set_as_default=False) as client,
        ):

            def look() -> None:
                assert begun.wait(30)
                client.loop.add_callback(client.scheduler_comm.comm.abort)

            patience = Patience(awaited="", remedy="", seconds=30, reporter=SilentReporter())
            cluster = Cluster(client=client, workers=patience, answer=patience)
            run = RunSettings(
                output_folder=project / "out", threads=4, cluster=ClusterSettings(scheduler="tcp://x:1")
            )
            back_project_there = back_projector(run, cluster, SilentReporter(), look)
            with pytest.raises(RunError, match="--only_do_unfinished resumes after the finished tomograms"):
                back_project_there(open_dataset(Path("optimisation_set.star")), 48, "C1")
            ended.set()
        assert set(threads) == {2}
