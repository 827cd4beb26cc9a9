"""Compiled loops over boxes and Fourier pixels, for CPU and CUDA."""
