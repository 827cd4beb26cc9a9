"""Compiled kernel of back-projection on the CPU, on one thread, without Python's lock."""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.kernels.pixel_cpu import ctf_phase, sine
from tomopolish.jit import inlined, kernel


@inlined(fastmath=True, error_model="numpy")
def _spread(total, x, y, z, re, im, weight):  # type: ignore[no-untyped-def]
    """Add a sample to the eight voxels around it, trilinearly; Friedel symmetry applies for x < 0."""
    reach = total.shape[2] - 2
    if x < np.float32(0):
        x, y, z, im = -x, -y, -z, -im
    y += np.float32(reach)
    z += np.float32(reach)
    ix, iy, iz = int(x), int(y), int(z)
    tx, ty, tz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
    for dz in range(2):
        wz = tz if dz else np.float32(1) - tz
        for dy in range(2):
            wy = wz * (ty if dy else np.float32(1) - ty)
            for dx in range(2):
                share = wy * (tx if dx else np.float32(1) - tx)
                voxel = total[iz + dz, iy + dy, ix + dx]
                voxel[0] += share * re
                voxel[1] += share * im
                voxel[2] += share * weight


@kernel(fastmath=True, error_model="numpy")
def back_project(  # type: ignore[no-untyped-def]
    spectra, box_px, symmetry, views, centre, columns_used, weight, signal_weight, defocus, phase,
    odd, group, total,
):  # fmt: skip
    """Add images to a transform: Σ w c O e^{2πi k·centre/s} and Σ w c², with c the real prediction factor.

    Parameters
    ----------
    spectra, box_px : as in `kernels.compare.correlate_spectra`
    symmetry : (G, 3, 3) float32, rotations that map the structure to itself, including the identity
    views, centre, columns_used, defocus, phase, odd, group
        As in `kernels.compare.correlate_spectra`
    weight : (2, R, C) float32, w times the real factors of c without the CTF's sine, and normalisation
    signal_weight : (2, R, C) float32, the same for w c², with the full plane's multiplicity
    total : (2r + 2, 2r + 2, r + 2, 3) float32, added to: real part, imaginary part, weight at
        [kz + r, ky + r, kx]
    """
    for b in range(spectra.shape[0]):
        view, g = views[b], group[b]
        turn_x = 2 * np.pi * centre[b, 0] / box_px
        turn_y = 2 * np.pi * centre[b, 1] / box_px
        for sign in range(2):
            for r in range(sign, weight.shape[1]):
                row = -r if sign else r
                ky = np.float32(row)
                source_re, source_im = spectra[b, 0, sign, r], spectra[b, 1, sign, r]
                for kx in range(columns_used[sign, r]):
                    power = signal_weight[sign, r, kx]
                    if power <= 0:
                        continue
                    k = np.float32(kx)
                    gamma = ctf_phase(
                        k, ky, phase[g, sign, r, kx], defocus[b, 0], defocus[b, 1], defocus[b, 2]
                    )
                    ctf = sine(gamma)
                    factor = weight[sign, r, kx] * ctf * np.float32(1 if kx == 0 else 2)
                    moved = turn_x * kx + turn_y * row
                    c, s = np.float32(np.cos(moved)), np.float32(np.sin(moved))
                    o_re, o_im = source_re[kx], source_im[kx]
                    re = factor * (o_re * c - o_im * s)
                    im = factor * (o_re * s + o_im * c)
                    if odd.shape[3] > 0:
                        turn = odd[g, sign, r, kx]
                        re, im = re * turn.real + im * turn.imag, im * turn.real - re * turn.imag
                    px = k * view[0, 0] + ky * view[1, 0]
                    py = k * view[0, 1] + ky * view[1, 1]
                    pz = k * view[0, 2] + ky * view[1, 2]
                    for i in range(symmetry.shape[0]):
                        R = symmetry[i]
                        _spread(
                            total,
                            R[0, 0] * px + R[0, 1] * py + R[0, 2] * pz,
                            R[1, 0] * px + R[1, 1] * py + R[1, 2] * pz,
                            R[2, 0] * px + R[2, 1] * py + R[2, 2] * pz,
                            re, im, power * ctf * ctf,
                        )  # fmt: skip
