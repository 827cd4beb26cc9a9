"""Results of refined tomograms: geometry, statistics, evidence, and the verdict on a run."""
