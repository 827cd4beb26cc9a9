"""The simulator's compiled kernel: one particle's spectrum in one tilt image."""

from __future__ import annotations

import numpy as np

from tomopolish.jit import inlined, kernel


@inlined(fastmath=True)
def _cubic_weights(t):  # type: ignore[no-untyped-def]
    """Cubic B-spline weights of the taps at −1, 0, 1, 2 for an offset t in [0, 1)."""
    one, sixth = np.float32(1), np.float32(1 / 6)
    u = one - t
    return (
        u * u * u * sixth,
        (np.float32(4) + t * t * (np.float32(3) * t - np.float32(6))) * sixth,
        (np.float32(4) + u * u * (np.float32(3) * u - np.float32(6))) * sixth,
        t * t * t * sixth,
    )


@kernel(fastmath=True, error_model="numpy")
def particle_spectrum(  # type: ignore[no-untyped-def]
    grid,
    zero,
    zero_x,
    axes,
    phase,
    phase_per_defocus,
    defocus,
    envelope,
    odd,
    shift_x,
    shift_y,
    last_column,
    spectrum,
):
    """Slice the volume and apply aberrations, contrast transfer, envelope and the particle's shift.

    Parameters
    ----------
    grid : (n, n, m) complex64, `SliceVolume.grid`; `zero`, `zero_x`: its indices of frequency zero
    axes : (2, 3) float64, grid steps (x, y, z) per Fourier px along kx and ky
    phase, phase_per_defocus : (B, B/2+1) float64, γ at zero depth, and its change per Å of defocus
    defocus : float, of this particle beyond the tilt image's own, Å
    envelope : (B, B/2+1) float32, all real factors
    odd : (B, B/2+1) complex64, exp(i odd aberration)
    shift_x, shift_y : (B/2+1,), (B,) complex64, phase ramps that move the particle
    last_column : (B,) int64, columns used in each row; all within the Nyquist circle, where the grid ends
    spectrum : (B, B/2+1) complex64, written; zero beyond the used columns
    """
    rows, columns = spectrum.shape
    half = rows // 2
    for row in range(rows):
        ky = row if row < half else row - rows
        line = spectrum[row]
        used = last_column[row]
        for kx in range(used):
            x = kx * axes[0, 0] + ky * axes[1, 0]
            y = kx * axes[0, 1] + ky * axes[1, 1]
            z = kx * axes[0, 2] + ky * axes[1, 2]
            mirrored = x < 0
            if mirrored:
                x, y, z = -x, -y, -z
            fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
            wx0, wx1, wx2, wx3 = _cubic_weights(np.float32(x - fx))
            wy = _cubic_weights(np.float32(y - fy))
            wz = _cubic_weights(np.float32(z - fz))
            ix = int(fx) + zero_x - 1
            iy = int(fy) + zero - 1
            iz = int(fz) + zero - 1
            real = np.float32(0)
            imaginary = np.float32(0)
            for c in range(4):
                plane_real = np.float32(0)
                plane_imaginary = np.float32(0)
                for b in range(4):
                    g0 = grid[iz + c, iy + b, ix]
                    g1 = grid[iz + c, iy + b, ix + 1]
                    g2 = grid[iz + c, iy + b, ix + 2]
                    g3 = grid[iz + c, iy + b, ix + 3]
                    plane_real += wy[b] * (wx0 * g0.real + wx1 * g1.real + wx2 * g2.real + wx3 * g3.real)
                    plane_imaginary += wy[b] * (wx0 * g0.imag + wx1 * g1.imag + wx2 * g2.imag + wx3 * g3.imag)
                real += wz[c] * plane_real
                imaginary += wz[c] * plane_imaginary
            if mirrored:
                imaginary = -imaginary
            gamma = phase[row, kx] + defocus * phase_per_defocus[row, kx]
            factor = np.float32(-np.sin(gamma)) * envelope[row, kx]
            moved = odd[row, kx] * (shift_x[kx] * shift_y[row])
            line[kx] = np.complex64(complex(real, imaginary)) * moved * factor
        for kx in range(used, columns):
            line[kx] = 0
