"""Back-projection in parts, as workers do it: sums, failures and messages are those of one process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from star_edits import drop_column
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.remarks import Remark
from tomopolish.errors import RunError
from tomopolish.imaging.backproject import empty_reconstruction
from tomopolish.physics.symmetry import point_group
from tomopolish.run import back_projection
from tomopolish.run.back_projection import MOST_GROUPS, BackProjection, back_project, groups_of
from tomopolish.run.cluster import maps
from tomopolish.run.cluster.launch import Cluster
from tomopolish.run.cluster.maps import added, back_project_part, back_projector
from tomopolish.run.cluster.waiting import Patience
from tomopolish.run.reporter import Reporter, SilentReporter
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


def test_groups_are_all_tomograms_in_order_and_few() -> None:
    for count in (1, 2, 15, 16, 17, 100):
        names = [str(i) for i in range(count)]
        groups = groups_of(names)
        assert [name for group in groups for name in group] == names
        assert len(groups) == min(count, MOST_GROUPS)
        assert {len(group) for group in groups} <= {count // len(groups), count // len(groups) + 1}


def test_threads_change_nothing(project: Path) -> None:
    dataset = open_dataset(Path("optimisation_set.star"))
    one, three = (back_project(dataset, 48, "C1", threads, SilentReporter()) for threads in (1, 3))
    np.testing.assert_array_equal(three.sums.totals, one.sums.totals)


class Many:
    """Names of tomograms, each of which has random sums."""

    tomogram_names = tuple(map(str, range(37)))

    def check_columns(self) -> None:
        """All are there."""


def random_sums(
    dataset: Many, names: Sequence[str], box_px: int, symmetry: str, threads: int, reporter: Reporter
) -> BackProjection:
    sums = empty_reconstruction(box_px, point_group(symmetry))
    for name in names:
        sums.totals[:] += np.random.default_rng(int(name)).standard_normal(sums.totals.shape, np.float32)
    remarks = {name: [Remark(sentence=name)] for name in names}
    return BackProjection(sums=sums.joined(), failures={}, remarks=remarks)


@contextmanager
def workers_here(workers: int, threads: int = 1) -> Iterator[Cluster]:
    """Workers that are threads of this process."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=threads, processes=False, dashboard_address=None
        ) as scheduler,
        distributed.Client(scheduler, timeout=1, set_as_default=False) as client,
    ):
        patience = Patience(awaited="", remedy="", seconds=30, reporter=SilentReporter())
        yield Cluster(client=client, workers=patience, answer=patience)


class TestWorkers:
    """Back-projection on a cluster."""

    pytestmark = ON_WORKERS
    run = RunSettings(output_folder=Path("out"), threads=4, cluster=ClusterSettings(scheduler="tcp://x:1"))

    @pytest.mark.parametrize("workers", [1, 3])
    def test_sums_are_those_of_one_process_to_the_last_bit(
        self, workers: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in (back_projection, maps):
            monkeypatch.setattr(module, "back_project_group", random_sums)
        dataset: Any = Many()
        here = back_project(dataset, 16, "C1", 1, SilentReporter())
        with workers_here(workers) as cluster:
            there = back_projector(self.run, cluster, SilentReporter())(dataset, 16, "C1")
        np.testing.assert_array_equal(there.sums.totals, here.sums.totals)
        assert list(there.remarks) == list(here.remarks) == list(dataset.tomogram_names)

    def test_tasks_share_a_workers_threads_and_a_lost_scheduler_is_a_sentence(
        self, project: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        threads, begun, ended = list[int](), threading.Event(), threading.Event()

        def endless(*arguments: object) -> None:
            threads.append(int(str(arguments[-1])))
            begun.set()
            ended.wait(60)

        monkeypatch.setattr(maps, "back_project_part", endless)
        with workers_here(1, threads=2) as cluster:
            client: Any = cluster.client

            def look() -> None:
                assert begun.wait(30)
                client.loop.add_callback(client.scheduler_comm.comm.abort)

            there = back_projector(self.run, cluster, SilentReporter(), look)
            with pytest.raises(RunError, match="--only_do_unfinished resumes after the finished tomograms"):
                there(open_dataset(Path("optimisation_set.star")), 48, "C1")
            ended.set()
        assert set(threads) == {2}
