"""Synthetic projects with known truth: RELION projects on disk, or single tilt series in memory."""
