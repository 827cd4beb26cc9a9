"""Errors of a tomogram's geometry against a known truth, in the images and of each kind of parameter.

The 2D error, in Å, over visible pairs needs no alignment of frames: it compares predicted with true 2D
positions. Positions and angles are compared after the gauge is removed: the rotation and shift that move
positions one way and projections the opposite way, and change no image (docs/dev/conventions.md). Views,
whose orientations are not refined, are compared with their net rotation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.model import Deformation
from tomopolish.errors import InputError
from tomopolish.physics.geometry import (
    mean_rotation,
    nearest_rotation,
    rotation_vector,
)
from tomopolish.shapes import Array, Bool, Float, Int
from tomopolish.simulate.truth import Truth
from tomopolish.simulate.warp import positions_in_images_px


@dataclass(frozen=True, kw_only=True, eq=False)
class Geometry:
    """A tomogram's geometry by an alignment; tilt axes in file order.

    Attributes
    ----------
    particles
        Index of each particle in the truth.
    left_out
        Indices of tilt images that were left out and are not evaluated.
    """

    projections_px: Float[Array, "F 4 4"]
    particles: Int[Array, "P"]
    positions_px: Float[Array, "P 3"]
    trajectories_px: Float[Array, "P F 3"] | None = None
    deformation: Deformation | None = None
    left_out: tuple[int, ...] = ()

    @property
    def counted(self) -> Bool[Array, "F"]:
        """Tilt images whose errors are evaluated."""
        counted = np.ones(len(self.projections_px), dtype=bool)
        counted[list(self.left_out)] = False
        return counted

    def positions_2d_px(self, image_size_px: tuple[int, int]) -> Float[Array, "F P 2"]:
        """Return the predicted 2D position of each particle in each tilt image, warp included."""
        return positions_in_images_px(
            self.projections_px, self.moving_positions_px, self.deformation, image_size_px
        )

    @property
    def moving_positions_px(self) -> Float[Array, "F P 3"]:
        """3D position of each particle in each tilt image."""
        if self.trajectories_px is None:
            return np.broadcast_to(
                self.positions_px, (len(self.projections_px), *self.positions_px.shape)
            ).copy()
        return self.positions_px + np.swapaxes(self.trajectories_px, 0, 1)


@dataclass(frozen=True, kw_only=True)
class GeometryErrors:
    """RMS errors of one tomogram's geometry, without tilt images that were left out.

    Attributes
    ----------
    visible_pairs
        Pairs whose true 2D position is at least half a box from the image's border.
    rms_2d_angstrom
        Over visible pairs: distance between predicted and true 2D position.
    rms_shift_angstrom
        Over tilt images: length of the mean 2D error of their visible particles.
    net_rotation_degrees
        Angle of the common rotation of all projections against the true ones, by which the views of all
        particles are turned.
    rms_view_degrees
        Over tilt images: angle between refined and true projection, net rotation included.
    rms_angle_degrees
        Over tilt images: angle between refined and true projection, net rotation removed.
    rms_position_angstrom
        Over particles: distance between refined and true position, mean over the exposure.
    rms_trajectory_angstrom
        Over particles and tilt images: error of the motion, without its mean over the exposure and the motion
        that all particles have in common.
    """

    visible_pairs: int
    rms_2d_angstrom: float
    rms_shift_angstrom: float
    net_rotation_degrees: float
    rms_view_degrees: float
    rms_angle_degrees: float
    rms_position_angstrom: float
    rms_trajectory_angstrom: float


def geometry_errors(truth: Truth, geometry: Geometry) -> GeometryErrors:
    """Compare a geometry with the truth; raises InputError when their tilt images do not correspond.

    Errors in the images are NaN if no pair is visible.
    """
    if len(geometry.projections_px) != len(truth.projections_px):
        raise InputError(
            f"{truth.name}: the result has {len(geometry.projections_px)} tilt images, the truth "
            f"{len(truth.projections_px)}; give the truth that belongs to these images"
        )
    pixel, chosen = truth.pixel_size_angstrom, geometry.particles
    error = geometry.positions_2d_px(truth.image_size_px) - np.swapaxes(truth.positions_2d_px[chosen], 0, 1)
    visible = truth.visible[chosen].T & geometry.counted[:, None]
    counts = np.sum(visible, axis=1)
    seen = counts > 0
    mean = np.sum(error * visible[..., None], axis=1)[seen] / counts[seen, None]
    true_moving = np.swapaxes(truth.positions_px[chosen, None] + truth.trajectories_px[chosen], 0, 1)
    true_rotations = truth.projections_px[:, :3, :3]
    moving, rotations = _without_gauge(geometry, true_moving, true_rotations)
    counted = geometry.counted
    true_rotations, rotations = true_rotations[counted], rotations[counted]
    views = geometry.projections_px[counted, :3, :3]
    net = mean_rotation(np.swapaxes(true_rotations, 1, 2) @ views)
    difference = moving - true_moving
    position_error = np.mean(difference, axis=0)
    motion_error = difference - position_error
    motion_error = motion_error - np.mean(motion_error, axis=1, keepdims=True)
    return GeometryErrors(
        visible_pairs=int(counts.sum()),
        rms_2d_angstrom=_rms_length(error[visible]) * pixel,
        rms_shift_angstrom=_rms_length(mean) * pixel,
        net_rotation_degrees=_rms_angle_degrees(net[None], np.eye(3)[None]),
        rms_view_degrees=_rms_angle_degrees(views, true_rotations),
        rms_angle_degrees=_rms_angle_degrees(rotations, true_rotations),
        rms_position_angstrom=_rms_length(position_error) * pixel,
        rms_trajectory_angstrom=_rms_length(motion_error) * pixel,
    )


def _rms_length(vectors: Float[Array, "... d"]) -> float:
    if vectors.size == 0:
        return float("nan")
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=-1))))


def _rms_angle_degrees(rotations: Float[Array, "N 3 3"], true_rotations: Float[Array, "N 3 3"]) -> float:
    turns = rotation_vector(rotations @ np.swapaxes(true_rotations, 1, 2))
    return float(np.rad2deg(_rms_length(turns)))


def _without_gauge(
    geometry: Geometry, true_moving_px: Float[Array, "F P 3"], true_rotations: Float[Array, "F 3 3"]
) -> tuple[Float[Array, "F P 3"], Float[Array, "F 3 3"]]:
    """Rotate and shift a geometry onto the truth; returns positions and rotations of the projections.

    The rotation G minimises the mean squared error of positions plus that of the angles at the distance ρ of
    a typical particle from the centre.
    """
    moving, rotations = geometry.moving_positions_px, geometry.projections_px[:, :3, :3]
    stated, true = np.mean(moving, axis=0), np.mean(true_moving_px, axis=0)
    stated_centred, true_centred = stated - np.mean(stated, axis=0), true - np.mean(true, axis=0)
    lever2 = max(np.mean(np.sum(true_centred**2, axis=-1)), 1.0)
    covariance = stated_centred.T @ true_centred / len(stated) + lever2 / 2 * np.mean(
        (np.swapaxes(rotations, 1, 2) @ true_rotations)[geometry.counted], axis=0
    )
    G = nearest_rotation(covariance.T)
    shift = np.mean(true, axis=0) - np.mean(stated, axis=0) @ G.T
    return moving @ G.T + shift, rotations @ G.T
