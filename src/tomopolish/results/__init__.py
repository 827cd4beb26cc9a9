"""What a refined tomogram is: geometry, statistics, evidence, and the verdict on a run."""
