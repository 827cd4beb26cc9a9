"""Geometry, optics, Fourier shells and point groups."""
