"""Arithmetic of one Fourier pixel (`pixel`, `pixel_products`), compiled for the CPU's kernels."""

from __future__ import annotations

from tomopolish.imaging.kernels import pixel, pixel_products
from tomopolish.jit import inlined

# Reassociation would undo the sine's two-part reduction by π.
sine = inlined(fastmath={"nnan", "ninf", "nsz", "arcp", "contract", "afn"})(pixel.sine)
ctf_phase = inlined(fastmath=True)(pixel.ctf_phase)
locate = inlined(fastmath=True, error_model="numpy")(pixel.locate)
blend = inlined(fastmath=True)(pixel.blend)
blend_gradient = inlined(fastmath=True)(pixel.blend_gradient)

turned = inlined(fastmath=True)(pixel_products.turned)
multiplied = inlined(fastmath=True)(pixel_products.multiplied)
rotation_products = inlined(fastmath=True)(pixel_products.rotation_products)
rotation_squares = inlined(fastmath=True)(pixel_products.rotation_squares)
prediction_products = inlined(fastmath=True)(pixel_products.prediction_products)
phase_products = inlined(fastmath=True)(pixel_products.phase_products)
phase_square = inlined(fastmath=True)(pixel_products.phase_square)
