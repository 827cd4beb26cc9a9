"""Derivatives of predictions on a CUDA device, for `devices_cuda`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomopolish.imaging.derivatives import Comparison
from tomopolish.imaging.device_arrays import DeviceArray, DeviceArrays
from tomopolish.imaging.kernels import derivatives_cuda as kernels
from tomopolish.imaging.windows import PairBatch
from tomopolish.shapes import Array, Float, Float32

SHIFTS = (3, 4)
"""Unknowns of a pair that are shifts, px."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonOnDevice:
    """Predictions with which the boxes of one tilt image are compared, on a device.

    Attributes
    ----------
    used
        kx, ky, weight of the image, amplitude and damping of each frequency in use.
    rates, phase, odd
        As in `derivatives.UsedFrequencies`; there are as many terms of γ as a kernel has, which may be zero.
    """

    arrays: DeviceArrays
    reference: DeviceArray
    reach: int
    box_px: int
    unknowns: int
    terms: int
    used: DeviceArray
    rates: DeviceArray
    phase: DeviceArray
    odd: DeviceArray

    @classmethod
    def of(cls, comparison: Comparison, arrays: DeviceArrays, reference: DeviceArray) -> ComparisonOnDevice:
        """Upload what the pairs of a comparison share, but for the reference."""
        task, used = comparison.task, comparison.used
        count, frequencies = used.rates.shape
        terms = next(number for number in kernels.KERNELS if number >= count)
        rates = np.zeros((terms, frequencies), dtype=np.float32)
        rates[:count] = used.rates
        return cls(
            arrays=arrays,
            reference=reference,
            reach=task.reference.reach,
            box_px=task.reference.box_px,
            unknowns=comparison.unknowns,
            terms=terms,
            used=arrays.upload(np.stack([used.kx, used.ky, used.image_weight, used.amplitude, used.damping])),
            rates=arrays.upload(rates),
            phase=arrays.upload(used.phase),
            odd=arrays.upload(used.odd),
        )

    def products(
        self, spectra: DeviceArray, batch: PairBatch
    ) -> tuple[Float[Array, "B N"], Float[Array, "B N N"]]:
        """Return the products of pairs' derivatives; see `kernels.derivatives.pair_derivatives`."""
        pairs, frequencies = len(batch.corners), self.used.shape[1]
        parts = max(1, -(-frequencies // (kernels.THREADS * kernels.PER_THREAD)))
        places = kernels.sum_places(self.terms)
        sums = self.arrays.xp.empty((pairs, parts, len(places)), dtype=np.float64)
        self.arrays.launch(
            kernels.KERNELS[self.terms],
            (pairs, parts),
            kernels.THREADS,
            spectra,
            self.reference,
            self.reach,
            self.arrays.upload(np.stack([batch.half_set, batch.optics_group], axis=1).astype(np.int64)),
            self.arrays.upload(seen_of(batch, self.box_px)),
            self.used,
            self.rates,
            self.phase,
            self.odd,
            sums,
        )
        return _assembled(self.arrays.download(sums).sum(axis=1), places, self.unknowns, self.box_px)


def seen_of(batch: PairBatch, box_px: int) -> Float32[Array, "B 11"]:
    """Return view (6), centre relative to pixel s/2 of the box (2) and defocus (3) of each pair."""
    centre = (batch.centre - box_px // 2).astype(np.float32)
    return np.concatenate([batch.views.reshape(-1, 6), centre, batch.defocus], axis=1)


def _assembled(
    sums: Float[Array, "B S"], places: list[tuple[int, int]], unknowns: int, box_px: int
) -> tuple[Float[Array, "B N"], Float[Array, "B N N"]]:
    """Put a kernel's sums in their places; shifts with optics have none, since these products are zero."""
    matched = np.zeros((len(sums), unknowns))
    normal = np.zeros((len(sums), unknowns, unknowns))
    for values, (row, column) in zip(sums.T, places, strict=True):
        if max(row, column) >= unknowns:
            continue
        shifts = (row in SHIFTS) + (column in SHIFTS)
        products = values * (-2 * np.pi / box_px) ** shifts
        if column == kernels.IMAGE:
            matched[:, row] = products
        else:
            normal[:, row, column] = normal[:, column, row] = products
    return matched, normal
