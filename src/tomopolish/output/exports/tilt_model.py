"""Projections as most programs describe them: axis in the image, tilt, pitch, shift.

Any rotation is ``Rz(axis) Ry(tilt) Rx(pitch)``. In IMOD, AreTomo and Warp a point X of the volume is
seen at

    q = q_c + t + [Rz(axis) Ry(tilt) Rx(pitch) (X − X_c)].xy,

The centres q_c and X_c differ between these programs, and not all of them have a pitch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import TiltSeries
from tomopolish.physics.geometry import project, relion5_parameters, rotation_x, rotation_y, rotation_z
from tomopolish.shapes import Array, Float


def middle_px(size_px: tuple[int, ...]) -> Float[Array, "n"]:
    """Return the middle of an image or volume where its first pixel's centre is 0: (n − 1)/2."""
    return (np.asarray(size_px, dtype=np.float64) - 1) / 2


def half_size_px(size_px: tuple[int, ...]) -> Float[Array, "n"]:
    """Return half the size of an image or volume, n/2: half a pixel beyond its middle."""
    return np.asarray(size_px, dtype=np.float64) / 2


@dataclass(frozen=True, kw_only=True, eq=False)
class TiltModel:
    """Axis, tilt, pitch and shift of every tilt image, file order.

    Attributes
    ----------
    axis_degrees
        Angle of the tilt axis in the image from y; x to y is positive.
    tilt_degrees, pitch_degrees
        Right-handed rotations about y and x of the volume; the pitch lies between ±90°.
    shifts_px
        Projection of `volume_centre_px`, relative to `image_centre_px`.
    """

    axis_degrees: Float[Array, "F"]
    tilt_degrees: Float[Array, "F"]
    pitch_degrees: Float[Array, "F"]
    shifts_px: Float[Array, "F 2"]
    image_centre_px: Float[Array, "2"]
    volume_centre_px: Float[Array, "3"]

    def project(self, points_px: Float[Array, "P 3"]) -> Float[Array, "F P 2"]:
        """Return the projections of points, px."""
        rotation = _rotation(self.axis_degrees, self.tilt_degrees, self.pitch_degrees)
        seen = np.einsum("fij,pj->fpi", rotation[:, :2], points_px - self.volume_centre_px)
        return seen + (self.shifts_px + self.image_centre_px)[:, None]

    def residual_px(
        self, projections_px: Float[Array, "F 4 4"], points_px: Float[Array, "P 3"]
    ) -> Float[Array, "F P"]:
        """Return the distances between the model's and the exact projections of points, px."""
        difference = self.project(points_px) - project(projections_px, points_px)[..., :2]
        return np.hypot(difference[..., 0], difference[..., 1])


def tilt_model(
    series: TiltSeries,
    centre_px: Callable[[tuple[int, ...]], Float[Array, "n"]],
    points_px: Float[Array, "P 3"] | None = None,
) -> TiltModel:
    """Return the projections of a tilt series, decomposed into axis, tilt, pitch and shift.

    Parameters
    ----------
    centre_px
        Origin of the format's coordinates for a size: `middle_px` or `half_size_px`.
    points_px
        Omit the pitch, and choose the shifts so that the projection of the mean of these points (of the
        tomogram's middle where there are none) is exact: the error grows with the distance from it. None:
        with the pitch, an exact decomposition.
    """
    image_centre_px, volume_centre_px = centre_px(series.image_size_px), centre_px(series.tomogram_size_px)
    angles, _ = relion5_parameters(series.projections_px, (0, 0), (0, 0, 0))
    pitch, tilt, axis = angles.T
    # The same rotation is Rz(axis + 180°) Ry(180° − tilt) Rx(pitch + 180°): use the smaller pitch of the two.
    behind = np.abs(pitch) > 90
    pitch = np.where(behind, pitch - np.copysign(180.0, pitch), pitch)
    tilt = np.where(behind, np.copysign(180.0, tilt) - tilt, tilt)
    axis = np.where(behind, axis - np.copysign(180.0, axis), axis)
    fixed = volume_centre_px
    if points_px is not None:
        pitch = np.zeros_like(pitch)
        fixed = points_px.mean(axis=0) if len(points_px) else middle_px(series.tomogram_size_px)
    seen = project(series.projections_px, fixed[None])[:, 0, :2]
    turned = _rotation(axis, tilt, pitch)[:, :2] @ (fixed - volume_centre_px)
    return TiltModel(
        axis_degrees=axis,
        tilt_degrees=tilt,
        pitch_degrees=pitch,
        shifts_px=seen - turned - image_centre_px,
        image_centre_px=image_centre_px,
        volume_centre_px=volume_centre_px,
    )


def _rotation(
    axis: Float[Array, "F"], tilt: Float[Array, "F"], pitch: Float[Array, "F"]
) -> Float[Array, "F 3 3"]:
    return rotation_z(axis) @ rotation_y(tilt) @ rotation_x(pitch)
