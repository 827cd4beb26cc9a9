"""The options of an alignment run, in physical terms; invalid combinations are refused here.

Every field names the option of the command line that sets it; errors name the one or the other, depending on
the caller (`settings.wording`). A value that RELION writes as −1 for "off"
is None here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from tomopolish.plain_text import listed
from tomopolish.settings.cluster import ClusterSettings
from tomopolish.settings.inputs import InputPaths as InputPaths  # noqa: PLC0414  it belongs to the settings
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.motion import MotionSettings as MotionSettings  # noqa: PLC0414  likewise
from tomopolish.settings.refuse import refuse, refuse_above, refuse_threads, refuse_unwritable

DEFORMATION_MODELS = ("linear", "spline", "Fourier")


@dataclass(frozen=True, kw_only=True)
class WindowSettings:
    """Part of the images that is compared, and range of the displacements that are searched.

    See docs/dev/conventions.md, References and weights, Correlation windows.

    Attributes
    ----------
    box_px
        `--b`: edge of the box around each projected particle, and of the padded reference.
    range_px
        `--r`: displacements in [−r, r) are searched.
    range_penalty
        `--range_reg`: ρ of the penalty −ρ·(|δ| − r)² beyond the range, log-likelihood per px².
    padding
        `--pad`: oversampling of the windows.
    min_frame, max_frame
        `--min_frame`, `--max_frame`: first and last (inclusive; None: the last of the series) chronological
        tilt image that takes part.
    """

    box_px: int
    range_px: int = 20
    range_penalty: float = 0.0
    padding: float = 1.0
    min_frame: int = 0
    max_frame: int | None = None

    def __post_init__(self) -> None:
        refuse(
            self.box_px < 24 or self.box_px % 2 == 1,
            f"--b {self.box_px} is not a valid box size: give an even number of pixels, 24 or more",
        )
        refuse(self.range_px < 1, f"--r {self.range_px} leaves nothing to search: give 1 px or more")
        refuse(
            2 * self.range_px > self.box_px,
            f"--r {self.range_px} does not fit into --b {self.box_px}: "
            f"the range can be at most half of the box, {self.box_px // 2}",
        )
        refuse(not self.range_penalty >= 0, f"--range_reg {self.range_penalty:g} is negative: give 0 or more")
        refuse(not self.padding >= 1, f"--pad {self.padding:g} would crop the windows: give 1 or more")
        refuse_above("--b", self.box_px, 4096, "no tilt image has room for such a box")
        refuse_above("--pad", self.padding, 8, "memory and time grow with its square; 1 to 4 are usual")
        refuse_above("--range_reg", self.range_penalty, 1e6, "1 already keeps displacements within --r")
        refuse(self.min_frame < 0, f"--min_frame {self.min_frame} is negative: frames count from 0")
        if self.max_frame is not None:
            refuse(
                self.max_frame <= self.min_frame,
                f"--max_frame {self.max_frame} must exceed --min_frame {self.min_frame}",
            )


@dataclass(frozen=True, kw_only=True)
class WeightSettings:
    """How Fourier frequencies are weighted (docs/dev/conventions.md, References and weights).

    Attributes
    ----------
    freq_cutoff_angstrom
        `--freq_cutoff`: resolution that the last used shell cannot exceed; None: the FSC alone decides.
    fsc_thresh_width
        `--fsc_thresh_width`: width of the flank behind the last shell, shells.
    use_snr_weight
        `--use_SNR_weight`: weight by 2·FSC/(1 + FSC), or by the half maps' signal-to-noise ratio.
    per_frame_noise
        `--per_frame_noise`: one noise spectrum per tilt image instead of one per series.
    whiten
        Weight by 1/noise power; off with `--no_whiten`.
    whiten_abs
        `--whiten_abs`: weight by 1/√(noise power) instead.
    hp_sigma
        `--hp`: σ of the high-pass 1 − exp(−r²/2σ²), Fourier px; None: no high-pass.
    srp
        `--srp`: p of the factor (r/s_h)^p.
    cutoff_fraction
        `--cutoff_fract`: frequencies whose dose or relative frequency weight is below it are not used.
    """

    freq_cutoff_angstrom: float | None = None
    fsc_thresh_width: float = 5.0
    use_snr_weight: bool = False
    per_frame_noise: bool = False
    whiten: bool = True
    whiten_abs: bool = False
    hp_sigma: float | None = None
    srp: float = 0.0
    cutoff_fraction: float = 0.02

    def __post_init__(self) -> None:
        refuse(
            self.freq_cutoff_angstrom is not None and not self.freq_cutoff_angstrom > 0,
            f"--freq_cutoff {self.freq_cutoff_angstrom} is not a valid resolution: give Å, or -1 for none",
        )
        refuse(
            not self.fsc_thresh_width >= 0,
            f"--fsc_thresh_width {self.fsc_thresh_width:g} is negative: give 0 shells or more",
        )
        refuse(
            self.hp_sigma is not None and not self.hp_sigma > 0,
            f"--hp {self.hp_sigma} is not a valid width: give it in Fourier pixels, or -1 for no high-pass",
        )
        refuse(
            not 0 <= self.cutoff_fraction < 1,
            f"--cutoff_fract {self.cutoff_fraction:g} is not a valid fraction: give 0 to below 1",
        )
        refuse_above("--fsc_thresh_width", self.fsc_thresh_width, 4096, "no map has as many shells")
        refuse_above("--hp", self.hp_sigma, 4096, "it would leave no frequency of any box")
        refuse(abs(self.srp) > 10, f"--srp {self.srp:g} leaves one frequency only: give -10 to 10")
        refuse(
            self.whiten_abs and not self.whiten,
            "--no_whiten and --whiten_abs contradict each other: give one of them",
        )

    @property
    def in_units_of_noise(self) -> bool:
        """Whether frequencies are weighted by 1/noise power, so that the log-likelihood's noise is known."""
        return self.whiten and not self.whiten_abs


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """Parameters that are refined, and when refinement stops (docs/dev/conventions.md, Objective).

    Attributes
    ----------
    const_positions, const_angles, const_shifts
        `--const_p`, `--const_a`, `--const_s`: keep positions, angles or shifts of the input.
    shift_only
        `--shift_only`: refine one shift per tilt image alone, by complete predicted micrographs.
    shift_only_by_particles
        `--shift_only_by_particles`: determine that shift from the summed windows of the particles instead.
    reference_scale
        `--ref_scale`: factor applied to the references; None (`auto`): it is estimated for each tomogram, and
        applied when the references' scale is wrong by more than a factor of 1.5.
    held_out_fraction
        `--hold_out`: share of the particle images that are held out of a first fit, which is judged by them;
        the final fit uses all images. 0: there is no such fit, and no evidence. None (`auto`): a tenth, and
        up to a quarter where there are few images.
    max_iterations
        `--it`: maximum number of iterations of the solver; None (`--it 0`): no limit before convergence.
    outliers
        `--no_outliers` unsets it: whether particles and tilt images count by the probability that they show
        what the reference predicts.
    """

    const_positions: bool = False
    const_angles: bool = False
    const_shifts: bool = False
    shift_only: bool = False
    shift_only_by_particles: bool = False
    reference_scale: float | None = None
    held_out_fraction: float | None = None
    max_iterations: int | None = None
    outliers: bool = True

    def __post_init__(self) -> None:
        refuse(
            self.reference_scale is not None and not self.reference_scale > 0,
            f"--ref_scale {self.reference_scale} is not a valid factor: give auto, or a number above 0",
        )
        refuse(
            self.held_out_fraction is not None and not 0 <= self.held_out_fraction <= 0.5,
            f"--hold_out {self.held_out_fraction} is not a valid share: give auto, or 0 (none) to 0.5",
        )
        refuse(
            self.max_iterations is not None and self.max_iterations < 1,
            f"--it {self.max_iterations} allows no iteration: give 1 or more, or 0 for as many as are needed",
        )
        refuse_above(
            "--it", self.max_iterations, 100_000, "10 to 50 are usual, and 0 for as many as are needed"
        )
        refuse_above("--ref_scale", self.reference_scale, 1e9, "auto estimates the factor from the images")
        refuse(
            self.shift_only_by_particles and not self.shift_only,
            "--shift_only_by_particles only works with --shift_only: give both",
        )
        refuse(
            self.shift_only and self.const_shifts,
            "--shift_only refines the shifts alone, which --const_s fixes: give one of them",
        )


