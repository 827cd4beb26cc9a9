"""From tilt images and references to correlation windows, the likelihood of displacements."""
