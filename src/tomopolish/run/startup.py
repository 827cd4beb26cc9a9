"""Imports beside a run's first steps: kernels and solvers take longer to import than all inputs to read.

A run reads and checks its inputs and makes the references ready meanwhile, mostly in calls that do not hold
Python's lock. Modules that a run imports before that leave the kernels and SciPy to the functions that need
them; an import that has begun here is waited for there.
"""

from __future__ import annotations

import contextlib
import gc
from threading import Thread

from tomopolish.settings import AlignSettings


def load_ahead(settings: AlignSettings) -> None:
    """Begin to import, in a thread, what a run on this machine will need.

    The interpreter waits for the thread before it ends: to end amid the set-up of a library may crash it.
    """
    if not settings.run.dry_run and settings.run.cluster is None:
        Thread(target=_load, args=(settings.run.report,), name="imports").start()


def _load(report: bool) -> None:
    collecting = gc.isenabled()
    gc.disable()  # each collection would go through all that has been imported, of which nothing is garbage
    try:
        with contextlib.suppress(Exception):  # whoever needs what cannot be imported says so
            import scipy.fft  # noqa: F401, PLC0415  first, since the references wait for it

            from tomopolish.correlation import kernels_cpu  # noqa: PLC0415

            kernels_cpu.wake()
            import tomopolish.pipeline.align  # noqa: PLC0415
            import tomopolish.run.report  # noqa: F401, PLC0415
    finally:
        if collecting:
            gc.enable()
    if report:
        with contextlib.suppress(Exception):  # as above
            from tomopolish.output.report.page import compile_template  # noqa: PLC0415

            compile_template()
