"""Warnings of exposures and defocus values of a tilt series that look wrong, with remedies or assumptions."""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.left_out import numbered
from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.relion.tilt_series import DEFOCUS, PRE_EXPOSURE
from tomopolish.physics.exposure import repeated
from tomopolish.physics.geometry import tilt_angles_degrees
from tomopolish.shapes import Array, Float, Int

_LABELS = ", ".join(DEFOCUS[:2])
_LARGEST_IN_MICROMETRES = 100.0
"""Å; no image is recorded so near to focus, so that smaller values must be in µm."""

_FACTOR = 2.5
"""Difference from the series' median that makes a defocus suspicious."""


def exposure_warnings(series: TiltSeries) -> list[str]:
    """Return warnings of suspicious exposures in a tilt series and what is assumed, one sentence each."""
    usable = np.flatnonzero(series.usable)
    name, exposure = series.name, series.pre_exposure[usable]
    if len(usable) < 2:
        return []
    if np.ptp(exposure) == 0:
        return [
            f"all tilt images of {name} have the exposure {exposure[0]:g} ({PRE_EXPOSURE}): radiation damage "
            "weights them equally, and the order of the rows is assumed to be the order of exposure"
        ]
    warnings = []
    shared = usable[repeated(exposure)]
    if len(shared):
        warnings.append(
            f"{numbered(shared)} of {name} share their exposure with others ({PRE_EXPOSURE}): "
            "their order is assumed to be that of the rows, and the exposure up to the next image is divided "
            "evenly among those that share"
        )
    if np.all(np.diff(exposure) < 0):
        warnings.append(
            f"the exposures of {name} ({PRE_EXPOSURE}) decrease from row to row: its last row is assumed "
            "to be the first exposed image"
        )
    early = usable[out_of_order(tilt_angles_degrees(series.projections_px[usable]), exposure)]
    if len(early):
        warnings.append(
            f"the exposures of {name} ({PRE_EXPOSURE}) do not grow with the tilt angle on both sides of the "
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


def defocus_warnings(series: TiltSeries) -> list[str]:
    """Return warnings of suspicious defocus values in a tilt series, one sentence each."""
    usable = np.flatnonzero(series.usable)
    both = np.stack([series.ctf.defocus_u_angstrom, series.ctf.defocus_v_angstrom])[:, usable]
    name, mean = series.name, both.mean(axis=0)
    if not len(usable):
        return []
    if not both.any():
        return [
            f"the defocus of all tilt images of {name} is 0 ({_LABELS}), so that they are compared as if in "
            "focus; run CTF estimation"
        ]
    if np.abs(both).max() < _LARGEST_IN_MICROMETRES:
        return [
            f"the defocus of {name} is up to {np.abs(both).max():.3g} Å ({_LABELS}), as if it were in µm; "
            "RELION's unit is Å"
        ]
    if (mean < 0).all():
        return [f"the defocus of {name} is negative ({_LABELS}): RELION counts underfocus as positive"]
    warnings = []
    at_zero = (both == 0).any(axis=0)
    if at_zero.any():
        warnings.append(
            f"the defocus of {numbered(usable[at_zero])} of {name} is 0 ({_LABELS}), as where CTF estimation "
            f"failed; they are compared as if in focus; correct it, or {_without(name, usable[at_zero])}"
        )
    typical = float(np.median(mean[~at_zero])) if not at_zero.all() else 0.0
    odd = ~at_zero & (typical > 0) & ((mean > _FACTOR * typical) | (mean < typical / _FACTOR))
    if odd.any():
        warnings.append(
            f"the defocus of {numbered(usable[odd])} of {name} ({_LABELS}) is far from the series' median, "
            f"{typical:.0f} Å; check the CTF estimation, or {_without(name, usable[odd])}"
        )
    return warnings


def _without(name: str, tilts: np.ndarray) -> str:
    numbers = ",".join(str(tilt + 1) for tilt in tilts.tolist())
    return f"leave them out with --exclude_tilts {name}:{numbers}"
