"""Compile the CUDA kernels for a device that need not be there: numba's simulator takes what a GPU does not.

Run as a program where numba-cuda and NVVM are installed; prints the double-precision instructions per kernel.
"""

from __future__ import annotations

from types import SimpleNamespace

import numba.cuda.dispatcher
from numba import cuda
from numba.core.types import complex64, float32, float64, int64

from tomopolish.imaging.kernels import compare_cuda as cuda_kernels

CAPABILITY = (8, 0)

BOXES = (float32[:, ::1], int64[:, ::1], float32[:, ::1], float32[:, ::1], float32[:, :, ::1])
SPECTRA = (
    *(complex64[:, :, ::1], float32[::1], int64, int64[:, ::1], float32[:, ::1]),
    *(int64[:, ::1], float32[:, :, :, ::1]),
    *(float32[:, :, :, ::1], complex64[:, :, :, ::1], float32[:, :, :, ::1], float32[:, ::1]),
)
POWER = (complex64[:, :, ::1], float64[:, ::1])
SIGNATURES = {"extract_boxes": BOXES, "correlate_spectra": SPECTRA, "add_power": POWER}

if __name__ == "__main__":
    # Device functions are compiled for the device at hand.
    numba.cuda.dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=CAPABILITY)
    for name, signature in SIGNATURES.items():
        code, _ = cuda.compile_ptx(getattr(cuda_kernels, name).py_func, signature, cc=CAPABILITY)
        assert f".target sm_{CAPABILITY[0]}{CAPABILITY[1]}" in code
        print(name, sum(".f64" in line and not line.strip().startswith(".reg") for line in code.splitlines()))