@dataclass(frozen=True, kw_only=True)
class DeformationSettings:
    """The 2D warp of tilt images (docs/dev/conventions.md, Objective).

    Attributes
    ----------
    model
        `--def_model`: one of `DEFORMATION_MODELS`.
    grid
        `--def_w`, `--def_h`: columns and rows of the sampling grid.
    regulariser
        `--def_reg`: λ of the penalty on the coefficients; 0: estimate their spread from the images.
    per_frame
        `--per_frame_deformation`: one warp per tilt image instead of one per series.
    """

    model: str = "spline"
    grid: tuple[int, int] = (3, 3)
    regulariser: float = 0.0
    per_frame: bool = False

    def __post_init__(self) -> None:
        refuse(
            self.model not in DEFORMATION_MODELS,
            f"--def_model {self.model} is unknown: choose {listed(DEFORMATION_MODELS, 'or')}",
        )
        refuse(
            min(self.grid) < (1 if self.model == "linear" else 2),
            f"--def_w {self.grid[0]} --def_h {self.grid[1]} is not a valid grid: give 2 or more for both",
        )
        refuse(not self.regulariser >= 0, f"--def_reg {self.regulariser:g} is negative: give 0 or more")
        for option, nodes in zip(("--def_w", "--def_h"), self.grid, strict=True):
            refuse_above(option, nodes, 20, "no tilt image can determine such a fine warp; 2 to 6 are usual")
        refuse_above("--def_reg", self.regulariser, 1e12, "0 estimates it from the images")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Output, threads and devices of a run.

    Attributes
    ----------
    output_folder
        `--o`: folder of the output.
    threads
        `--j`: number of threads.
    device
        `--device`: `auto`, `cpu`, `cuda`, `cuda:1`, or several as `cuda:0,cuda:1`.
    only
        `--only`: tomograms that are refined and stored, without writing sets; none: all, with sets.
    only_do_unfinished
        `--only_do_unfinished`: reuse finished tomograms of an earlier run.
    diagnostics
        `--diag`: write intermediate results for inspection.
    dry_run
        `--dry_run`: check the input and report the plan without refining.
    pipeline_folder
        `--pipeline_control`: job folder of RELION's exit files.
    overwrite
        `--overwrite`: replace files that no earlier alignment has written.
    strict
        `--strict`: stop the run at the first tomogram that fails.
    report
        Whether to write ``report.html``; off with `--no_report`.
    evaluate
        `--evaluate`: reconstruct half maps before and after refinement, and compare their FSC.
    cluster
        Workers that refine the tomograms; None: tomograms are refined one after another in this process.
    """

    output_folder: Path
    threads: int = 1
    device: str = "auto"
    only: tuple[str, ...] = ()
    only_do_unfinished: bool = False
    diagnostics: bool = False
    dry_run: bool = False
    pipeline_folder: Path | None = None
    overwrite: bool = False
    strict: bool = False
    report: bool = True
    evaluate: bool = False
    cluster: ClusterSettings | None = None

    def __post_init__(self) -> None:
        refuse_threads(self.threads)
        known = re.fullmatch(r"auto|cpu|cuda(:\d+)?(,cuda(:\d+)?)*", self.device)
        refuse(not known, f"--device {self.device} is unknown: give auto, cpu, cuda or cuda:0,cuda:1")
        refuse(
            self.output_folder.exists() and not self.output_folder.is_dir(),
            f"--o {self.output_folder} is a file: name a folder for the output",
        )
        refuse_unwritable("--o", self.output_folder)
        refuse(
            bool(self.only) and self.evaluate,
            "--only writes no refined sets that --evaluate could compare: give one of them",
        )


@dataclass(frozen=True, kw_only=True)
class AlignSettings:
    """All options of `tomopolish align`.

    `motion` and `deformation` are None where these are not modelled. The constructor raises InputError, which
    names the options, for invalid combinations.
    """

    inputs: InputPaths
    windows: WindowSettings
    run: RunSettings
    weights: WeightSettings = field(default_factory=WeightSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    motion: MotionSettings | None = None
    deformation: DeformationSettings | None = None
    joint: JointSettings = field(default_factory=JointSettings)

    def __post_init__(self) -> None:
        fit, motion, deformation, joint = self.fit, self.motion, self.deformation, self.joint
        refuse(
            fit.shift_only and motion is not None,
            "--shift_only and --motion exclude each other: shifts alone cannot describe particle motion",
        )
        refuse(
            fit.shift_only and deformation is not None,
            "--shift_only and --deformation exclude each other: shifts alone cannot describe a warp",
        )
        refuse(
            motion is not None and fit.const_positions,
            "--motion and --const_p exclude each other: particles that move cannot keep their positions",
        )
        refuse(
            all((fit.const_positions, fit.const_angles, fit.const_shifts)) and not (deformation or joint.any),
            "--const_p, --const_a and --const_s together leave nothing to refine: drop one of them",
        )
        is_auto = motion is not None and motion.auto
        refuse(
            is_auto and type(motion) is not MotionSettings,
            f"--motion auto finds the scales of MotionSettings, not those of {type(motion).__name__}",
        )
        refuse(
            is_auto and fit.held_out_fraction == 0,
            "--motion auto keeps motion where held-out pairs gain from it, but --hold_out 0 holds none out",
        )
        refuse(
            is_auto and not self.weights.in_units_of_noise,
            "--no_whiten and --whiten_abs exclude --motion auto, whose weights must be those of the noise: "
            "drop one of them",
        )
        names = ", ".join(joint.chosen)
        refuse(
            joint.any and fit.shift_only,
            f"--shift_only excludes a joint refinement ({names}): shifts alone change no view and no optics",
        )
        refuse(
            joint.any and not self.weights.in_units_of_noise,
            f"--no_whiten and --whiten_abs exclude a joint refinement ({names}), whose weights must be those "
            "of the noise: drop one of them",
        )
