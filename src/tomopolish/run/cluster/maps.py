"""Back-projection on workers: each sums groups of tomograms, whose sums are added one after another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

from tomopolish.dataset.project import Dataset
from tomopolish.errors import RunError
from tomopolish.physics.symmetry import point_group
from tomopolish.plain_text import counted
from tomopolish.run.back_projection import (
    BackProjection,
    back_project,
    back_project_group,
    groups_of,
    usable,
)
from tomopolish.run.cluster.distributed import threads_here
from tomopolish.run.cluster.launch import DIED_REPEATEDLY, Cluster, threads_of_worker
from tomopolish.run.cluster.waiting import SECONDS_BETWEEN_LOOKS, scheduler_lost
from tomopolish.run.reporter import Reporter, SilentReporter
from tomopolish.settings.alignment import RunSettings

if TYPE_CHECKING:
    from distributed import Future

BackProjector = Callable[[Dataset, int, str], BackProjection]
"""Returns the back-projection of all tomograms of a data set, of its box and point group."""

ADDING_FIRST = 1
"""Dask's priority of additions: a worker that has the sums of many groups may run out of memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialSums:
    """Sums over some tomograms, and the warnings that were given for them."""

    projected: BackProjection
    warnings: tuple[str, ...]


def back_project_part(
    dataset: Dataset, names: Sequence[str], box_px: int, symmetry: str, threads: int
) -> PartialSums:
    """Return the sums over the named tomograms; one that cannot be used is left out."""
    reporter = SilentReporter()
    projected = back_project_group(dataset, names, box_px, symmetry, threads, reporter)
    return PartialSums(projected=projected, warnings=tuple(reporter.warnings))


def _part_in_worker(
    dataset: Dataset, names: Sequence[str], box_px: int, symmetry: str, threads: int
) -> PartialSums:
    """Return `back_project_part` in this process, a worker whose tasks share the threads."""
    return back_project_part(dataset, names, box_px, symmetry, threads_here(threads))


def added(first: PartialSums, later: PartialSums) -> PartialSums:
    """Return the sums of two parts."""
    return PartialSums(
        projected=first.projected.plus(later.projected), warnings=(*first.warnings, *later.warnings)
    )


def back_projector(
    run: RunSettings, cluster: Cluster | None, reporter: Reporter, look: Callable[[], None] = lambda: None
) -> BackProjector:
    """Return `back_project` on this machine, or on a cluster's workers.

    Parameters
    ----------
    run
        Settings of the run whose cluster it is.
    look
        Called about twice a second while workers compute; it raises an error to end the run.
    """
    if cluster is None or run.cluster is None:
        return partial(back_project, threads=run.threads, reporter=reporter)
    threads = threads_of_worker(run.cluster, run.threads)
    submit: Any = partial(cluster.client.submit, pure=False)

    def on_workers(dataset: Dataset, box_px: int, symmetry: str) -> BackProjection:
        dataset.check_columns()
        point_group(symmetry)  # refuses an unknown one here
        groups = groups_of(dataset.tomogram_names)
        tomograms = counted(len(dataset.tomogram_names), "tomogram")
        reporter.say(f"Back-projection of {tomograms} in {counted(len(groups), 'part')}")
        parts = [submit(_part_in_worker, dataset, names, box_px, symmetry, threads) for names in groups]
        total = reduce(partial(submit, added, priority=ADDING_FIRST), parts)
        del parts  # workers then forget those that have been added
        result = _awaited(cluster, total, look)
        for sentence in result.warnings:
            reporter.warn(sentence)
        return usable(dataset, result.projected)

    return on_workers


def _awaited(cluster: Cluster, future: Future, look: Callable[[], None]) -> PartialSums:
    from distributed.scheduler import KilledWorker

    client: Any = cluster.client
    try:
        while not future.done():
            look()
            cluster.renew()
            cluster.workers.look(arrived=bool(client.scheduler_info()["workers"]))
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):  # the same from Python 3.11 on
                future.result(timeout=SECONDS_BETWEEN_LOOKS)
        result: PartialSums = future.result()
        return result
    except KilledWorker as error:
        raise RunError(f"back-projection failed since a worker {DIED_REPEATEDLY}") from error
    except CancelledError as error:
        raise scheduler_lost() from error
    except OSError as error:
        if future.status == "error":  # an error of the worker's files
            raise
        raise scheduler_lost(error) from error
