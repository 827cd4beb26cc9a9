"""Imports beside a run's first steps: kernels and solvers take longer to import than all inputs to read.

A run reads and checks its inputs and makes the references ready meanwhile, mostly in calls that do not hold
Python's lock. Modules that a run imports before that leave the kernels and SciPy to the functions that need
them; an import that has begun here is waited for there.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Thread, main_thread

from tomopolish.run import compile_ahead
from tomopolish.settings.alignment import AlignSettings

M_MMAP_THRESHOLD = -3
LARGE_ARRAY_BYTES = 4 * 2**20

COMPILING = "Compiling kernels for this machine, which later runs find ready: about 15 s"


def load_ahead(settings: AlignSettings, *, own_process: bool = False) -> Future[bool]:
    """Begin to import, in a thread, what a run on this machine will need.

    The interpreter waits for the thread before it ends, since to end amid the set-up of a library may crash
    it; the thread goes no further then. Returns what will tell whether kernels must be compiled first.

    Parameters
    ----------
    own_process
        Whether nothing but this program uses numba here.
    """
    compiles: Future[bool] = Future()
    if own_process:
        return_memory_early()
    if not settings.run.dry_run and settings.run.cluster is None:
        steps = [partial(_kernels, settings, compiles, own_process), _solvers]
        if settings.motion is not None:
            steps.append(_motion)
        steps.append(_medians)
        Thread(target=_load, args=(steps,), name="imports").start()
    return compiles


def return_memory_early() -> None:
    """Have the C library give arrays of `LARGE_ARRAY_BYTES` back to the system as soon as they are freed.

    By itself, glibc comes to keep what is up to 32 MiB: an eighth of a run's peak. Others have no such
    switch.
    """
    import ctypes  # noqa: PLC0415  NumPy has imported it

    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_ARRAY_BYTES)


def load_more(settings: AlignSettings, compiles: Future[bool], say: Callable[[str], None]) -> None:
    """Begin to import what the report needs, and say so if kernels are compiled: for sound inputs.

    References are digested next, which does not hold Python's lock.
    """
    announce_compiling(compiles, say)
    if settings.run.report and settings.run.cluster is None:
        Thread(target=_load, args=([_report],), name="imports").start()


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


def _kernels(settings: AlignSettings, compiles: Future[bool], own_process: bool) -> None:
    from tomopolish.imaging.kernels import compare as compare_kernels  # noqa: PLC0415

    must = not compare_kernels.are_kept()
    with _hidden("scipy.linalg") if must and own_process else contextlib.nullcontext():
        compare_kernels.wake()
    if must and own_process and settings.run.threads > 1 and main_thread().is_alive():
        compile_ahead.start(settings)
    compiles.set_result(must)


@contextlib.contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Have Python not find a module.

    As it sets itself up, numba looks for SciPy's linear algebra, for matrix products within kernels. Ours
    have none, and it takes as long to import as numba itself.
    """
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _solvers() -> None:
    import tomopolish.pipeline.align  # noqa: F401, PLC0415


def _medians() -> None:
    import numpy.ma  # noqa: F401, PLC0415  which NumPy's first median imports


def _motion() -> None:
    import tomopolish.models.gaussian_process  # noqa: F401, PLC0415


def _report() -> None:
    import tomopolish.run.commands.report  # noqa: F401, PLC0415
    from tomopolish.output.report.page import compile_template  # noqa: PLC0415

    compile_template()
