"""Which unknowns are refined together with the geometry."""

from __future__ import annotations

from dataclasses import dataclass, fields

USUAL = ("orientations", "defocus", "tilt_scale", "tilt_bfactor")
"""Fields that `--joint` sets."""


@dataclass(frozen=True, kw_only=True)
class JointSettings:
    """Unknowns that are refined from the images themselves (docs/dev/conventions.md, Joint refinement).

    Attributes
    ----------
    orientations
        `--orientations`: the particles' orientations.
    defocus
        `--defocus`: one change of the defocus per tilt image.
    astigmatism, phase_shift
        `--astigmatism`, `--phase_shift`: those of each tilt image.
    tilt_scale, tilt_bfactor
        `--tilt_scale`, `--tilt_bfactor`: CTF scale and B factor of each tilt image.
    """

    orientations: bool = False
    defocus: bool = False
    astigmatism: bool = False
    phase_shift: bool = False
    tilt_scale: bool = False
    tilt_bfactor: bool = False

    @property
    def chosen(self) -> list[str]:
        """Fields of the unknowns that are refined."""
        return [field.name for field in fields(self) if getattr(self, field.name)]

    @property
    def any(self) -> bool:
        """Whether anything is refined beside the geometry."""
        return bool(self.chosen)
