"""Warnings of defocus values that look wrong, with remedies."""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.left_out import numbered
from tomopolish.dataset.model import TiltSeries

LABELS = "rlnDefocusU, rlnDefocusV"
_LARGEST_IN_MICROMETRES = 100.0
"""Å; no image is recorded so near to focus, so that smaller values must be in µm."""

_FACTOR = 2.5
"""Difference from the series' median that makes a defocus suspicious."""


def defocus_warnings(series: TiltSeries) -> list[str]:
    """Return warnings of suspicious defocus values in a tilt series, one sentence each."""
    usable = np.flatnonzero(series.usable)
    both = np.stack([series.ctf.defocus_u_angstrom, series.ctf.defocus_v_angstrom])[:, usable]
    name, mean = series.name, both.mean(axis=0)
    if not len(usable):
        return []
    if not both.any():
        return [
            f"the defocus of all tilt images of {name} is 0 ({LABELS}), so that they are compared as if in "
            "focus; run CTF estimation"
        ]
    if np.abs(both).max() < _LARGEST_IN_MICROMETRES:
        return [
            f"the defocus of {name} is up to {np.abs(both).max():.3g} Å ({LABELS}), as if it were in µm; "
            "RELION's unit is Å"
        ]
    if (mean < 0).all():
        return [f"the defocus of {name} is negative ({LABELS}): RELION counts underfocus as positive"]
    warnings = []
    at_zero = (both == 0).any(axis=0)
    if at_zero.any():
        warnings.append(
            f"the defocus of {numbered(usable[at_zero])} of {name} is 0 ({LABELS}), as where CTF estimation "
            f"failed; they are compared as if in focus; correct it, or {_without(name, usable[at_zero])}"
        )
    typical = float(np.median(mean[~at_zero])) if not at_zero.all() else 0.0
    odd = ~at_zero & (typical > 0) & ((mean > _FACTOR * typical) | (mean < typical / _FACTOR))
    if odd.any():
        warnings.append(
            f"the defocus of {numbered(usable[odd])} of {name} ({LABELS}) is far from the series' median, "
            f"{typical:.0f} Å; check the CTF estimation, or {_without(name, usable[odd])}"
        )
    return warnings


def _without(name: str, tilts: np.ndarray) -> str:
    numbers = ",".join(str(tilt + 1) for tilt in tilts.tolist())
    return f"leave them out with --exclude_tilts {name}:{numbers}"
