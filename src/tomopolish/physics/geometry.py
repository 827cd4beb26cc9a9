"""Rotations and projections of points of the tomogram into the tilt images.

See docs/dev/conventions.md, Geometry.

Images are indexed ``[y, x]``, volumes ``[z, y, x]``; vectors are ``(x, y, z)``. The tomogram frame
counts pixels of the unbinned tilt images from the centre of the corner voxel. A projection is a 4×4 matrix
that maps homogeneous tomogram coordinates to image coordinates, both in px; its third row is the depth.
All geometry is float64.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.spatial.transform import Rotation

from tomopolish.shapes import Array, Float


def rotation_x(angle_degrees: Float[Array, "..."] | float) -> Float[Array, "... 3 3"]:
    """Return right-handed rotations about x (turn y towards z), as matrices that act on column vectors."""
    return _axis_rotation(angle_degrees, 1, 2)


def rotation_y(angle_degrees: Float[Array, "..."] | float) -> Float[Array, "... 3 3"]:
    """Return right-handed rotations about y (turn z towards x)."""
    return _axis_rotation(angle_degrees, 2, 0)


def rotation_z(angle_degrees: Float[Array, "..."] | float) -> Float[Array, "... 3 3"]:
    """Return right-handed rotations about z (turn x towards y)."""
    return _axis_rotation(angle_degrees, 0, 1)


def _axis_rotation(angle_degrees: Float[Array, "..."] | float, first: int, second: int) -> Array:
    angle = np.deg2rad(np.asarray(angle_degrees, dtype=np.float64))
    matrix = np.zeros((*angle.shape, 3, 3))
    axis = 3 - first - second
    matrix[..., axis, axis] = 1.0
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -np.sin(angle)
    return matrix


def euler_zyz(
    rot_degrees: Float[Array, "..."] | float,
    tilt_degrees: Float[Array, "..."] | float,
    psi_degrees: Float[Array, "..."] | float,
) -> Float[Array, "... 3 3"]:
    """Return RELION's Euler matrix E(rot, tilt, psi) of docs/dev/conventions.md.

    In terms of the right-handed rotations above, ``E = Rz(-psi) Ry(-tilt) Rz(-rot)``.
    """
    rot, tilt, psi = (np.asarray(a, dtype=np.float64) for a in (rot_degrees, tilt_degrees, psi_degrees))
    return rotation_z(-psi) @ rotation_y(-tilt) @ rotation_z(-rot)


def euler_zyz_angles(rotations: Float[Array, "N 3 3"]) -> Float[Array, "N 3"]:
    """Return (rot, tilt, psi) in degrees of RELION's Euler matrices; the inverse of `euler_zyz`.

    Where tilt is 0 or 180, rot and psi cannot be told apart, and psi is 0.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of such angles
        angles: Array = Rotation.from_matrix(np.swapaxes(rotations, 1, 2)).as_euler("ZYZ", degrees=True)
    return angles


def rotation_from_vector(vector: Float[Array, "... 3"]) -> Float[Array, "... 3 3"]:
    """Return the rotation matrices of rotation vectors (axis times angle in radians)."""
    vector = np.asarray(vector, dtype=np.float64)
    matrices: Array = Rotation.from_rotvec(vector.reshape(-1, 3)).as_matrix()
    return matrices.reshape(*vector.shape, 3)


def left_jacobian(vector: Float[Array, "... 3"]) -> Float[Array, "... 3 3"]:
    """Return J with ``d exp(v) = [J(v) dv]× exp(v)``.

    J says how a step in the rotation vector turns the rotated frame.
    """
    vector = np.asarray(vector, dtype=np.float64)
    angle2 = np.sum(vector**2, axis=-1)[..., None, None]
    angle = np.sqrt(angle2)
    small = angle2 < 1e-6
    safe = np.where(small, 1.0, angle)
    b = np.where(small, 0.5 - angle2 / 24, (1 - np.cos(safe)) / safe**2)
    c = np.where(small, 1 / 6 - angle2 / 120, (safe - np.sin(safe)) / safe**3)
    K = cross_matrix(vector)
    return np.eye(3) + b * K + c * (K @ K)


def cross_matrix(vector: Float[Array, "... 3"]) -> Float[Array, "... 3 3"]:
    """Return matrices K with ``K u = vector × u``."""
    vector = np.asarray(vector, dtype=np.float64)
    K = np.zeros((*vector.shape[:-1], 3, 3))
    x, y, z = np.moveaxis(vector, -1, 0)
    K[..., 0, 1], K[..., 0, 2] = -z, y
    K[..., 1, 0], K[..., 1, 2] = z, -x
    K[..., 2, 0], K[..., 2, 1] = -y, x
    return K


def rotation_vector(rotation: Float[Array, "... 3 3"]) -> Float[Array, "... 3"]:
    """Return the rotation vectors (radians) of rotation matrices; the inverse of `rotation_from_vector`.

    A rounded matrix is replaced by the rotation nearest to it. Raises ValueError when a matrix contains a
    reflection, or is singular.
    """
    rotation = np.asarray(rotation, dtype=np.float64)
    vectors: Array = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_rotvec()
    return vectors.reshape(rotation.shape[:-1])


