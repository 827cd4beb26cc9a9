"""As many threads as the user allows, in every library that has threads of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Limit numba's and the linear algebra library's threads while the context is open."""
    if "numba" not in sys.modules:  # numba reads its upper limit once, when it is imported
        os.environ.setdefault("NUMBA_NUM_THREADS", str(max(threads, os.cpu_count() or 1)))
    import numba  # noqa: PLC0415  after the line above
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        with threadpool_limits(limits=threads):
            yield
    finally:
        numba.set_num_threads(before)
