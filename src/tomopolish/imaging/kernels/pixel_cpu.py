"""Arithmetic of one Fourier pixel (`pixel`), compiled for the CPU's kernels."""

from __future__ import annotations

from tomopolish.imaging.kernels import pixel
from tomopolish.jit import inlined

# Reassociation would undo the sine's two-part reduction by π.
sine = inlined(fastmath={"nnan", "ninf", "nsz", "arcp", "contract", "afn"})(pixel.sine)
ctf_phase = inlined(fastmath=True)(pixel.ctf_phase)
locate = inlined(fastmath=True, error_model="numpy")(pixel.locate)
blend = inlined(fastmath=True)(pixel.blend)
blend_gradient = inlined(fastmath=True)(pixel.blend_gradient)
