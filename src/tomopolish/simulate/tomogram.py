"""One simulated tomogram in memory: the input of an alignment, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tomopolish.dataset.model import Particles, References, TiltSeries
from tomopolish.errors import InputError
from tomopolish.physics.geometry import tomogram_centre_px
from tomopolish.settings.dirt import DirtSettings
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.shapes import Array, Float, Float32
from tomopolish.simulate.acquisition import inelastic_amplitude, microscope, tilt_ctf
from tomopolish.simulate.beads import bead_painter, bead_positions_px
from tomopolish.simulate.companions import SimulatedSpecies, companion_scene, companion_structure
from tomopolish.simulate.painter import TiltPainter
from tomopolish.simulate.picks import draw_picks, input_particles
from tomopolish.simulate.rendered_images import RenderedImages
from tomopolish.simulate.scene import Scene, build_scene, random_stream
from tomopolish.simulate.structure import Structure, build_structure
from tomopolish.simulate.truth import TiltKind, Truth


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageStack:
    """Tilt images in memory (a `TiltImages`)."""

    stack: Float32[Array, "F h w"]

    @property
    def size_px(self) -> tuple[int, int]:
        """(w, h) of every image."""
        _, h, w = self.stack.shape
        return w, h

    def __len__(self) -> int:
        return len(self.stack)

    def read(self, tilt: int) -> Float32[Array, "h w"]:
        """Return one tilt image, file order."""
        return self.stack[tilt]


@dataclass(frozen=True, kw_only=True, eq=False)
class SimulatedTomogram:
    """A tomogram in the form of its files, and its truth.

    Attributes
    ----------
    series, particles
        Input geometry, without trajectories and warp; particles of the first species.
    truth
        Truth of the first species.
    angles_degrees
        Nominal tilt angles, file order.
    images
        Object that renders the images; it is also `series.images`.
    companions
        Further species, in the order of the settings.
    """

    series: TiltSeries
    particles: Particles
    truth: Truth
    angles_degrees: Float[Array, "F"]
    images: RenderedImages
    companions: tuple[SimulatedSpecies, ...] = ()


def simulate_tomogram(
    settings: SimulationSettings, index: int = 0, structure: Structure | None = None
) -> SimulatedTomogram:
    """Simulate tomogram `index` (from 0); its images are rendered when they are read.

    Parameters
    ----------
    structure
        Result of `build_structure` for the settings; None: it is computed.

    Raises
    ------
    InputError
        When the settings cannot be simulated: too many particles, box larger than the image, …
    """
    structure = structure or build_structure(settings)
    w, h = settings.acquisition.image_size_px
    if structure.box_px > min(w, h):
        raise InputError(
            f"simulation: the map's box of {structure.box_px} px is larger than the images ({w} x {h} px); "
            "give larger images or a smaller box"
        )
    scene = build_scene(settings, index, box_px=structure.box_px, diameter_px=structure.diameter_px)
    series = _input_series(settings, index, scene)
    particles = input_particles(settings, index, scene)
    companions = _companions(settings, index, scene, structure)
    picks = draw_picks(
        settings,
        index,
        scene,
        particles,
        [member.scene for member in companions],
        box_px=structure.box_px,
        diameter_px=structure.diameter_px,
    )
    beads = None
    if settings.dirt.beads:
        beads = bead_positions_px(settings, index, scene, structure.diameter_px)
    true_series = _true_series(settings, index, scene, series)
    painters = [
        _painter(member.structure, true_series, member.species.particles, member.scene)
        for member in companions
    ]
    if beads is not None:
        painters.append(bead_painter(settings, true_series, scene, beads))
    images = RenderedImages(
        painter=_painter(structure, true_series, particles, scene),
        others=tuple(painters),
        settings=settings,
        angles_degrees=scene.angles_degrees,
        tilt_kinds=scene.tilt_kinds,
        index=index,
    )
    truth = _truth(settings, index, picks.scene, picks.particles.names, structure.box_px)
    return SimulatedTomogram(
        series=replace(series, images=images),
        particles=picks.particles,
        truth=replace(
            truth,
            particle_kinds=picks.kinds,
            originals=picks.originals,
            beads_px=beads,
        ),
        angles_degrees=scene.angles_degrees,
        images=images,
        companions=tuple(member.species for member in companions),
    )


def simulate_tilt_series(
    settings: SimulationSettings, index: int = 0, *, threads: int = 1
) -> tuple[TiltSeries, Particles, References, Truth]:
    """Simulate a tomogram in memory; returns the input of an alignment, and the truth.

    Images are float32 for any image type of the settings; the result does not depend on `threads`. With
    several species, the particles are those of the first; see `simulate_species`.
    """
    series, (first, *_) = simulate_species(settings, index, threads=threads)
    return series, first.particles, first.references, first.truth


def simulate_species(
    settings: SimulationSettings, index: int = 0, *, threads: int = 1
) -> tuple[TiltSeries, tuple[SimulatedSpecies, ...]]:
    """Simulate a tomogram in memory like `simulate_tilt_series`, with all its species."""
    structure = build_structure(settings)
    tomogram = simulate_tomogram(settings, index, structure)
    with ThreadPoolExecutor(threads) as pool:
        stack = np.stack(list(pool.map(tomogram.images.read, range(len(tomogram.series)))))
    first = SimulatedSpecies(
        particles=tomogram.particles,
        references=structure.references,
        truth=tomogram.truth,
        box_px=structure.box_px,
    )
    return replace(tomogram.series, images=ImageStack(stack=stack)), (first, *tomogram.companions)


def settings_record(settings: SimulationSettings) -> Mapping[str, Any]:
    """Return the settings as JSON values."""
    record = asdict(settings)
    if settings.molecule.map_path is not None:
        record["molecule"]["map_path"] = str(settings.molecule.map_path)
    if settings.noise.is_silent:
        record["noise"]["pair_snr"] = None
    for companion in record["companions"]:
        if companion["molecule"]["map_path"] is not None:
            companion["molecule"]["map_path"] = str(companion["molecule"]["map_path"])
    if not settings.companions:
        del record["companions"]
    if settings.dirt == DirtSettings():
        del record["dirt"]
    return record


@dataclass(frozen=True, kw_only=True, eq=False)
class _Companion:
    structure: Structure
    scene: Scene
    species: SimulatedSpecies


def _companions(
    settings: SimulationSettings, index: int, first: Scene, structure: Structure
) -> list[_Companion]:
    """Place the further species, one after another, between the particles that exist already."""
    companions: list[_Companion] = []
    diameter = structure.diameter_px
    for number, companion in enumerate(settings.companions, start=1):
        further = companion_structure(settings, companion, number)
        diameter = max(diameter, further.diameter_px)
        scene = companion_scene(
            settings,
            companion,
            [first, *[earlier.scene for earlier in companions]],
            streams=(index, number),
            box_px=further.box_px,
            diameter_px=diameter,
        )
        particles = input_particles(settings, index, scene)
        truth = _truth(settings, index, scene, particles.names, further.box_px)
        species = SimulatedSpecies(
            name=companion.name,
            particles=particles,
            references=further.references,
            truth=truth,
            box_px=further.box_px,
        )
        companions.append(_Companion(structure=further, scene=scene, species=species))
    return companions


def _painter(structure: Structure, series: TiltSeries, particles: Particles, scene: Scene) -> TiltPainter:
    return TiltPainter(
        volume=structure.volume,
        series=series,
        particles=replace(particles, positions_px=scene.positions_px),
        positions_2d_px=scene.positions_2d_px,
    )


def _input_series(settings: SimulationSettings, index: int, scene: Scene) -> TiltSeries:
    acquisition = settings.acquisition
    tilts, (w, h) = len(scene.angles_degrees), acquisition.image_size_px
    defocus_rng = random_stream(settings.seed, "optics", index)
    defocus_change = defocus_rng.normal(scale=acquisition.defocus_spread_angstrom, size=tilts)
    return TiltSeries(
        name=settings.tomogram_name(index),
        projections_px=scene.input_projections_px,
        tomogram_size_px=scene.tomogram_size_px,
        pixel_size_angstrom=acquisition.pixel_size_angstrom,
        hand=acquisition.hand,
        defocus_slope=acquisition.defocus_slope,
        microscope=microscope(acquisition),
        ctf=tilt_ctf(
            acquisition, scene.angles_degrees, defocus_change + _defocus_errors(settings, index, tilts)
        ),
        pre_exposure=scene.pre_exposure,
        bfactor_per_dose=np.full(tilts, acquisition.bfactor_per_dose),
        fractional_dose=acquisition.frame_dose if acquisition.state_frame_dose else None,
        images=ImageStack(stack=np.broadcast_to(np.float32(0), (tilts, h, w))),  # until a painter exists
    )


def _true_series(settings: SimulationSettings, index: int, scene: Scene, series: TiltSeries) -> TiltSeries:
    """Return a series as it is: true projections, signal that was lost, and defocus without its error."""
    left = inelastic_amplitude(settings.acquisition, scene.angles_degrees)
    error = _defocus_errors(settings, index, len(scene.angles_degrees))
    return replace(
        series,
        projections_px=scene.projections_px,
        ctf=replace(
            series.ctf,
            scale=series.ctf.scale * left,
            defocus_u_angstrom=series.ctf.defocus_u_angstrom - error,
            defocus_v_angstrom=series.ctf.defocus_v_angstrom - error,
        ),
    )


def _defocus_errors(settings: SimulationSettings, index: int, tilts: int) -> Float[Array, "F"]:
    """Return the files' error of each image's defocus, Å."""
    if not settings.dirt.defocus_error_angstrom:
        return np.zeros(tilts)
    rng = random_stream(settings.seed, "defocus errors", index)
    return rng.normal(scale=settings.dirt.defocus_error_angstrom, size=tilts)


def _truth(
    settings: SimulationSettings, index: int, scene: Scene, names: tuple[str, ...], box_px: int
) -> Truth:
    return Truth(
        name=settings.tomogram_name(index),
        projections_px=scene.projections_px,
        input_projections_px=scene.input_projections_px,
        positions_px=scene.positions_px,
        trajectories_px=scene.trajectories_px,
        positions_2d_px=np.swapaxes(scene.positions_2d_px, 0, 1).copy(),
        rotations=scene.rotations,
        pre_exposure=scene.pre_exposure,
        tomogram_centre_px=tomogram_centre_px(scene.tomogram_size_px),
        pixel_size_angstrom=settings.acquisition.pixel_size_angstrom,
        box_px=box_px,
        image_size_px=settings.acquisition.image_size_px,
        input_positions_px=scene.input_positions_px,
        deformation=scene.deformation,
        particle_names=names,
        settings=settings_record(settings),
        tilt_kinds=scene.tilt_kinds if any(kind is not TiltKind.GOOD for kind in scene.tilt_kinds) else (),
    )
