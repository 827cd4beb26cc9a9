"""The simulator's compiled kernel, for the spectrum of one particle's projection in one tilt image."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import inlined, kernel


@inlined(fastmath=True)
def _cubic_weights(t):  # type: ignore[no-untyped-def]
    """Return the cubic B-spline weights of the samples at −1, 0, 1, 2 for an offset t in [0, 1)."""
    sixth = np.float32(1 / 6)
    u = np.float32(1) - t
    return (
        u * u * u * sixth,
        (np.float32(4) + t * t * (np.float32(3) * t - np.float32(6))) * sixth,
        (np.float32(4) + u * u * (np.float32(3) * u - np.float32(6))) * sixth,
        t * t * t * sixth,
    )


@kernel(fastmath=True, error_model="numpy")
def particle_plane(grid, zero, zero_x, axes, centre, phase, limit, eight, plane):  # type: ignore[no-untyped-def]
    """Slice the volume, move the slice to a centre, and multiply it by the phase factor of a defocus.

    The real part of the plane's inverse transform is the projection times cos φ, the imaginary part that
    times sin φ, where φ(k) is the defocus' phase: both are real images, as φ is an even function.

    Parameters
    ----------
    grid : (n, n, 2m) float32, `SliceVolume.grid` as real and imaginary parts in turn; `zero`, `zero_x`: its
        indices of frequency zero, x counted in complex numbers
    axes : (2, 3) float64, grid steps (x, y, z) per Fourier px along kx and ky
    centre : (2,) float64, position (x, y) of the particle's origin, px
    phase : float, the defocus' phase at one Fourier px; it grows with the square of the frequency
    limit : float, radius in Fourier px beyond which the plane is zero; at most B/2, the Nyquist circle
    eight : int, 8: the four complex numbers of a line of the grid, as floats. A loop whose length the
        compiler does not know becomes vector instructions; one of 8 rounds would be written out instead.
    plane : (B, B) complex64, written
    """
    box_px = plane.shape[0]
    half = box_px // 2
    limit2 = min(limit, half) ** 2
    # Both phases are sums of a term in kx and a term in ky, so that products of factors replace most sines.
    shift_x = np.empty(half, dtype=np.complex64)
    turn = np.empty(half, dtype=np.complex64)
    for kx in range(half):
        shift = -2 * np.pi * kx * centre[0] / box_px
        shift_x[kx] = complex(np.cos(shift), np.sin(shift))
        turn[kx] = complex(np.cos(phase * kx * kx), np.sin(phase * kx * kx))
    width, layer = np.uint64(grid.shape[2]), np.uint64(grid.shape[1] * grid.shape[2])
    flat = grid.ravel()
    for_real, for_imaginary = np.zeros(8, np.float32), np.zeros(8, np.float32)
    plane[:] = 0
    for ky in range(1 - half, half):
        shift = -2 * np.pi * ky * centre[1] / box_px
        shift_y = np.complex64(complex(np.cos(shift), np.sin(shift)))
        turn_y = turn[abs(ky)]
        for kx in range(half):
            if kx * kx + ky * ky >= limit2:
                break
            x = kx * axes[0, 0] + ky * axes[1, 0]
            y = kx * axes[0, 1] + ky * axes[1, 1]
            z = kx * axes[0, 2] + ky * axes[1, 2]
            mirrored = x < 0
            if mirrored:
                x, y, z = -x, -y, -z
            fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
            wx = _cubic_weights(np.float32(x - fx))
            ya, yb, yc, yd = _cubic_weights(np.float32(y - fy))
            za, zb, zc, zd = _cubic_weights(np.float32(z - fz))
            for c in range(4):
                for_real[2 * c] = for_imaginary[2 * c + 1] = wx[c]
            line, plane_z = int(fy) + zero - 1, int(fz) + zero - 1
            # Indices without a sign need no test for negative ones, which would keep the loop from vectors.
            a0 = np.uint64((plane_z * grid.shape[1] + line) * grid.shape[2] + 2 * (int(fx) + zero_x - 1))
            a1, a2, a3 = a0 + width, a0 + width + width, a0 + width + width + width
            b0, b1, b2, b3 = a0 + layer, a1 + layer, a2 + layer, a3 + layer
            c0, c1, c2, c3 = b0 + layer, b1 + layer, b2 + layer, b3 + layer
            d0, d1, d2, d3 = c0 + layer, c1 + layer, c2 + layer, c3 + layer
            real = imaginary = np.float32(0)
            for j in range(eight):
                i = np.uint64(j)
                value = (
                    za * (ya * flat[a0 + i] + yb * flat[a1 + i] + yc * flat[a2 + i] + yd * flat[a3 + i])
                    + zb * (ya * flat[b0 + i] + yb * flat[b1 + i] + yc * flat[b2 + i] + yd * flat[b3 + i])
                    + zc * (ya * flat[c0 + i] + yb * flat[c1 + i] + yc * flat[c2 + i] + yd * flat[c3 + i])
                    + zd * (ya * flat[d0 + i] + yb * flat[d1 + i] + yc * flat[d2 + i] + yd * flat[d3 + i])
                )
                real += for_real[i] * value
                imaginary += for_imaginary[i] * value
            if mirrored:
                imaginary = -imaginary
            moved = complex(real, imaginary) * (shift_x[kx] * shift_y)
            turned = turn[kx] * turn_y
            plane[ky, kx] = moved * turned
            if kx > 0:
                plane[-ky, box_px - kx] = moved.conjugate() * turned


@kernel(error_model="numpy")
def add_parts(painted, x0, y0, sums):  # type: ignore[no-untyped-def]
    """Add the real and the imaginary part of a box to two canvases.

    Parameters
    ----------
    painted : (B, B) complex64
    x0, y0 : int, the box's first pixel on the canvases
    sums : (2, H, W) float32, added to
    """
    size = len(painted)
    for y in range(size):
        row = painted[y]
        real, imaginary = sums[0, y0 + y, x0 : x0 + size], sums[1, y0 + y, x0 : x0 + size]
        for x in range(size):
            real[x] += row[x].real
            imaginary[x] += row[x].imag
