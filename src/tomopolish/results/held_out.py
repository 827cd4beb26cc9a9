"""What held-out pairs say of a refinement, and of parts of it (docs/evidence.md)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Agreement of held-out pairs of particle and tilt image with a geometry that was refined without them.

    They are compared with the half map to which their particle did not contribute (docs/evidence.md).

    Attributes
    ----------
    particles, pairs
        Number of particles that held-out pairs belong to, and of these pairs.
    gain
        Log-likelihood of the held-out pairs at the geometry refined without them, minus that at the input
        geometry.
    standard_error
        Standard error of the gain, from its scatter over particles; NaN for a single particle.
    agreement_before, agreement_after
        Signal in the held-out pairs that the reference explains, as a fraction of the reference's own.
    agreement_error
        Standard deviation of either by noise alone.
    moved_angstrom, error_angstrom
        Root mean square over the tomogram's pairs of how far the refinement moved them in the image, and of
        the standard error of their refined position there.
    doubts
        Premises of the evidence that do not hold (`doubts`).
    """

    particles: int
    pairs: int
    gain: float
    standard_error: float
    agreement_before: float
    agreement_after: float
    agreement_error: float = 0.0
    moved_angstrom: float = 0.0
    error_angstrom: float = 0.0
    doubts: tuple[str, ...] = ()

    @property
    def gain_per_pair(self) -> float:
        """Mean gain of a held-out pair."""
        return self.gain / max(self.pairs, 1)

    @property
    def standard_error_per_pair(self) -> float:
        """Standard error of the mean gain."""
        return self.standard_error / max(self.pairs, 1)


@dataclass(frozen=True, kw_only=True)
class GroupEvidence:
    """What held-out pairs say of a group of unknowns that were refined with the geometry.

    Attributes
    ----------
    group
        Its name, as in a sentence: "orientations".
    evidence
        Of the group: "before" is the solution in which the group is that of the input.
    """

    group: str
    evidence: Evidence

    @property
    def helps(self) -> bool:
        """Whether the held-out pairs' log-likelihood rose by more than its standard error."""
        return self.evidence.gain > self.evidence.standard_error


@dataclass(frozen=True, kw_only=True)
class MotionTrial:
    """What became of motion that was tried (`--motion auto`).

    Attributes
    ----------
    velocity_scale, distance_scale, squared_exponential, absolute
        Prior that the images suggest, as in `MotionSettings`; a velocity scale of 0 means that they show no
        motion that neighbouring particles share, or are too few to tell.
    evidence
        Of motion with this prior: "before" is the solution without. None where it was not fitted, or no pair
        was held out.
    input_moves
        Whether the input has trajectories, which stay where motion is not refined anew.
    """

    velocity_scale: float = 0.0
    distance_scale: float = 0.0
    squared_exponential: bool = False
    absolute: bool = False
    evidence: Evidence | None = None
    input_moves: bool = False

    @property
    def helps(self) -> bool:
        """Whether held-out pairs gained, so that motion is kept.

        That the gain is no chance was asked of the fitted pairs, which are more, when the prior was found.
        """
        return self.evidence is not None and self.evidence.gain > 0
