"""Settings of the dirt in a simulation: bad picks, bad tilt images, and what lies in the images besides."""

from __future__ import annotations

from dataclasses import dataclass

from tomopolish.settings.simulated_structure import require


@dataclass(frozen=True, kw_only=True)
class DirtSettings:
    """Dirt of real data; each kind has a random stream of its own, and none is there by default.

    The true particles, their images and the noise stay the same with and without dirt. Picks of further
    species have no dirt of their own.

    Attributes
    ----------
    false_particles
        Picks where nothing is, as a share of the true particles. They lie in the specimen like true
        particles, as far from these as these from each other, and at least the molecule's radius; their
        orientations are random.
    misoriented
        Share of the true particles whose orientation in the files is wrong.
    misoriented_turn_degrees
        Angle by which it is wrong, about a random axis.
    picked_twice
        Share of the true particles that the files have twice; the second pick has an error of its own of
        the same standard deviation, and the right orientation. No misoriented particle is picked twice.
    beads
        Number of gold beads in each tomogram: spheres in three dimensions, imaged with the microscope's
        optics and the defocus of their depth. Every second bead touches a particle.
    bead_diameter_angstrom
        Their diameter.
    bead_contrast
        How dark their middle is, in standard deviations of the noise.
    hot_pixels
        Number in each image: half of them at the same pixels in all images, 20 to 1000 standard deviations
        of the noise bright.
    gradient
        RMS of a smooth background of each image (a slope in a random direction, and half as much of a
        random curvature), in standard deviations of the noise.
    blank_images
        Number of tilt images that show noise only.
    covered_images
        Number of tilt images, among the more tilted half, of which a straight bar darkens about a half and
        hides what is there.
    defocus_error_angstrom
        Standard deviation of the error of each image's defocus in the files.
    displaced_images
        Number of tilt images that are far off.
    displaced_by_px
        Distance, in a random direction, by which they are, besides the usual errors.
    """

    false_particles: float = 0.0
    misoriented: float = 0.0
    misoriented_turn_degrees: float = 50.0
    picked_twice: float = 0.0
    beads: int = 0
    bead_diameter_angstrom: float = 100.0
    bead_contrast: float = 6.0
    hot_pixels: int = 0
    gradient: float = 0.0
    blank_images: int = 0
    covered_images: int = 0
    defocus_error_angstrom: float = 0.0
    displaced_images: int = 0
    displaced_by_px: float = 12.0

    def __post_init__(self) -> None:
        for name in ("beads", "hot_pixels", "blank_images", "covered_images", "displaced_images"):
            require(0 <= getattr(self, name) <= 100_000, "it must lie between 0 and 100000", f"--{name}")
        amounts = {
            "--gradient": self.gradient,
            "--defocus_error": self.defocus_error_angstrom,
            "--displaced_by": self.displaced_by_px,
            "bead_contrast": self.bead_contrast,
        }
        for option, amount in amounts.items():
            require(amount >= 0, "it must not be negative", option)
        require(
            0 <= self.false_particles <= 10,
            "the share of false particles must lie between 0 and 10",
            "--false_particles",
        )
        require(
            0 <= self.misoriented <= 1 and 0 <= self.picked_twice <= 1,
            "the shares of misoriented particles and of those picked twice must lie between 0 and 1",
            "--misoriented, --picked_twice",
        )
        require(
            self.misoriented + self.picked_twice <= 1,
            "the shares of misoriented particles and of those picked twice add up to more than 1",
            "--misoriented, --picked_twice",
        )
        require(
            0 <= self.misoriented_turn_degrees <= 180,
            "misoriented particles can be turned by 0 to 180 degrees",
            "--misoriented_turn",
        )
        require(self.bead_diameter_angstrom > 0, "the beads' diameter must be positive", "--bead_diameter")
