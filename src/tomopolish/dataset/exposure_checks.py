"""Warnings of exposures that look wrong, with the assumptions that are made."""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.left_out import numbered
from tomopolish.dataset.model import TiltSeries
from tomopolish.physics.exposure import repeated
from tomopolish.physics.geometry import tilt_angles_degrees
from tomopolish.shapes import Array, Float, Int

LABEL = "rlnMicrographPreExposure"


def exposure_warnings(series: TiltSeries) -> list[str]:
    """Return warnings of suspicious exposures in a tilt series and what is assumed, one sentence each."""
    usable = np.flatnonzero(series.usable)
    exposure = series.pre_exposure[usable]
    if len(usable) < 2:
        return []
    if np.ptp(exposure) == 0:
        return [
            f"all tilt images of {series.name} have the exposure {exposure[0]:g} ({LABEL}): radiation damage "
            "weights them equally, and the order of the rows is assumed to be the order of exposure"
        ]
    warnings = []
    shared = usable[repeated(exposure)]
    if len(shared):
        warnings.append(
            f"{numbered(shared)} of {series.name} share their exposure with others ({LABEL}): "
            "their order is assumed to be that of the rows, and the exposure up to the next image is divided "
            "evenly among those that share"
        )
    if np.all(np.diff(exposure) < 0):
        warnings.append(
            f"the exposures of {series.name} ({LABEL}) decrease from row to row: its last row is assumed "
            "to be the first exposed image"
        )
    early = usable[out_of_order(tilt_angles_degrees(series.projections_px[usable]), exposure)]
    if len(early):
        warnings.append(
            f"the exposures of {series.name} ({LABEL}) do not grow with the tilt angle on both sides of the "
            f"first image ({numbered(early)}): the stated order of exposure is used nevertheless"
        )
    return warnings


def out_of_order(angles_degrees: Float[Array, "F"], exposure: Float[Array, "F"]) -> Int[Array, "n"]:
    """Return images that were exposed before another image between their tilt and the first image's tilt.

    There are none in continuous, bidirectional and dose-symmetric schemes.
    """
    order = np.argsort(angles_degrees, kind="stable")
    sorted_exposure = exposure[order]
    first = int(np.argmin(sorted_exposure))
    early = np.zeros(len(order), dtype=bool)
    for side in (np.arange(first, len(order)), np.arange(first, -1, -1)):
        along = sorted_exposure[side]
        early[side] |= along < np.maximum.accumulate(along)
    return np.sort(order[early])
