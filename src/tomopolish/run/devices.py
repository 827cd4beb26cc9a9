"""A run on several devices of this machine: as many tomograms at once as there are devices."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from tomopolish.imaging.devices import tomograms_at_once
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.local import Outcomes, Runner, one_after_another, refine_one
from tomopolish.run.reporter import Reporter
from tomopolish.run.work import Work


def runner_for(device: str, *, debug: bool = False) -> Runner:
    """Return the function that refines the tomograms of a run on this machine.

    Raises
    ------
    InputError
        When `device` names a CUDA device that cannot be used.
    """
    count = tomograms_at_once(device)
    if count == 1:
        return partial(one_after_another, debug=debug)
    return partial(several_at_once, count=count, debug=debug)


def several_at_once(
    work: Work[Any], names: Sequence[str], reporter: Reporter, *, count: int, debug: bool = False
) -> Outcomes:
    """Refine up to `count` tomograms at a time, each in a thread; otherwise like `local.one_after_another`.

    Each thread reserves a device while it computes windows. When an error ends the run, tomograms that are
    being refined finish, and no others begin.
    """
    results: dict[str, TomogramResult] = {}
    failures: dict[str, str] = {}
    if not names:
        return results, failures
    prepared = work.prepare()
    with ThreadPoolExecutor(count) as pool:
        futures = {
            name: pool.submit(refine_one, work, name, prepared, reporter, debug=debug) for name in names
        }
        try:
            for name, future in futures.items():
                outcome = future.result()
                if isinstance(outcome, str):
                    failures[name] = outcome
                elif work.store is None:
                    results[name] = outcome
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results, failures
