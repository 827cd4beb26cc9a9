"""Correlation windows, the log-likelihood of displacements, from tilt images and references; half maps."""
