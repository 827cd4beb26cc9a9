"""A data set in the formats that other programs read: alignments, positions and trajectories."""
