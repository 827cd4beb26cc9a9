"""Compile the CUDA kernels for a device that need not be there: numba's simulator takes what a GPU does not.

Run as a program where numba-cuda and NVVM are installed; prints the double-precision instructions of each
kernel up to its first barrier, after which that of derivatives adds the sums of its threads.
"""

from __future__ import annotations

from types import SimpleNamespace

import numba.cuda.dispatcher
from numba import cuda
from numba.core.types import complex64, float32, float64, int64

from tomopolish.imaging.kernels import compare_cuda, derivatives_cuda

CAPABILITY = (8, 0)

BOXES = (float32[:, ::1], int64[:, ::1], float32[:, ::1], float32[:, ::1], float32[:, :, ::1])
SPECTRA = (
    *(complex64[:, :, ::1], float32[::1], int64, int64[:, ::1], float32[:, ::1]),
    *(int64[:, ::1], float32[:, :, :, ::1]),
    *(float32[:, :, :, ::1], complex64[:, :, :, ::1], float32[:, :, :, ::1], float32[:, ::1]),
)
POWER = (complex64[:, :, ::1], float64[:, ::1])
DERIVATIVES = (
    *(complex64[:, :, ::1], float32[::1], int64, int64[:, ::1], float32[:, ::1], float32[:, ::1]),
    *(float32[:, ::1], float32[:, ::1], complex64[:, ::1], float64[:, :, ::1]),
)
KERNELS = {
    "extract_boxes": (compare_cuda.extract_boxes, BOXES),
    "correlate_spectra": (compare_cuda.correlate_spectra, SPECTRA),
    "add_power": (compare_cuda.add_power, POWER),
} | {f"derivatives_{terms}": (kernel, DERIVATIVES) for terms, kernel in derivatives_cuda.KERNELS.items()}

if __name__ == "__main__":
    # Device functions are compiled for the device at hand.
    numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=CAPABILITY)
    for name, (kernel, signature) in KERNELS.items():
        code, _ = cuda.compile_ptx(kernel.py_func, signature, cc=CAPABILITY)
        assert f".target sm_{CAPABILITY[0]}{CAPABILITY[1]}" in code
        assert ".local" not in code, f"{name} has arrays in local memory, which is slow"
        before, _, _ = code.partition("bar.sync")
        print(
            name, sum(".f64" in line and not line.strip().startswith(".reg") for line in before.splitlines())
        )
