"""Mends two faults of numba's CUDA simulator: imported where NUMBA_ENABLE_CUDASIM=1, before kernels run.

Threads of a block that make a shared array at the same moment could each get one of their own; and while it
waits for them, the simulator hinders them, asking again and again whether they have ended.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import numpy as np
from numba.cuda.simulator.kernel import BlockThread
from numba.cuda.simulator.kernelapi import FakeCUDAShared
from numba.np import numpy_support

_MAKING = threading.Lock()


def _array(self: Any, shape: Any, dtype: Any) -> np.ndarray:
    """One array for each line of a kernel that asks for one."""
    caller = sys._getframe(1)
    with _MAKING:
        made: np.ndarray = self._allocations.setdefault(
            (caller.f_code.co_filename, caller.f_lineno), np.empty(shape, numpy_support.as_dtype(dtype))
        )
        return made


def _is_alive(self: Any) -> bool:
    time.sleep(0)  # let others have the interpreter
    return threading.Thread.is_alive(self)


FakeCUDAShared.array = _array
BlockThread.is_alive = _is_alive
