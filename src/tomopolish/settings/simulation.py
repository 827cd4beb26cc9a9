"""Settings of a simulation: specimen, acquisition, planted errors and noise; invalid values are refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tomopolish.settings.alignment import DEFORMATION_MODELS
from tomopolish.settings.dirt import DirtSettings
from tomopolish.settings.simulated_structure import (
    CompanionSettings,
    MoleculeSettings,
    require,
    require_choice,
)

DOSE_SCHEMES = ("dose-symmetric", "bidirectional", "continuous")
FILE_ORDERS = ("angle", "exposure", "shuffled")
DIALECTS = ("relion5", "relion4")
IMAGE_TYPES = ("float16", "float32", "int16")
LARGEST_BEAD_PX = 256


@dataclass(frozen=True, kw_only=True)
class AcquisitionSettings:
    """Acquisition of the tilt series, and optics.

    Attributes
    ----------
    image_size_px
        (w, h) of the tilt images; they may be odd.
    tilt_range_degrees, tilt_step_degrees
        Tilts from −range to +range.
    tilt_axis_degrees
        Rotation of the tilt axis in the image.
    dose_scheme
        ``"dose-symmetric"`` (0, +, −, −, +, +, …), ``"bidirectional"`` (0 … +range, then −step … −range)
        or ``"continuous"`` (−range … +range).
    file_order
        Order of the rows in the files: by ``"angle"``, by ``"exposure"``, or ``"shuffled"``.
    frame_dose
        Dose of each image, e⁻/Å².
    first_dose
        Dose of the first exposed image, e⁻/Å², as in hybrid schemes; None: `frame_dose`.
    state_frame_dose
        Whether the files state `frame_dose`; otherwise readers derive it from the accumulated dose.
    hand
        ±1: sign with which defocus follows depth.
    defocus_angstrom, defocus_spread_angstrom
        Mean defocus, and the standard deviation of its known variation from tilt to tilt.
    astigmatism_angstrom, astigmatism_degrees
        DefocusU − DefocusV, and the angle of U.
    scale_follows_tilt
        Whether the CTF scale falls as the cosine of the tilt angle; the files state it.
    inelastic_loss
        The signal also falls as exp(−loss·(1/cos(tilt) − 1)), because of the longer way through the ice; the
        files do not state it.
    bfactor_angstrom2, bfactor_per_dose
        Damping exp(−B k²/4) of every image; radiation damage as a B factor per e⁻/Å² (0: critical exposure).
    optics_groups
        Number of optics groups, to which particles belong in turn; only the first has aberrations.
    even_zernike, odd_zernike
        Aberrations of the first optics group.
    """

    image_size_px: tuple[int, int] = (512, 512)
    pixel_size_angstrom: float = 3.0
    tilt_range_degrees: float = 60.0
    tilt_step_degrees: float = 3.0
    tilt_axis_degrees: float = 85.0
    dose_scheme: str = "dose-symmetric"
    file_order: str = "angle"
    frame_dose: float = 3.0
    first_dose: float | None = None
    state_frame_dose: bool = True
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.1
    hand: float = -1.0
    defocus_slope: float = 1.0
    defocus_angstrom: float = 25000.0
    defocus_spread_angstrom: float = 400.0
    astigmatism_angstrom: float = 500.0
    astigmatism_degrees: float = 40.0
    phase_shift_degrees: float = 0.0
    scale_follows_tilt: bool = False
    inelastic_loss: float = 0.0
    bfactor_angstrom2: float = 0.0
    bfactor_per_dose: float = 0.0
    optics_groups: int = 1
    even_zernike: tuple[float, ...] = ()
    odd_zernike: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        require(
            len(self.image_size_px) == 2 and min(self.image_size_px) >= 32,
            f"images of {self.image_size_px} px are too small; give 32 px or more",
            "--image_size",
        )
        require(
            max(self.image_size_px) <= 16384,
            f"images of {self.image_size_px} px are too large; give at most 16384 px",
            "--image_size",
        )
        require(self.pixel_size_angstrom > 0, "the pixel size must be positive", "--pixel_size")
        require(
            0 < self.tilt_step_degrees <= self.tilt_range_degrees < 90,
            f"tilts of ±{self.tilt_range_degrees:g}° in steps of {self.tilt_step_degrees:g}° cannot be made; "
            "give 0 < step ≤ range < 90",
            "--tilt_step, --tilt_range",
        )
        require(
            self.tilt_range_degrees <= 1000 * self.tilt_step_degrees,
            f"±{self.tilt_range_degrees:g}° in steps of {self.tilt_step_degrees:g}° are more than 2000 tilt "
            "images; give larger steps",
            "--tilt_range, --tilt_step",
        )
        require_choice(self.dose_scheme, DOSE_SCHEMES, "the dose scheme", "--dose_scheme")
        require_choice(self.file_order, FILE_ORDERS, "the file order", "--file_order")
        require(self.frame_dose > 0, "the dose of an image must be positive", "--dose")
        require(
            self.first_dose is None or self.first_dose > 0,
            "the dose of the first image must be positive",
            "--first_dose",
        )
        require(self.voltage_kv > 0, "the voltage must be positive", "voltage_kv")
        require(
            0 <= self.amplitude_contrast < 1,
            "the amplitude contrast must be at least 0 and below 1",
            "amplitude_contrast",
        )
        require(self.hand in (-1.0, 1.0), f"the hand is {self.hand:g}; give 1 or -1", "--hand")
        require(self.optics_groups >= 1, "there must be at least one optics group", "optics_groups")
        require(self.optics_groups <= 10_000, "there must be at most 10000 optics groups", "optics_groups")
        for name in ("defocus_spread_angstrom", "bfactor_per_dose", "inelastic_loss"):
            require(getattr(self, name) >= 0, "it must not be negative", name)


@dataclass(frozen=True, kw_only=True)
class SpecimenSettings:
    """Number and distribution of the particles.

    Attributes
    ----------
    particles
        Number in each tomogram.
    tomogram_size_px
        (W, H, D) in the files; None: the image's width and height, and the thickness plus two boxes.
    thickness_angstrom
        Particle centres lie within ± half of it around the tomogram's middle plane.
    min_distance_px
        Smallest distance between two particles; None: the molecule's diameter.
    edge_margin_px
        Smallest distance from the sides of the tomogram; None: half a box.
    """

    particles: int = 30
    tomogram_size_px: tuple[int, int, int] | None = None
    thickness_angstrom: float = 900.0
    min_distance_px: float | None = None
    edge_margin_px: float | None = None

    def __post_init__(self) -> None:
        require(self.particles >= 1, "there must be at least one particle", "--particles")
        require(
            self.particles <= 100_000,
            f"{self.particles} particles are too many; give at most 100000",
            "--particles",
        )
        require(self.thickness_angstrom >= 0, "the specimen's thickness must not be negative", "--thickness")
        require(
            self.tomogram_size_px is None
            or (len(self.tomogram_size_px) == 3 and min(self.tomogram_size_px) >= 1),
            f"{self.tomogram_size_px} px is not a valid size of a tomogram; give three positive sizes",
            "--tomogram_size",
        )
        require(
            self.min_distance_px is None or self.min_distance_px >= 0,
            "the smallest distance between particles must not be negative",
            "min_distance_px",
        )


@dataclass(frozen=True, kw_only=True)
class PlantedErrors:
    """Errors of the input alignment: standard deviations of independent normal errors.

    Attributes
    ----------
    shift_px
        Error of each component of each tilt image's shift.
    angle_degrees
        Error of each of the three small rotations of each tilt image about its own axes.
    position_px
        Error of each component of each particle's 3D position.
    max_displacement_px
        Unless None, all errors are scaled by one factor, so that this is the largest distance between true
        and input 2D position over all visible pairs; planted motion and warps are part of that distance.
    known_shift_px
        Standard deviation of the shifts that the input already contains, each component.
    """

    shift_px: float = 2.0
    angle_degrees: float = 0.2
    position_px: float = 1.5
    max_displacement_px: float | None = None
    known_shift_px: float = 5.0

    def __post_init__(self) -> None:
        errors = {
            "--shift_error": self.shift_px,
            "--angle_error": self.angle_degrees,
            "--position_error": self.position_px,
            "known_shift_px": self.known_shift_px,
        }
        for option, error in errors.items():
            require(error >= 0, "the error must not be negative", option)
        require(
            self.max_displacement_px is None
            or (self.max_displacement_px > 0 and self.shift_px + self.angle_degrees + self.position_px > 0),
            "a largest displacement must be positive, and at least one of the errors must be above 0",
            "--max_error",
        )


@dataclass(frozen=True, kw_only=True)
class NoiseSettings:
    """Noise of the images, and signal-to-noise ratio.

    Attributes
    ----------
    pair_snr
        Twice the expected rise of the log-likelihood by the true prediction of a pair over no prediction:
        Σ_k |S(k)|²/N(k) over the full plane up to the reference's resolution, averaged over tilts (prediction
        S with CTF and dose weight, noise power N). It is the expected height of the pair's correlation peak
        (docs/dev/conventions.md), whose noise has standard deviation √pair_snr. Below about 15 the peak of a
        single pair is lost among the noise peaks of its window; at 1 to 4 it is invisible. The signal and the
        references are scaled to this value; infinity means images without noise.
    sigma
        Standard deviation of the flat part of the noise; None: 1, and 100 for integer images.
    low_frequency_excess, corner_px
        Coloured noise: the power is σ²(1 + excess/(1 + (k·corner)²)), k in 1/px.
    tilt_growth
        The noise power of a tilt grows as cos(tilt)^−growth.
    """

    pair_snr: float = 60.0
    sigma: float | None = None
    low_frequency_excess: float = 0.0
    corner_px: float = 20.0
    tilt_growth: float = 0.0

    def __post_init__(self) -> None:
        require(
            self.pair_snr > 0,
            f"{self.pair_snr:g} is not a valid signal-to-noise ratio; give more than 0",
            "--snr",
        )
        require(
            self.sigma is None or self.sigma > 0, "the noise's standard deviation must be positive", "sigma"
        )
        require(
            self.low_frequency_excess >= 0,
            "the noise's low-frequency excess must not be negative",
            "--noise_excess",
        )
        require(self.corner_px > 0, "the noise's corner must be positive", "corner_px")

    @property
    def is_silent(self) -> bool:
        """Whether the images are free of noise."""
        return math.isinf(self.pair_snr)


@dataclass(frozen=True, kw_only=True)
class PlantedMotion:
    """Particle trajectories drawn from the Gaussian-process prior of docs/dev/conventions.md.

    Attributes
    ----------
    velocity_scale
        Å per e⁻/Å² (``--s_vel``).
    distance_scale
        Å per e⁻/Å² (``--s_div``).
    squared_exponential
        Covariance exp(−x²/σ_d²) instead of exp(−x/σ_d).
    """

    velocity_scale: float = 0.1
    distance_scale: float = 500.0
    squared_exponential: bool = False

    def __post_init__(self) -> None:
        require(self.velocity_scale > 0, "the velocity scale must be positive", "--s_vel")
        require(self.distance_scale > 0, "the distance scale must be positive", "--s_div")


@dataclass(frozen=True, kw_only=True)
class PlantedWarp:
    """A random 2D warp of the tilt images (docs/dev/conventions.md, Objective).

    Attributes
    ----------
    grid
        (gw, gh) of the model's parameters.
    amplitude_px
        RMS length of the displacement over the image.
    per_frame
        One warp per tilt image instead of one per series.
    """

    model: str = "Fourier"
    grid: tuple[int, int] = (3, 3)
    amplitude_px: float = 1.0
    per_frame: bool = False

    def __post_init__(self) -> None:
        require_choice(self.model, DEFORMATION_MODELS, "the warp model", "--def_model")
        require(
            2 <= min(self.grid) <= max(self.grid) <= 20,
            f"a warp grid of {self.grid} cannot be used; give 2 to 20 for both",
            "--def_w, --def_h",
        )
        require(self.amplitude_px > 0, "the warp's amplitude must be positive", "--def_amplitude")


@dataclass(frozen=True, kw_only=True)
class SimulationSettings:
    """All settings of a simulated project; the constructor raises InputError for invalid values.

    Attributes
    ----------
    seed
        The same seed gives the same bytes. The molecule has its own seed.
    tomograms
        Number of tomograms; tomogram i does not depend on it.
    dialect
        ``"relion5"`` or ``"relion4"``.
    image_type
        Number type of the image stacks.
    dirt
        What real data have besides: bad picks, bad tilt images, beads, hot pixels, backgrounds.
    companions
        Further species. Except for the images, everything of the first species is the same with and without
        them.
    """

    seed: int = 0
    tomograms: int = 1
    dialect: str = "relion5"
    image_type: str = "float16"
    molecule: MoleculeSettings = field(default_factory=MoleculeSettings)
    acquisition: AcquisitionSettings = field(default_factory=AcquisitionSettings)
    specimen: SpecimenSettings = field(default_factory=SpecimenSettings)
    errors: PlantedErrors = field(default_factory=PlantedErrors)
    noise: NoiseSettings = field(default_factory=NoiseSettings)
    motion: PlantedMotion | None = None
    warp: PlantedWarp | None = None
    dirt: DirtSettings = field(default_factory=DirtSettings)
    companions: tuple[CompanionSettings, ...] = ()

    def __post_init__(self) -> None:
        names = [companion.name for companion in self.companions]
        require(len(set(names)) == len(names), "every species needs a name of its own", "companions")
        require(self.seed >= 0, "the seed must not be negative", "--seed")
        require(self.tomograms >= 1, "there must be at least one tomogram", "--tomograms")
        require(
            self.tomograms <= 10_000,
            f"{self.tomograms} tomograms are too many; give at most 10000",
            "--tomograms",
        )
        require_choice(self.dialect, DIALECTS, "the dialect", "--dialect")
        require_choice(self.image_type, IMAGE_TYPES, "the image type", "--image_type")
        require(
            self.image_type != "int16" or self.noise_sigma >= 10,
            "a noise of less than 10 grey values is lost in integers; give a larger σ, or a float type",
            "--image_type",
        )
        require(
            self.dirt.bead_diameter_angstrom <= LARGEST_BEAD_PX * self.acquisition.pixel_size_angstrom,
            f"a bead of {self.dirt.bead_diameter_angstrom:g} Å is wider than {LARGEST_BEAD_PX} px; give a "
            "smaller diameter",
            "--bead_diameter",
        )

    @property
    def noise_sigma(self) -> float:
        """Standard deviation of the flat part of the noise, grey values."""
        if self.noise.sigma is not None:
            return self.noise.sigma
        return 100.0 if self.image_type == "int16" else 1.0

    def tomogram_name(self, index: int) -> str:
        """Return the name of tomogram `index`, counted from 0."""
        return f"TS_{index + 1:02d}"
