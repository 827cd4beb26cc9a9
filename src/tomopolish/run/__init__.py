"""Runs over many tomograms: order, progress, resume."""
