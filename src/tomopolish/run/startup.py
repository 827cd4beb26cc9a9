"""Imports beside a run's first steps: kernels and solvers take longer to import than all inputs to read.

A run reads and checks its inputs and makes the references ready meanwhile, mostly in calls that do not hold
Python's lock. Modules that a run imports before that leave the kernels and SciPy to the functions that need
them; an import that has begun here is waited for there.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Thread, main_thread

from tomopolish.settings import AlignSettings

COMPILING = "Compiling kernels for this machine, which later runs find ready: about 20 s"


def load_ahead(settings: AlignSettings) -> Future[bool]:
    """Begin to import, in a thread, what a run on this machine will need.

    The interpreter waits for the thread before it ends, since to end amid the set-up of a library may crash
    it; the thread goes no further then. Returns what will tell whether kernels must be compiled first.
    """
    compiles: Future[bool] = Future()
    if not settings.run.dry_run and settings.run.cluster is None:
        kernels = partial(_kernels, compiles)
        steps = [_fourier, kernels, _solvers, *([_report] if settings.run.report else [])]
        Thread(target=_load, args=(steps,), name="imports").start()
    return compiles


def announce_compiling(compiles: Future[bool], say: Callable[[str], None]) -> None:
    """Say that kernels are compiled, now or once it is known; for a run whose inputs are sound."""

    def tell(known: Future[bool]) -> None:
        if known.result():
            say(COMPILING)

    compiles.add_done_callback(tell)


def _load(steps: Sequence[Callable[[], None]]) -> None:
    collecting = gc.isenabled()
    gc.disable()  # each collection would go through all that has been imported, of which nothing is garbage
    try:
        for step in steps:
            if not main_thread().is_alive():  # an input was refused
                break
            with contextlib.suppress(Exception):  # whoever needs what cannot be imported says so
                step()
    finally:
        if collecting:
            gc.enable()


def _fourier() -> None:
    """Import what the references wait for."""
    import scipy.fft  # noqa: F401, PLC0415


def _kernels(compiles: Future[bool]) -> None:
    from tomopolish.correlation import kernels_cpu  # noqa: PLC0415

    compiles.set_result(kernels_cpu.wake())


def _solvers() -> None:
    import tomopolish.pipeline.align  # noqa: F401, PLC0415


def _report() -> None:
    import tomopolish.run.report  # noqa: F401, PLC0415
    from tomopolish.output.report.page import compile_template  # noqa: PLC0415

    compile_template()
