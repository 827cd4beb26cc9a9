"""Compiled loops over pairs: interpolation, and products with the Jacobian and its transpose.

The loops run on one thread, without Python's lock. All arrays are ``[tilt, particle, …]``; pairs that are not
visible are skipped and yield zeros.
"""

from __future__ import annotations

import numpy as np

from tomopolish.jit import kernel


@kernel(error_model="numpy", fastmath={"contract", "reassoc"})
def interpolate(  # type: ignore[no-untyped-def]
    coefficients, units, visible, displacements, per_px, origin, basis, value, gradient, hessian
):  # fmt: skip
    """Compute the value, gradient and Hessian of each pair's surface, per px.

    Parameters
    ----------
    coefficients : (F, P, n, n) int16, multiples of units : (F, P) float32
    visible : (F, P) bool
    displacements : (F, P, 2) float64, (x, y) in px
    per_px, origin : float, samples per px, and index of no displacement
    basis : (4, 4) float64, polynomial coefficients of the four cubic weights, constant term first
    value : (F, P), gradient : (F, P, 2), hessian : (F, P, 3) as xx, xy, yy; written
    """
    tilts, particles, size, _ = coefficients.shape
    wx = np.empty((3, 4))
    wy = np.empty((3, 4))
    flat, row = coefficients.reshape(-1), np.uint64(size)
    near, part = np.empty((particles, 4, 4), np.float32), np.empty((particles, 2))
    for f in range(tilts):
        # Windows are far apart in memory. Fetching several before computing overlaps the waiting times.
        for p in range(particles):
            x, y = displacements[f, p, 0] * per_px + origin, displacements[f, p, 1] * per_px + origin
            fx, fy = np.floor(x), np.floor(y)
            inside = visible[f, p] and -3 < fx < size + 1 and -3 < fy < size + 1
            part[p, 0], part[p, 1] = (x - fx, y - fy) if inside else (0.0, 0.0)
            ix, iy = (int(fx) - 1, int(fy) - 1) if inside else (0, 0)
            if inside and 0 <= ix <= size - 4 and 0 <= iy <= size - 4:
                at = np.uint64(((f * particles + p) * size + iy) * size + ix)
                for j in range(4):
                    for i in range(4):
                        near[p, j, i] = flat[at + np.uint64(i)]
                    at += row
            else:
                near[p] = 0
                if inside:
                    for j in range(max(0, -iy), min(4, size - iy)):
                        for i in range(max(0, -ix), min(4, size - ix)):
                            near[p, j, i] = coefficients[f, p, iy + j, ix + i]
        for p in range(particles):
            tx, ty = part[p, 0], part[p, 1]
            for i in range(4):
                c0, c1, c2, c3 = basis[i, 0], basis[i, 1], basis[i, 2], basis[i, 3]
                wx[0, i] = c0 + tx * (c1 + tx * (c2 + tx * c3))
                wx[1, i] = c1 + tx * (2 * c2 + tx * 3 * c3)
                wx[2, i] = 2 * c2 + tx * 6 * c3
                wy[0, i] = c0 + ty * (c1 + ty * (c2 + ty * c3))
                wy[1, i] = c1 + ty * (2 * c2 + ty * 3 * c3)
                wy[2, i] = 2 * c2 + ty * 6 * c3
            v = gx = gy = hxx = hxy = hyy = 0.0
            for j in range(4):
                r0 = r1 = r2 = 0.0
                for i in range(4):
                    sample = near[p, j, i]
                    r0 += wx[0, i] * sample
                    r1 += wx[1, i] * sample
                    r2 += wx[2, i] * sample
                v += wy[0, j] * r0
                gx += wy[0, j] * r1
                gy += wy[1, j] * r0
                hxx += wy[0, j] * r2
                hxy += wy[1, j] * r1
                hyy += wy[2, j] * r0
            unit = units[f, p]
            slope, square = unit * per_px, unit * per_px * per_px
            value[f, p] = unit * v
            gradient[f, p, 0], gradient[f, p, 1] = slope * gx, slope * gy
            hessian[f, p, 0], hessian[f, p, 1], hessian[f, p, 2] = square * hxx, square * hxy, square * hyy