def nearest_rotation(matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Return the rotation R that maximises trace(Rᵀ M), by singular value decomposition."""
    left, _, right = np.linalg.svd(matrix)
    rotation: Array = left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right
    return rotation


def mean_rotation(rotations: Float[Array, "N 3 3"]) -> Float[Array, "3 3"]:
    """Return the rotation whose entries are closest, in mean square, to those of several rotations."""
    return nearest_rotation(rotations.mean(axis=0))


def tomogram_centre_px(tomogram_size_px: tuple[int, int, int]) -> Float[Array, "3"]:
    """Return the point of zero depth, about which projections turn: (W, H, D)/2, not rounded down."""
    return np.asarray(tomogram_size_px, dtype=np.float64) / 2


def relion5_projections(
    angles_degrees: Float[Array, "F 3"],
    shifts_px: Float[Array, "F 2"],
    image_size_px: tuple[int, int],
    tomogram_size_px: tuple[int, int, int],
) -> Float[Array, "F 4 4"]:
    """Return the projection matrices from RELION 5's parameters (docs/dev/conventions.md, Geometry).

    The angles are (XTilt, YTilt, ZRot), the shifts (x, y), and the sizes (w, h) and (W, H, D).
    """
    matrices = np.zeros((len(angles_degrees), 4, 4))
    rotation = (
        rotation_z(angles_degrees[:, 2]) @ rotation_y(angles_degrees[:, 1]) @ rotation_x(angles_degrees[:, 0])
    )
    tomogram_origin = np.asarray([n // 2 for n in tomogram_size_px], dtype=np.float64)
    image_origin = np.asarray([n // 2 for n in image_size_px], dtype=np.float64)
    matrices[:, :3, :3] = rotation
    matrices[:, :3, 3] = -rotation @ tomogram_origin
    matrices[:, :2, 3] += image_origin + shifts_px
    matrices[:, 3, 3] = 1.0
    return matrices


def relion5_parameters(
    projections_px: Float[Array, "F 4 4"],
    image_size_px: tuple[int, int],
    tomogram_size_px: tuple[int, int, int],
) -> tuple[Float[Array, "F 3"], Float[Array, "F 2"]]:
    """Return angles (XTilt, YTilt, ZRot; degrees) and shifts (px); the inverse of `relion5_projections`."""
    R = projections_px[:, :3, :3]
    gimbal = np.abs(R[:, 2, 0]) >= 1 - 1e-12
    x_tilt = np.where(gimbal, 0.0, np.arctan2(R[:, 2, 1], R[:, 2, 2]))
    y_tilt = np.arcsin(np.clip(-R[:, 2, 0], -1.0, 1.0))
    z_rot = np.where(gimbal, np.arctan2(-R[:, 0, 1], R[:, 1, 1]), np.arctan2(R[:, 1, 0], R[:, 0, 0]))
    tomogram_origin = np.asarray([n // 2 for n in tomogram_size_px], dtype=np.float64)
    image_origin = np.asarray([n // 2 for n in image_size_px], dtype=np.float64)
    shifts = projections_px[:, :2, 3] + (R @ tomogram_origin)[:, :2] - image_origin
    return np.rad2deg(np.stack([x_tilt, y_tilt, z_rot], axis=-1)), shifts


def tilt_angles_degrees(projections_px: Float[Array, "F 4 4"]) -> Float[Array, "F"]:
    """Return the signed tilt angle of each image, degrees.

    The axis lies in the tomogram's plane and is the one about which the images tilt most. The sign depends on
    the direction of that axis, which projections alone do not determine.
    """
    beam = projections_px[:, 2, :2]
    _, _, directions = np.linalg.svd(beam - beam.mean(axis=0), full_matrices=False)
    angles: Array = np.rad2deg(np.arcsin(np.clip(beam @ directions[0], -1.0, 1.0)))
    return angles


def project(projections_px: Float[Array, "F 4 4"], points_px: Float[Array, "P 3"]) -> Float[Array, "F P 3"]:
    """Return the image coordinates (x, y) and depth z, px, of every point in every tilt image."""
    return np.einsum("fij,pj->fpi", projections_px[:, :3, :3], points_px) + projections_px[:, None, :3, 3]


def project_trajectories(
    projections_px: Float[Array, "F 4 4"], points_px: Float[Array, "F P 3"]
) -> Float[Array, "F P 3"]:
    """Return the image coordinates and depth of points that have their own position in each tilt image."""
    return np.einsum("fij,fpj->fpi", projections_px[:, :3, :3], points_px) + projections_px[:, None, :3, 3]


def depth_px(
    projections_px: Float[Array, "F 4 4"],
    points_px: Float[Array, "P 3"],
    tomogram_size_px: tuple[int, int, int],
) -> Float[Array, "F P"]:
    """Return the depth of points along the beam from the tomogram's centre, px: z of (M·X − M·centre)."""
    centred = points_px - tomogram_centre_px(tomogram_size_px)
    return np.einsum("fj,pj->fp", projections_px[:, 2, :3], centred)


def turned_projections(
    projections_px: Float[Array, "F 4 4"],
    vectors: Float[Array, "F 3"],
    shifts_px: Float[Array, "F 2"],
    centre_px: Float[Array, "3"],
) -> Float[Array, "F 4 4"]:
    """Return projections turned about the projection of a point by rotation vectors, and shifted.

    The vectors are in each image's frame, radians; the projection of `centre_px` is moved by the shift alone.
    """
    turned = projections_px.copy()
    turned[:, :3, :3] = rotation_from_vector(vectors) @ projections_px[:, :3, :3]
    pivot = projections_px[:, :3, :3] @ centre_px + projections_px[:, :3, 3]
    turned[:, :3, 3] = pivot - turned[:, :3, :3] @ centre_px
    turned[:, :2, 3] += shifts_px
    return turned
