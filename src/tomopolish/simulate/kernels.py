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
def particle_plane(grid, zero, zero_x, axes, centre, phase, plane):  # type: ignore[no-untyped-def]
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
    plane : (B, B) complex64, written; zero beyond the Nyquist circle
    """
    box_px = plane.shape[0]
    half = box_px // 2
    # Both phases are sums of a term in kx and a term in ky, so that products of factors replace most sines.
    shift_x = np.empty(half, dtype=np.complex64)
    turn = np.empty(half, dtype=np.complex64)
    for kx in range(half):
        shift = -2 * np.pi * kx * centre[0] / box_px
        shift_x[kx] = complex(np.cos(shift), np.sin(shift))
        turn[kx] = complex(np.cos(phase * kx * kx), np.sin(phase * kx * kx))
    plane[:] = 0
    for ky in range(1 - half, half):
        shift = -2 * np.pi * ky * centre[1] / box_px
        shift_y = np.complex64(complex(np.cos(shift), np.sin(shift)))
        turn_y = turn[abs(ky)]
        for kx in range(half):
            if kx * kx + ky * ky >= half * half:
                break
            x = kx * axes[0, 0] + ky * axes[1, 0]
            y = kx * axes[0, 1] + ky * axes[1, 1]
            z = kx * axes[0, 2] + ky * axes[1, 2]
            mirrored = x < 0
            if mirrored:
                x, y, z = -x, -y, -z
            fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
            wx = _cubic_weights(np.float32(x - fx))
            wy = _cubic_weights(np.float32(y - fy))
            wz = _cubic_weights(np.float32(z - fz))
            ix = 2 * (int(fx) + zero_x - 1)
            iy = int(fy) + zero - 1
            iz = int(fz) + zero - 1
            r0 = i0 = r1 = i1 = r2 = i2 = r3 = i3 = np.float32(0)
            for c in range(4):
                for b in range(4):
                    weight = wz[c] * wy[b]
                    r0 += weight * grid[iz + c, iy + b, ix]
                    i0 += weight * grid[iz + c, iy + b, ix + 1]
                    r1 += weight * grid[iz + c, iy + b, ix + 2]
                    i1 += weight * grid[iz + c, iy + b, ix + 3]
                    r2 += weight * grid[iz + c, iy + b, ix + 4]
                    i2 += weight * grid[iz + c, iy + b, ix + 5]
                    r3 += weight * grid[iz + c, iy + b, ix + 6]
                    i3 += weight * grid[iz + c, iy + b, ix + 7]
            real = wx[0] * r0 + wx[1] * r1 + wx[2] * r2 + wx[3] * r3
            imaginary = wx[0] * i0 + wx[1] * i1 + wx[2] * i2 + wx[3] * i3
            if mirrored:
                imaginary = -imaginary
            moved = complex(real, imaginary) * (shift_x[kx] * shift_y)
            turned = turn[kx] * turn_y
            plane[ky, kx] = moved * turned
            if kx > 0:
                plane[-ky, box_px - kx] = moved.conjugate() * turned
