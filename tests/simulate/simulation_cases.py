"""What several tests of the simulator need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.simulate import SimulationSettings


def varied(settings: SimulationSettings, part: str, **changes: object) -> SimulationSettings:
    """Return settings with some values of one part replaced."""
    return replace(settings, **{part: replace(getattr(settings, part), **changes)})


def half_plane_multiplicity(box: int) -> np.ndarray:
    """How often each column of a half plane occurs in the full plane."""
    weight = np.full(box // 2 + 1, 2.0)
    weight[[0, -1]] = 1.0
    return weight
