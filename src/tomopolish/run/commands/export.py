"""Export of sets on disk to the files of other programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.files import unique_file_names
from tomopolish.dataset.left_out import left_out_sentences
from tomopolish.dataset.model import Particles, TiltSeries
from tomopolish.dataset.project import Dataset
from tomopolish.dataset.remarks import Remarks
from tomopolish.errors import RunStopped, TomopolishError
from tomopolish.models.deformation import deformation_from
from tomopolish.output.exports.aretomo import aretomo_model, raw_stack, write_aretomo
from tomopolish.output.exports.chimerax import write_marker_tracks, write_markers, write_scene
from tomopolish.output.exports.imod import imod_model, write_imod
from tomopolish.output.exports.napari import write_points, write_script, write_tracks
from tomopolish.output.exports.points import picks_path, write_annotation, write_picks
from tomopolish.output.exports.tilt_model import TiltModel
from tomopolish.output.exports.warp import SUFFIX, warp_model, write_warp
from tomopolish.output.table import Table
from tomopolish.output.trails import trails
from tomopolish.physics.geometry import project
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder
from tomopolish.run.invocation import Invocation
from tomopolish.run.reporter import Reporter
from tomopolish.settings.refuse import refuse
from tomopolish.shapes import Array, Float

ALIGNMENTS = {"imod": "IMOD", "aretomo": "AreTomo", "warp": "Warp"}
SHAPES = {
    "napari": "napari",
    "chimerax": "ChimeraX",
    "copick": "copick and ArtiaX",
    "portal": "the CryoET Data Portal",
}
FORMATS = (*ALIGNMENTS, *SHAPES)
AFTER_IMPORT = (
    "Warp's tilt angles have the opposite sign, and so have those in warp/: after WarpTools "
    "ts_import_alignments, run WarpTools ts_defocus_hand --check"
)
NOTABLE_PX = 0.5
"""Residual above which a warning is given, px."""
NOTICED_FROM = 4.0
"""Resolution, over the largest error of a position, from which on the error is hardly noticed."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Options of an export.

    Attributes
    ----------
    formats
        Names from `FORMATS`; each format has a folder of its name.
    voxel_angstrom
        Voxel size of the tomograms that napari, copick and the portal show; None: the pixel size of the tilt
        images.
    magnification
        Factor on the motion in napari and ChimeraX.
    overwrite
        Whether files that no earlier export wrote may be replaced.
    """

    output_folder: Path
    formats: tuple[str, ...] = FORMATS
    voxel_angstrom: float | None = None
    magnification: float = 1.0
    overwrite: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        refuse(
            bool(unknown) or not self.formats,
            f"--format {', '.join(unknown) or 'none'} is unknown: give {', '.join(FORMATS)}, or some of them",
        )
        refuse(
            self.voxel_angstrom is not None and not self.voxel_angstrom > 0,
            f"--angpix {self.voxel_angstrom} must be positive",
        )
        refuse(not self.magnification > 0, f"--magnify {self.magnification:g} must be positive")


@dataclass(frozen=True, kw_only=True)
class ExportedTomogram:
    """Accuracy of one tomogram's export.

    Attributes
    ----------
    residual_px
        Format of an alignment → largest distance, over particles and tilt images, between the projections of
        a particle by the file and by the data set, without motion and deformation.
    motion_px, deformation_px
        Largest displacement of a particle in a tilt image by motion or deformation, which no format contains.
    sections_without_tilt
        Sections of the raw stack (from 0) that are not in the tilt series, and whose tilt angles cannot
        be interpolated.
    """

    tilts: int
    particles: int
    residual_px: Mapping[str, float]
    motion_px: float
    deformation_px: float
    sections_without_tilt: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Export:
    """Exported tomograms, and those that could not be exported."""

    tomograms: Mapping[str, ExportedTomogram]
    failures: Mapping[str, str]


def export_dataset(
    dataset: Dataset,
    settings: ExportSettings,
    reporter: Reporter,
    invocation: Invocation,
) -> Export:
    """Write all tomograms of a data set, also those without particles, in the chosen formats.

    A tomogram that cannot be read is left out, with a warning. Raises InputError when a file would replace a
    file that it must not, and RunError when a file cannot be written.
    """
    guard = Guard.of(dataset, settings.output_folder, "export", overwrite=settings.overwrite)
    with own_folder(guard, invocation.command) as out, out.new_files() as new:
        return _write_all(dataset, settings, new, reporter)


def _write_all(dataset: Dataset, settings: ExportSettings, out: Path, reporter: Reporter) -> Export:
    """Write all tomograms into a folder."""
    names = dataset.tomograms.names
    stems = unique_file_names(names)
    warp_stems = _warp_stems(names)
    written: dict[str, ExportedTomogram] = {}
    failures: dict[str, str] = {}
    remarks = Remarks()
    for sentence in dataset.conventions:
        reporter.say(sentence)
    with reporter.open(len(names)):
        for name in names:
            with reporter.tomogram(name) as progress, progress.stage("export"):
                try:
                    series, particles = dataset.load(name, geometry_only=True)
                    remarks.add(name, series.remarks)
                    models = alignment_models(series, particles, settings.formats)
                    exported = _measured(series, particles, models)
                except RunStopped:
                    raise
                except TomopolishError as problem:
                    failures[name] = str(problem)
                    reporter.warn(f"{name} is left out: {problem}")
                    continue
                _write_alignments(out, stems[name], warp_stems[name], series, models)
                _write_shapes(out, stems[name], series, particles, settings)
            written[name] = exported
            for sentence in left_out_sentences(name, series.left_out):
                reporter.warn(sentence)
            for sentence in _warnings(name, exported, series.pixel_size_angstrom):
                reporter.warn(sentence)
    for sentence in remarks.sentences():
        reporter.warn(sentence)
    if "warp" in settings.formats and written:
        reporter.say(f"{AFTER_IMPORT}.")
    return Export(tomograms=written, failures=failures)


def alignment_models(
    series: TiltSeries, particles: Particles, formats: Sequence[str]
) -> dict[str, TiltModel]:
    """Return the projections in the model of each format."""
    points = particles.positions_px
    models: dict[str, TiltModel] = {}
    if "imod" in formats:
        models["imod"] = imod_model(series)
    if "aretomo" in formats:
        models["aretomo"] = aretomo_model(series, points)
    if "warp" in formats:
        models["warp"] = warp_model(series, points)
    return models


def export_table(tomograms: Mapping[str, ExportedTomogram]) -> Table:
    """Return the residuals, one row per tomogram."""
    formats = list(dict.fromkeys(key for t in tomograms.values() for key in t.residual_px))
    return Table(
        title="Exported tomograms (residual: largest error of a particle's projection by a file)",
        columns=("tomogram", "tilts", "particles", *[f"{ALIGNMENTS[key]}\n(px)" for key in formats]),
        rows=[
            (name, f"{t.tilts}", f"{t.particles}", *[f"{t.residual_px[key]:.3f}" for key in formats])
            for name, t in tomograms.items()
        ],
    )


def _warp_stems(names: Sequence[str]) -> dict[str, str]:
    """Return the file names that Warp looks for: those of its tilt series, without the tomograms' suffix."""
    bare = [name.removesuffix(SUFFIX) or name for name in names]
    if len(set(bare)) < len(bare):
        bare = list(names)
    stems = unique_file_names(bare)
    return {name: stems[short] for name, short in zip(names, bare, strict=True)}


