"""Kinds of picks and of tilt images in a simulation; their values are those of ``truth.json``."""

from __future__ import annotations

from enum import Enum


class PickKind(str, Enum):
    """Whether a pick shows a particle, once, in the stated orientation."""

    GOOD = "good"
    FALSE = "false"
    MISORIENTED = "misoriented"
    DUPLICATE = "duplicate"


class TiltKind(str, Enum):
    """Whether a tilt image shows the specimen, all of it, about where the input expects it."""

    GOOD = "good"
    COVERED = "covered"
    DISPLACED = "displaced"
    BLANK = "blank"

    @property
    def shows_all(self) -> bool:
        """Whether the image shows all particles, so that its geometry can be judged."""
        return self in (TiltKind.GOOD, TiltKind.DISPLACED)
