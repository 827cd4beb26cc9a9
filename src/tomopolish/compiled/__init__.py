"""Kernels compiled by numba and kept as machine code, which later runs load without numba.

To import numba and have it set itself up takes half a second and 80 MiB, a fifth of a short run's time and
memory: it happens only where a kernel is compiled.
"""

from tomopolish.compiled.kernels import Inlined, Kernel, inlined, kernel

__all__ = ["Inlined", "Kernel", "inlined", "kernel"]
