"""Geometry, optics, Fourier shells and point groups: the physics that every other folder uses."""
