"""Parameters that may move: projections, positions, particle motion and image deformation."""
