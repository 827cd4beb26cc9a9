"""Which unknowns are refined together with the geometry."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tomopolish.settings.refuse import refuse

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
    def any(self) -> bool:
        """Whether anything is refined beside the geometry."""
        return any(getattr(self, field.name) for field in fields(self))


def check_joint(joint: JointSettings, shift_only: bool, noise: bool) -> None:
    """Raise InputError, which names the options, where other options exclude a joint refinement.

    `noise` says whether frequencies are weighted by the inverse noise power.
    """
    if not joint.any:
        return
    names = ", ".join(field.name for field in fields(joint) if getattr(joint, field.name))
    refuse(
        shift_only,
        f"--shift_only excludes a joint refinement ({names}): shifts alone change no view and no optics",
    )
    refuse(
        not noise,
        f"--no_whiten and --whiten_abs exclude a joint refinement ({names}), whose weights must be those of "
        "the noise: drop one of them",
    )
