"""The prior of particle motion, and whether motion is tried."""

from __future__ import annotations

from dataclasses import dataclass

from tomopolish.settings.refuse import refuse, refuse_above


@dataclass(frozen=True, kw_only=True)
class MotionSettings:
    """The Gaussian-process prior of particle motion (docs/dev/conventions.md, Objective).

    Attributes
    ----------
    velocity_scale
        `--s_vel`: σ_v, Å per e⁻/Å²; Å per frame if `absolute`.
    distance_scale
        `--s_div`: σ_d, Å per e⁻/Å²; Å if `absolute`.
    absolute
        `--abs_params`: the scales are not multiplied by the dose of a frame.
    squared_exponential
        `--sq_exp_ker`: covariance exp(−x²/σ_d²) instead of exp(−x/σ_d).
    max_deformations
        `--max_ed`: number of eigen-deformations in use; None: all.
    auto
        `--motion auto`: the scales of each tomogram are found from its images, and motion is kept only where
        held-out pairs gain from it. The velocity scale is then not used; distance scale and kernel are kept
        unless the images are against them.
    """

    velocity_scale: float = 0.5
    distance_scale: float = 5000.0
    absolute: bool = False
    squared_exponential: bool = False
    max_deformations: int | None = None
    auto: bool = False

    def __post_init__(self) -> None:
        refuse(
            not self.velocity_scale > 0, f"--s_vel {self.velocity_scale:g} allows no motion: give more than 0"
        )
        refuse(
            not self.distance_scale > 0,
            f"--s_div {self.distance_scale:g} is not a valid distance: give more than 0",
        )
        refuse_above("--s_vel", self.velocity_scale, 1000, "0.1 to 2 are usual")
        refuse_above("--s_div", self.distance_scale, 1e9, "100 to 10000 are usual")
        refuse(
            self.max_deformations is not None and self.max_deformations < 1,
            f"--max_ed {self.max_deformations} keeps no deformation: give 1 or more, or -1 for all",
        )
