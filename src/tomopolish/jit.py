"""Kernels: functions of arrays and numbers that numba compiles at their first call and caches."""

from __future__ import annotations

import contextlib
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

    The machine code takes writable C-contiguous arrays in native byte order. Arrays of other layouts are
    copied before the call, and results copied back, so that results do not depend on the layout.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function, self._options, self._is_ready = function, {"nogil": True, **options}, False
        self.compiled = kernel_cache.compiled(function, self._options)

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel; the first call compiles it, or loads it from the cache of an earlier run."""
        arguments = tuple(np.asarray(a) if isinstance(a, np.ndarray) else a for a in arguments)
        passed = [_plain(argument) for argument in arguments]
        result = self.compiled(*passed) if self._is_ready else self._first_call(passed)
        for argument, copy in zip(arguments, passed, strict=True):
            if copy is not argument and argument.flags.writeable:
                argument[...] = copy
        return result

    def _first_call(self, arguments: list[Any]) -> Any:
        with _one_at_a_time:
            if not self._is_ready:
                self._make_ready(tuple(numba.typeof(argument) for argument in arguments))
        return self.compiled(*arguments)

    def _make_ready(self, types: tuple[Any, ...]) -> None:
        """Compile the kernel for types of its arguments, or load it from the cache.

        Processes load kernels at the same time, but one at a time compiles what none has compiled before.
        """
        name = f"{self.function.__module__}.{self.function.__qualname__}{types}"
        is_cached = kernel_cache.has(name)
        with contextlib.nullcontext() if is_cached else kernel_cache.alone():
            if not is_cached and self is not _smallest:
                _smallest.compiled(0)  # takes no time, so that the announcement is made before the others
                _announce(_smallest.compiled.stats)
            try:
                self.compiled.compile(types)
            except Exception:
                if not self.compiled.signatures:  # else it has been compiled, but the disk may be full
                    self.compiled = numba.njit(**self._options)(self.function)
                    self.compiled.compile(types)
                    kernel_cache.forget()  # the cached code could not be loaded
        kernel_cache.remember(name)
        self._is_ready = True
        _announce(self.compiled.stats)


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Return a decorator that makes a function a `Kernel`; options are those of `numba.njit`."""
    return lambda function: Kernel(function, options)


def inlined(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that inlines a function into the kernels that call it; options as in `numba.njit`.

    Cached kernels are recompiled after a change in the function only if `kernel_cache.digest_of_sources`
    covers its file.
    """
    decorate: Callable[[Callable[..., Any]], Callable[..., Any]] = numba.njit(forceinline=True, **options)
    return decorate


def _plain(argument: Any) -> Any:
    """Return an array in the layout that the machine code takes; other arguments unchanged."""
    if not isinstance(argument, np.ndarray):
        return argument
    flags = argument.flags
    if flags.c_contiguous and flags.writeable and flags.aligned and argument.dtype.isnative:
        return argument
    return np.array(argument, dtype=argument.dtype.newbyteorder("="), order="C")


def _announce(stats: Any) -> None:
    """Log once per process that kernels are compiled, and whether they will be cached."""
    if stats.cache_hits or _announced.is_set():
        return
    _announced.set()
    path, fault = kernel_cache.folder()
    if path is not None:
        _log.info("%s; later runs reuse them", COMPILING)
    else:
        _log.info(COMPILING)
        _log.warning("kernels are not cached for later runs: %s; set TOMOPOLISH_CACHE_DIR", fault)


@kernel()
def _smallest(number):  # type: ignore[no-untyped-def]
    """Return the number."""
    return number