def _write_alignments(
    out: Path, stem: str, warp_stem: str, series: TiltSeries, models: Mapping[str, TiltModel]
) -> None:
    if "imod" in models:
        write_imod(out / "imod", stem, models["imod"])
    if "aretomo" in models:
        write_aretomo(out / "aretomo", stem, models["aretomo"], raw_stack(series))
    if "warp" in models:
        write_warp(out / "warp", warp_stem, models["warp"])


def _write_shapes(
    out: Path, stem: str, series: TiltSeries, particles: Particles, settings: ExportSettings
) -> None:
    positions, motion = particles.positions_px, particles.trajectories_px
    pixel = series.pixel_size_angstrom
    voxel_px = (settings.voxel_angstrom or pixel) / pixel
    if "napari" in settings.formats:
        folder = out / "napari"
        write_points(folder / "points" / f"{stem}.csv", positions, voxel_px)
        write_script(folder / "open.py")
        if motion is not None:
            lines = trails(positions, motion, series.pre_exposure, settings.magnification)
            write_tracks(folder / "tracks" / f"{stem}.csv", lines, voxel_px)
    if "copick" in settings.formats:
        path = out / "copick" / picks_path(stem)
        write_picks(path, stem, positions * pixel, particles.rotations, voxel_px * pixel)
    if "portal" in settings.formats:
        write_annotation(out / "portal" / f"{stem}.ndjson", positions / voxel_px, particles.rotations)
    if "chimerax" in settings.formats:
        _write_markers(out / "chimerax", stem, series, particles, settings)


