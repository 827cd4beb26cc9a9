"""What may move: projections, particle motion, image deformation."""
