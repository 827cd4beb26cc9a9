"""Back-projection on workers: each adds up some tomograms, and their sums are added pair by pair."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tomopolish.dataset.project import Dataset
from tomopolish.dataset.screening import screening_warnings
from tomopolish.errors import RunError, TomopolishError
from tomopolish.imaging.backproject import empty_reconstruction
from tomopolish.physics.symmetry import point_group
from tomopolish.plain_text import counted
from tomopolish.run.cluster.launch import Cluster, open_cluster, threads_of_worker
from tomopolish.run.cluster.waiting import SECONDS_BETWEEN_LOOKS
from tomopolish.run.commands.reconstruct import BackProjection
from tomopolish.run.folder.written import STATE_FOLDER
from tomopolish.run.reporter import Reporter
from tomopolish.settings.alignment import RunSettings

if TYPE_CHECKING:
    from distributed import Future

Array = np.ndarray

PARTS_PER_WORKER = 2
"""Parts of the tomograms that each worker adds up: more send more sums, fewer wait for the last."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialSums:
    """Sums over some tomograms, why others are left out, and warnings by tomogram."""

    totals: Array
    failures: dict[str, str]
    warnings: tuple[str, ...]


def back_project_part(
    dataset: Dataset, names: Sequence[str], box_px: int, symmetry: str, threads: int
) -> PartialSums:
    """Return the sums over the named tomograms; one that cannot be used is left out."""
    sums = empty_reconstruction(box_px, point_group(symmetry))
    failures: dict[str, str] = {}
    warnings: list[str] = []
    with ThreadPoolExecutor(threads) as pool:
        for name in names:
            try:
                series, particles = dataset.load(name)
                series = sums.add(series, particles, pool)
            except TomopolishError as problem:
                failures[name] = str(problem)
                continue
            warnings += screening_warnings(series)
    return PartialSums(totals=sums.totals, failures=failures, warnings=tuple(warnings))


def added(first: PartialSums, second: PartialSums) -> PartialSums:
    """Return the sums of two parts."""
    return PartialSums(
        totals=first.totals + second.totals,
        failures={**first.failures, **second.failures},
        warnings=(*first.warnings, *second.warnings),
    )


def back_project_on_cluster(
    dataset: Dataset,
    box_px: int,
    symmetry: str,
    run: RunSettings,
    reporter: Reporter,
    look: Callable[[], None],
) -> BackProjection:
    """Return the back-projection of all tomograms, added up in a tree; raises as `back_project`.

    Sums of another number of parts differ in their rounding.

    Parameters
    ----------
    run
        Settings with a cluster, and with an output folder that Slurm's jobs can read.
    look
        Called about twice a second; it raises an error to end the run.
    """
    assert run.cluster is not None
    dataset.check_columns()
    empty = empty_reconstruction(box_px, point_group(symmetry))
    names = dataset.tomogram_names
    threads = threads_of_worker(run.cluster, run.threads)
    count = min(len(names), PARTS_PER_WORKER * (run.cluster.workers or 1))
    with open_cluster(
        run.cluster, threads, reporter, shared_folder=run.output_folder / STATE_FOLDER, look=look
    ) as cluster:
        reporter.say(f"Back-projection of {counted(len(names), 'tomogram')} in {counted(count, 'part')}")
        submit = partial(cluster.client.submit, pure=False)
        parts: list[Any] = [
            submit(back_project_part, dataset, names[i::count], box_px, symmetry, threads)
            for i in range(count)
        ]
        while len(parts) > 1:
            pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
            parts = [submit(added, *pair) if len(pair) > 1 else pair[0] for pair in pairs]
        result = _awaited(cluster, parts[0], look)
    for sentence in (*(f"{n} is left out: {r}" for n, r in result.failures.items()), *result.warnings):
        reporter.warn(sentence)
    if len(result.failures) == len(names):
        raise RunError(f"no tomogram can be used; {names[0]}: {result.failures[names[0]]}")
    return BackProjection(sums=replace(empty, totals=result.totals), failures=result.failures)


def _awaited(cluster: Cluster, future: Future, look: Callable[[], None]) -> PartialSums:
    from distributed.scheduler import KilledWorker

    client: Any = cluster.client
    while not future.done():
        look()
        cluster.workers.look(arrived=bool(client.scheduler_info()["workers"]))
        try:
            future.result(timeout=SECONDS_BETWEEN_LOOKS)
        except (TimeoutError, asyncio.TimeoutError):  # the same from Python 3.11 on
            continue
        except Exception:  # the next call raises it
            break
    try:
        found: PartialSums = future.result()
    except KilledWorker as error:
        raise RunError(
            "a worker died repeatedly during back-projection: killed, or out of memory; give workers more "
            "memory (--worker_memory, --slurm_memory), or start fewer workers"
        ) from error
    return found
