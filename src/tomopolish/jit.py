"""Kernels: functions of arrays and numbers that numba compiles when they are first called, and keeps."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from tomopolish import kernel_cache

COMPILING = "Compiling kernels for this machine, about 15 s"

_log = logging.getLogger(__name__)
_announced, _one_at_a_time = threading.Event(), threading.RLock()


class Kernel:
    """A compiled function, which takes arrays of any layout and runs without Python's lock.

    Its machine code is made for C-contiguous arrays in the machine's byte order that may be written. Other
    arrays are copied before the call and results copied back, so that the layout of data changes nothing.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function, self._options, self._is_ready = function, {"nogil": True, **options}, False
        self.compiled = kernel_cache.compiled(numba.njit, self._options)(function)

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel; the first call compiles it, or loads what an earlier run has kept."""
        arguments = tuple(np.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments)
        taken = [_plain(argument) for argument in arguments]
        result = self.compiled(*taken) if self._is_ready else self._first_call(taken)
        for argument, copy in zip(arguments, taken, strict=True):
            if copy is not argument and argument.flags.writeable:
                argument[...] = copy
        return result

    def _first_call(self, arguments: list[Any]) -> Any:
        if self is not _smallest:
            _smallest(0)  # which says at once whether kernels must be compiled
        with _one_at_a_time, kernel_cache.alone():
            try:
                result = self.compiled(*arguments)
            except Exception:
                if self.compiled.signatures:  # compiled, but not kept: the disk may be full
                    result = self.compiled(*arguments)
                else:
                    self.compiled = numba.njit(**self._options)(self.function)
                    result = self.compiled(*arguments)
                    kernel_cache.forget()  # since it could not be loaded
            self._is_ready = True
            _announce(self.compiled.stats)
            return result


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a function a `Kernel`; options are those of `numba.njit`."""
    return lambda function: Kernel(function, options)


def inlined(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function a part of the kernels that call it; options are those of `numba.njit`.

    A change in it is seen only where its file is among `kernel_cache.digest_of_sources`.
    """
    decorate: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.njit(forceinline=True, **options)
    return decorate


def _plain(argument: Any) -> Any:
    """Return an array as the machine code takes it; anything else as it is."""
    if not isinstance(argument, np.ndarray):
        return argument
    flags = argument.flags
    if flags.c_contiguous and flags.writeable and flags.aligned and argument.dtype.isnative:
        return argument
    return np.array(argument, dtype=argument.dtype.newbyteorder("="), order="C")


def _announce(stats: Any) -> None:
    """Say once per process that kernels are compiled, and whether they will be kept."""
    if stats.cache_hits or _announced.is_set():
        return
    _announced.set()
    path, fault = kernel_cache.folder()
    if path is not None:
        _log.info("%s; later runs find them ready", COMPILING)
    else:
        _log.info(COMPILING)
        _log.warning("kernels are not kept for later runs: %s; set TOMOPOLISH_CACHE_DIR", fault)


@kernel()
def _smallest(number):  # type: ignore[no-untyped-def]
    """Return the number."""
    return number
