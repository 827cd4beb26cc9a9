"""Threads of the solver, which share the tilt images; linear algebra uses no threads of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from types import TracebackType

from threadpoolctl import ThreadpoolController


class Workers:
    """Threads of the solver, including that of the caller; use as a context manager.

    Attributes
    ----------
    pool
        The same number of threads, for work in which the caller does not take part.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.pool = ThreadPoolExecutor(threads)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown()

    def over(self, tilts: int, work: Callable[[slice], None]) -> None:
        """Call `work` with consecutive parts of range(tilts), one for each thread.

        Results must not depend on where the parts end.
        """
        parts = max(1, min(self._threads, tilts))
        bounds = [tilts * part // parts for part in range(parts + 1)]
        slices = [slice(first, last) for first, last in pairwise(bounds)]
        futures = [self.pool.submit(work, part) for part in slices[1:]]
        work(slices[0])
        for future in futures:
            future.result()


def alone(tilts: int, work: Callable[[slice], None]) -> None:
    """Call `work` like `Workers.over`, with all tilt images in the caller's thread."""
    work(slice(0, tilts))


Spread = Callable[[int, Callable[[slice], None]], None]
"""`Workers.over` or `alone`."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Restrict linear algebra to the calling threads, which already use all processors."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