@kernel(fastmath=True, error_model="numpy")
def push(visible, rotations, turned, turn_rate, d_angles, d_shifts, d_points, out):  # type: ignore[no-untyped-def]
    """Compute the first-order change of the (unwarped) 2D positions.

    Parameters
    ----------
    rotations : (F, 3, 3), current rotation of each projection
    turned : (F, P, 3), points relative to the projected centre, in the image's frame
    turn_rate : (F, 3, 3), infinitesimal rotation per step of the rotation vector
    d_angles : (F, 3), d_shifts : (F, 2), d_points : (F, P, 3), the step
    out : (F, P, 2), written
    """
    tilts, particles = visible.shape
    for f in range(tilts):
        R = rotations[f]
        J = turn_rate[f]
        a, b, c = d_angles[f, 0], d_angles[f, 1], d_angles[f, 2]
        wx = J[0, 0] * a + J[0, 1] * b + J[0, 2] * c
        wy = J[1, 0] * a + J[1, 1] * b + J[1, 2] * c
        wz = J[2, 0] * a + J[2, 1] * b + J[2, 2] * c
        for p in range(particles):
            if not visible[f, p]:
                out[f, p, 0] = 0.0
                out[f, p, 1] = 0.0
                continue
            x, y, z = turned[f, p, 0], turned[f, p, 1], turned[f, p, 2]
            dx, dy, dz = d_points[f, p, 0], d_points[f, p, 1], d_points[f, p, 2]
            out[f, p, 0] = d_shifts[f, 0] + wy * z - wz * y + R[0, 0] * dx + R[0, 1] * dy + R[0, 2] * dz
            out[f, p, 1] = d_shifts[f, 1] + wz * x - wx * z + R[1, 0] * dx + R[1, 1] * dy + R[1, 2] * dz


@kernel(fastmath=True, error_model="numpy")
def pull(visible, rotations, turned, turn_rate, force, g_angles, g_shifts, g_points):  # type: ignore[no-untyped-def]
    """Transpose of `push`: collect per-pair forces (F, P, 2) into angles, shifts and points; all written."""
    tilts, particles = visible.shape
    for f in range(tilts):
        tx = ty = tz = sx = sy = 0.0
        R = rotations[f]
        for p in range(particles):
            if not visible[f, p]:
                g_points[f, p, 0] = 0.0
                g_points[f, p, 1] = 0.0
                g_points[f, p, 2] = 0.0
                continue
            gx, gy = force[f, p, 0], force[f, p, 1]
            x, y, z = turned[f, p, 0], turned[f, p, 1], turned[f, p, 2]
            sx += gx
            sy += gy
            tx -= gy * z
            ty += gx * z
            tz += gy * x - gx * y
            g_points[f, p, 0] = R[0, 0] * gx + R[1, 0] * gy
            g_points[f, p, 1] = R[0, 1] * gx + R[1, 1] * gy
            g_points[f, p, 2] = R[0, 2] * gx + R[1, 2] * gy
        g_shifts[f, 0], g_shifts[f, 1] = sx, sy
        J = turn_rate[f]
        for i in range(3):
            g_angles[f, i] = J[0, i] * tx + J[1, i] * ty + J[2, i] * tz


@kernel(fastmath=True, error_model="numpy")
def normal_product(  # type: ignore[no-untyped-def]
    visible,
    rotations,
    turned,
    turn_rate,
    curvature,
    d_angles,
    d_shifts,
    d_points,
    g_angles,
    g_shifts,
    g_points,
):
    """Compute Jᵀ H J times a step for per-pair curvature H (xx, xy, yy): `push`, product and `pull` in one.

    Parameters
    ----------
    curvature : (F, P, 3)
    d_points : (F, P, 3), or (1, P, 3) where a particle's step is the same in all tilt images
    """
    tilts, particles = visible.shape
    moving = d_points.shape[0] > 1
    for f in range(tilts):
        R, J, steps = rotations[f], turn_rate[f], d_points[f if moving else 0]
        a, b, c = d_angles[f, 0], d_angles[f, 1], d_angles[f, 2]
        wx = J[0, 0] * a + J[0, 1] * b + J[0, 2] * c
        wy = J[1, 0] * a + J[1, 1] * b + J[1, 2] * c
        wz = J[2, 0] * a + J[2, 1] * b + J[2, 2] * c
        tx = ty = tz = sx = sy = 0.0
        for p in range(particles):
            if not visible[f, p]:
                for axis in range(3):
                    g_points[f, p, axis] = 0.0
                continue
            x, y, z = turned[f, p, 0], turned[f, p, 1], turned[f, p, 2]
            dx, dy, dz = steps[p, 0], steps[p, 1], steps[p, 2]
            mx = d_shifts[f, 0] + wy * z - wz * y + R[0, 0] * dx + R[0, 1] * dy + R[0, 2] * dz
            my = d_shifts[f, 1] + wz * x - wx * z + R[1, 0] * dx + R[1, 1] * dy + R[1, 2] * dz
            gx = curvature[f, p, 0] * mx + curvature[f, p, 1] * my
            gy = curvature[f, p, 1] * mx + curvature[f, p, 2] * my
            sx += gx
            sy += gy
            tx -= gy * z
            ty += gx * z
            tz += gy * x - gx * y
            for axis in range(3):
                g_points[f, p, axis] = R[0, axis] * gx + R[1, axis] * gy
        g_shifts[f, 0], g_shifts[f, 1] = sx, sy
        for i in range(3):
            g_angles[f, i] = J[0, i] * tx + J[1, i] * ty + J[2, i] * tz


