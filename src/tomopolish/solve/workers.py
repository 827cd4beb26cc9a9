"""Threads of the solver: tilt images spread over them, and none of linear algebra's own inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from types import TracebackType

from threadpoolctl import ThreadpoolController


class Workers:
    """So many threads, the caller's among them; use as a context manager.

    Attributes
    ----------
    pool
        As many threads, for work that the caller does not share in.
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
        others = [self.pool.submit(work, part) for part in slices[1:]]
        work(slices[0])
        for other in others:
            other.result()


def alone(tilts: int, work: Callable[[slice], None]) -> None:
    """As `Workers.over`, all in the caller's thread."""
    work(slice(0, tilts))


Spread = Callable[[int, Callable[[slice], None]], None]
"""`Workers.over` or `alone`."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep linear algebra to the calling threads: they are as many as there may be."""
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
