"""Alignments, positions and trajectories in the formats of other programs."""