@kernel(fastmath=True, error_model="numpy")
def normal_blocks(visible, rotations, turned, turn_rate, curvature, tilt_blocks, point_blocks, cross):  # type: ignore[no-untyped-def]
    """Compute the blocks of Jᵀ H J for positive semidefinite per-pair curvature H (xx, xy, yy).

    Writes tilt_blocks (F, 5, 5) over (angles, shifts), point_blocks (P, 3, 3) and cross (F, 5, P, 3).
    """
    tilts, particles = visible.shape
    A = np.empty((2, 5))
    HA = np.empty((2, 5))
    tilt_blocks[:] = 0.0
    point_blocks[:] = 0.0
    for f in range(tilts):
        R = rotations[f]
        J = turn_rate[f]
        for p in range(particles):
            if not visible[f, p]:
                for i in range(5):
                    for j in range(3):
                        cross[f, i, p, j] = 0.0
                continue
            x, y, z = turned[f, p, 0], turned[f, p, 1], turned[f, p, 2]
            for i in range(3):
                A[0, i] = J[1, i] * z - J[2, i] * y
                A[1, i] = J[2, i] * x - J[0, i] * z
            A[0, 3], A[0, 4], A[1, 3], A[1, 4] = 1.0, 0.0, 0.0, 1.0
            a, b, c = curvature[f, p, 0], curvature[f, p, 1], curvature[f, p, 2]
            for i in range(5):
                HA[0, i] = a * A[0, i] + b * A[1, i]
                HA[1, i] = b * A[0, i] + c * A[1, i]
            for i in range(5):
                for j in range(5):
                    tilt_blocks[f, i, j] += A[0, i] * HA[0, j] + A[1, i] * HA[1, j]
                for j in range(3):
                    cross[f, i, p, j] = HA[0, i] * R[0, j] + HA[1, i] * R[1, j]
            for i in range(3):
                hx = a * R[0, i] + b * R[1, i]
                hy = b * R[0, i] + c * R[1, i]
                for j in range(3):
                    point_blocks[p, i, j] += hx * R[0, j] + hy * R[1, j]


@kernel(error_model="numpy")
def eliminate_points(blocks, roots, cross):  # type: ignore[no-untyped-def]
    """Compute the inverse roots of the particles' blocks, and the coupling times them.

    Parameters
    ----------
    blocks : (P, 3, 3) float64, positive semidefinite
    roots : (P, 3, 3), written: upper triangular R with R Rᵀ = B⁻¹; singular B are regularised
    cross : (A, P, 3), each particle's part is multiplied by its root from the right, in place
    """
    for p in range(len(blocks)):
        B, R = blocks[p], roots[p]
        floor = 1e-15 * (B[0, 0] + B[1, 1] + B[2, 2]) + 1e-300
        # The Cholesky factor L of B, and R = L⁻ᵀ.
        a = np.sqrt(max(B[0, 0], floor))
        b, c = B[1, 0] / a, B[2, 0] / a
        d = np.sqrt(max(B[1, 1] - b * b, floor))
        e = (B[2, 1] - b * c) / d
        f = np.sqrt(max(B[2, 2] - c * c - e * e, floor))
        R[:] = 0.0
        R[0, 0], R[1, 1], R[2, 2] = 1 / a, 1 / d, 1 / f
        R[0, 1], R[1, 2] = -b / (a * d), -e / (d * f)
        R[0, 2] = (b * e - c * d) / (a * d * f)
    for row in range(len(cross)):
        for p in range(len(blocks)):
            x, y, z, R = cross[row, p, 0], cross[row, p, 1], cross[row, p, 2], roots[p]
            cross[row, p, 0] = x * R[0, 0]
            cross[row, p, 1] = x * R[0, 1] + y * R[1, 1]
            cross[row, p, 2] = x * R[0, 2] + y * R[1, 2] + z * R[2, 2]


@kernel(fastmath=True, error_model="numpy")
def solve_cholesky(lower, vector):  # type: ignore[no-untyped-def]
    """Solve L Lᵀ x = v in place, with L (n, n) lower triangular and v (n,)."""
    size = len(vector)
    for i in range(size):
        row, total = lower[i], vector[i]
        for j in range(i):
            total -= row[j] * vector[j]
        vector[i] = total / row[i]
    for i in range(size - 1, -1, -1):
        row = lower[i]
        vector[i] /= row[i]
        value = vector[i]
        for j in range(i):
            vector[j] -= row[j] * value
