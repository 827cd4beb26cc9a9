"""Tomograms spread over processes, a Dask cluster or Slurm."""
