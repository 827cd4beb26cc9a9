"""The gauge: what the images cannot tell apart, settled by convention (spec §6).

Turning all positions about a point and all projections the other way changes no 2D position, but it would
change the particles' views. The refined set is therefore turned back so that its positions carry no net
rotation against the input ones.
"""

from __future__ import annotations

import numpy as np

from tomopolish.physics.geometry import cross_matrix, rotation_from_vector
from tomopolish.shapes import Float

Array = np.ndarray


def net_rotation(
    positions_px: Float[Array, "P 3"], input_px: Float[Array, "P 3"], max_iterations: int = 20
) -> Float[Array, "3 3"]:
    """Rotation W that best explains refined positions as turned input ones: x − x̄ ≈ W (x₀ − x̄₀).

    Least squares over rotation vectors. Rotations that the particles cannot show (about the line of
    collinear ones, say) are left at zero.
    """
    after = positions_px - positions_px.mean(axis=0)
    before = input_px - input_px.mean(axis=0)
    W = np.eye(3)
    for _ in range(max_iterations):
        turned = before @ W.T
        # d(ω × turned) = −[turned]× dω
        design = -cross_matrix(turned).reshape(-1, 3)
        step = np.linalg.lstsq(design, (after - turned).ravel(), rcond=1e-6)[0]
        W = rotation_from_vector(step) @ W
        if np.linalg.norm(step) < 1e-12:
            break
    return W


def remove_rotation(
    projections_px: Float[Array, "F 4 4"],
    positions_px: Float[Array, "P 3"],
    W: Float[Array, "3 3"],
    about_px: Float[Array, "3"],
) -> tuple[Float[Array, "F 4 4"], Float[Array, "P 3"]]:
    """Turn positions back by W about a point and projections along, leaving every 2D position as it is."""
    forward = np.eye(4)
    forward[:3, :3] = W
    forward[:3, 3] = about_px - W @ about_px
    return projections_px @ forward, about_px + (positions_px - about_px) @ W
