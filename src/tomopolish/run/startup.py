"""Imports beside a run's first steps: kernels and solvers take longer to import than all inputs to read.

A run reads and checks its inputs and makes the references ready meanwhile, mostly in calls that do not hold
Python's lock. Modules that a run imports before that leave the kernels and SciPy to the functions that need
them; an import that has begun here is waited for there.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread, main_thread

from tomopolish.settings import AlignSettings

COMPILING = "Compiling kernels for this machine, which later runs find ready: about 20 s"


def load_ahead(settings: AlignSettings, say: Callable[[str], None]) -> None:
    """Begin to import, in a thread, what a run on this machine will need.

    The interpreter waits for the thread before it ends, since to end amid the set-up of a library may crash
    it; the thread goes no further then.

    Parameters
    ----------
    say
        Told when kernels must be compiled first.
    """
    if settings.run.dry_run or settings.run.cluster is not None:
        return
    steps = [_fourier, partial(_kernels, say), _solvers, *([_report] if settings.run.report else [])]
    Thread(target=_load, args=(steps,), name="imports").start()


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


def _kernels(say: Callable[[str], None]) -> None:
    from tomopolish.correlation import kernels_cpu  # noqa: PLC0415

    if kernels_cpu.wake():
        say(COMPILING)


def _solvers() -> None:
    import tomopolish.pipeline.align  # noqa: F401, PLC0415


def _report() -> None:
    import tomopolish.run.report  # noqa: F401, PLC0415
    from tomopolish.output.report.page import compile_template  # noqa: PLC0415

    compile_template()
