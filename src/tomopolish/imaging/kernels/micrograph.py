"""Compiled kernel of predicted micrographs (CPU), for the spectra of predicted particle images."""

from __future__ import annotations

import numpy as np

from tomopolish.imaging.kernels.pixel_cpu import blend, ctf_phase, locate, sine
from tomopolish.jit import kernel


@kernel(fastmath=True, error_model="numpy")
def predict_spectra(  # type: ignore[no-untyped-def]
    reference, reach, half_set, views, centre, columns_used, weight, defocus, phase, odd, group, spectra,
):  # fmt: skip
    """Predict boxes with one particle each, as they appear in the image: protein dark.

    The prediction is the slice of the reference × CTF × aberrations × weights, moved to the particle's exact
    place in its box; the minus signs of contrast and CTF cancel (docs/dev/conventions.md, Optics).

    Parameters
    ----------
    reference, reach, half_set, views, columns_used, defocus, phase, odd, group
        As in `kernels.compare.correlate_spectra`
    centre : (B, 2) float32, position of the particle's centre in its box, px
    weight : (2, R, C) float32, all real factors
    spectra : (B, s, C) complex64, written; columns kx = 0 … C − 1
    """
    size, columns = spectra.shape[1], spectra.shape[2]
    shift = np.empty(columns, np.complex64)
    spectra[:] = 0
    width, height = 2 * (reach + 1), 2 * reach + 1
    line, layer = np.uint64(width), np.uint64(width * height)
    for b in range(spectra.shape[0]):
        g, view = group[b], views[b]
        first = np.uint64(half_set[b] * width * height**2)
        turn = -2 * np.pi * centre[b, 0] / size
        for kx in range(columns):
            shift[kx] = complex(np.cos(turn * kx), np.sin(turn * kx))
        turn = -2 * np.pi * centre[b, 1] / size
        for side in range(2):
            for r in range(side, weight.shape[1]):
                row = spectra[b, r if side == 0 else size - r]
                ky = np.float32(r if side == 0 else -r)
                row_turn = np.complex64(complex(np.cos(turn * ky), np.sin(turn * ky)))
                for kx in range(columns_used[side, r]):
                    k = np.float32(kx)
                    place, tx, ty, tz, mate = locate(
                        k * view[0, 0] + ky * view[1, 0],
                        k * view[0, 1] + ky * view[1, 1],
                        k * view[0, 2] + ky * view[1, 2],
                        reach,
                    )
                    re, im = blend(reference, first + np.uint64(place), line, layer, tx, ty, tz, mate)
                    gamma = ctf_phase(
                        k, ky, phase[g, side, r, kx], defocus[b, 0], defocus[b, 1], defocus[b, 2]
                    )
                    value = np.complex64(complex(re, im)) * row_turn * shift[kx]
                    if odd.shape[3] > 0:
                        value *= odd[g, side, r, kx]
                    row[kx] = value * (weight[side, r, kx] * sine(gamma))
