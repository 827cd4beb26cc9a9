"""A whole run on two devices at once, which numba's simulator and numpy stand for; beside one on the CPU.

Run as a program under NUMBA_ENABLE_CUDASIM=1, in the folder of a project with two tomograms; `test_cuda` does
that. The simulator takes one kernel at a time.
"""

from __future__ import annotations

import threading
from collections import Counter
from importlib import import_module
from typing import Any
from unittest import mock

import numpy as np
from cuda_checks import NumpyArrays

from tomopolish import cli
from tomopolish.imaging import devices
from tomopolish.imaging.kernels import compare_cuda as cuda_kernels

KERNELS = threading.Lock()
LAUNCHED: Counter[int] = Counter()
ARRIVED = threading.Barrier(2, timeout=120)


class OneOfTwo(NumpyArrays):
    """A device that waits, before its first kernel, until the other one is in use as well."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self._index = index

    def launch(self, kernel: Any, blocks: int | tuple[int, ...], threads: int, *arguments: Any) -> None:
        if not LAUNCHED[self._index]:
            ARRIVED.wait()
        with KERNELS:
            LAUNCHED[self._index] += 1
            if kernel is cuda_kernels.add_power:  # `cuda_checks` runs it; here it would take most of the time
                transforms, total = arguments
                total += (np.abs(transforms[:, :, : total.shape[1]]) ** 2).sum(axis=0, dtype=np.float64)
            else:
                super().launch(kernel, blocks, threads, *arguments)


def main() -> None:
    """Align on both, then on the CPU."""
    cuda_kernels.THREADS = 32
    import_module("simulator")
    align = (
        "align --i optimisation_set.star --b 48 --r 4 --min_frame 4 --max_frame 5 --no_report --j 2 "
        "--motion --abs_params --s_vel 0.5"
    )
    with (
        mock.patch.object(devices, "cuda_obstacle", lambda: None),
        mock.patch.object(devices, "cuda_device_count", lambda: 2),
        mock.patch.object(devices, "CupyArrays", OneOfTwo),
    ):
        assert cli.run([*align.split(), "--device", "cuda:0,cuda:1", "--o", "devices"]) == 0
    assert set(LAUNCHED) == {0, 1}, LAUNCHED
    assert cli.run([*align.split(), "--device", "cpu", "--o", "cpu"]) == 0


if __name__ == "__main__":
    main()
