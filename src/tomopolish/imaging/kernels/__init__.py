"""Compiled loops over boxes and Fourier pixels, for the CPU and for CUDA."""