def _write_markers(
    folder: Path, stem: str, series: TiltSeries, particles: Particles, settings: ExportSettings
) -> None:
    motion, pixel = particles.trajectories_px, series.pixel_size_angstrom
    positions, longest = particles.positions_px * pixel, max(series.tomogram_size_px) * pixel
    halves = [int(half) for half in particles.half_set]
    write_markers(
        folder / "particles" / f"{stem}.cmm", series.name, particles.names, positions, halves, longest
    )
    if motion is not None:
        lines = trails(positions, motion * pixel, series.pre_exposure, settings.magnification)
        write_marker_tracks(folder / "motion" / f"{stem}.cmm", series.name, lines, longest)
    picks = Path("../copick") / picks_path(stem) if "copick" in settings.formats else None
    write_scene(folder, stem, motion=motion is not None, picks=picks)


def _measured(series: TiltSeries, particles: Particles, models: Mapping[str, TiltModel]) -> ExportedTomogram:
    """Return the residuals of the formats, and what they cannot contain."""
    motion, deformation = _left_out_px(series, particles)
    return ExportedTomogram(
        tilts=len(series),
        particles=len(particles),
        residual_px={
            key: _largest(model.residual_px(series.projections_px, particles.positions_px))
            for key, model in models.items()
        },
        motion_px=motion,
        deformation_px=deformation,
        sections_without_tilt=_sections_without_tilt(series, models),
    )


def _sections_without_tilt(series: TiltSeries, models: Mapping[str, TiltModel]) -> tuple[int, ...]:
    if "aretomo" not in models:
        return ()
    stack = raw_stack(series)
    ordered = stack.tilts_are_ordered(models["aretomo"].tilt_degrees[stack.rows])
    return () if ordered else tuple(stack.left_out.tolist())


def _left_out_px(series: TiltSeries, particles: Particles) -> tuple[float, float]:
    """Return the largest displacements in the images by motion and by the deformation, px."""
    seen = project(series.projections_px, particles.positions_px)[..., :2]
    motion = 0.0
    if particles.trajectories_px is not None:
        moved = np.einsum("fij,pfj->fpi", series.projections_px[:, :2, :3], particles.trajectories_px)
        motion = _largest(np.hypot(moved[..., 0], moved[..., 1]))
    if series.deformation is None:
        return motion, 0.0
    warp, known = deformation_from(series.deformation, series.image_size_px)
    bent = warp.displacement_px(seen, known)
    return motion, _largest(np.hypot(bent[..., 0], bent[..., 1]))


def _warnings(name: str, exported: ExportedTomogram, pixel: float) -> list[str]:
    sentences = []
    notable = {key: px for key, px in exported.residual_px.items() if px > NOTABLE_PX}
    if notable:
        listing = " and ".join(ALIGNMENTS[key] for key in notable)
        sentences.append(
            f"{name}: the files for {listing} cannot describe the projections exactly, for they have no tilt "
            f"about x; the error is up to {max(notable.values()):.2f} px for a particle. It matters to those "
            f"who continue there to better than about {NOTICED_FROM * max(notable.values()) * pixel:.0f} Å; "
            "IMOD's files are exact"
        )
    if exported.residual_px and exported.motion_px > 0:
        sentences.append(
            f"{name}: the particles' motion, up to {exported.motion_px:.2f} px, is not part of the exported "
            "alignments"
        )
    if exported.residual_px and exported.deformation_px > 0:
        sentences.append(
            f"{name}: the images' deformation, up to {exported.deformation_px:.2f} px at a particle, "
            "cannot be exported"
        )
    if exported.sections_without_tilt:
        listing = ", ".join(str(section) for section in exported.sections_without_tilt)
        sentences.append(
            f"{name}: sections {listing} (from 0) of its stack are not in the tilt series, and their tilt "
            "angles are unknown: correct the DarkFrame lines (index, section, tilt) before AreTomo reads them"
        )
    return sentences


def _largest(values: Float[Array, "..."]) -> float:
    return float(np.max(values, initial=0.0))
