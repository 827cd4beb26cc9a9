"""Back-projection on workers: each adds up some tomograms, and their sums are added pair by pair."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tomopolish.dataset.project import Dataset
from tomopolish.errors import RunError
from tomopolish.imaging.backproject import empty_reconstruction
from tomopolish.physics.symmetry import point_group
from tomopolish.plain_text import counted
from tomopolish.run.cluster.distributed import threads_here
from tomopolish.run.cluster.launch import DIED_REPEATEDLY, Cluster, threads_of_worker
from tomopolish.run.cluster.waiting import SECONDS_BETWEEN_LOOKS, scheduler_lost
from tomopolish.run.commands.reconstruct import BackProjection, add_tomograms, back_project, usable
from tomopolish.run.reporter import Reporter, SilentReporter
from tomopolish.settings.alignment import RunSettings

if TYPE_CHECKING:
    from distributed import Future

BackProjector = Callable[[Dataset, int, str], BackProjection]
"""Returns the back-projection of all tomograms of a data set, of its box and point group."""

PARTS_PER_WORKER = 2
"""Parts of the tomograms that each worker adds up: more send more sums, fewer wait for the last."""


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
    sums = empty_reconstruction(box_px, point_group(symmetry))
    projected = add_tomograms(sums, dataset, names, threads, reporter)
    return PartialSums(projected=projected, warnings=tuple(reporter.warnings))


def _part_in_worker(
    dataset: Dataset, names: Sequence[str], box_px: int, symmetry: str, threads: int
) -> PartialSums:
    """Return `back_project_part` in this process, a worker whose tasks share the threads."""
    return back_project_part(dataset, names, box_px, symmetry, threads_here(threads))


def added(first: PartialSums, second: PartialSums) -> PartialSums:
    """Return the sums of two parts."""
    one, two = first.projected, second.projected
    projected = BackProjection(
        sums=replace(one.sums, totals=one.sums.totals + two.sums.totals),
        failures={**one.failures, **two.failures},
        remarks={**one.remarks, **two.remarks},
    )
    return PartialSums(projected=projected, warnings=(*first.warnings, *second.warnings))


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
    parts = PARTS_PER_WORKER * (run.cluster.workers or 1)

    def on_workers(dataset: Dataset, box_px: int, symmetry: str) -> BackProjection:
        dataset.check_columns()
        point_group(symmetry)  # refuses an unknown one here
        names = dataset.tomogram_names
        count = min(len(names), parts)
        reporter.say(f"Back-projection of {counted(len(names), 'tomogram')} in {counted(count, 'part')}")
        futures = [
            cluster.client.submit(
                _part_in_worker, dataset, names[i::count], box_px, symmetry, threads, pure=False
            )
            for i in range(count)
        ]
        return usable(dataset, _summed(cluster, futures, dataset, reporter, look))

    return on_workers


def _summed(
    cluster: Cluster,
    parts: Sequence[Future],
    dataset: Dataset,
    reporter: Reporter,
    look: Callable[[], None],
) -> BackProjection:
    """Return the sum of all parts, added up in a tree, with remarks in the order of the tomograms.

    Sums of another number of parts differ in their rounding.
    """
    submit: Any = partial(cluster.client.submit, pure=False)
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [submit(added, *pair) if len(pair) > 1 else pair[0] for pair in pairs]
    result = _awaited(cluster, parts[0], look)
    for sentence in result.warnings:
        reporter.warn(sentence)
    remarks = result.projected.remarks
    in_order = {name: remarks[name] for name in dataset.tomogram_names if name in remarks}
    return replace(result.projected, remarks=in_order)


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
