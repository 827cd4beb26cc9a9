"""A small project whose files are replaced, one at a time, by what they must never make the readers do."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from tomopolish.dataset.check import check_project
from tomopolish.dataset.mrc import write_stack, write_volume
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.screening import screened
from tomopolish.dataset.species import Project
from tomopolish.dataset.star import read_star, write_star
from tomopolish.errors import InputError, TomopolishError

BOX, TILTS = 24, 3
STARS = (
    "optimisation_set.star",
    "tomograms.star",
    "tilt_series/TS_01.star",
    "particles.star",
    "motion.star",
    "fsc.star",
    "optimisation_set_r4.star",
    "tomograms_r4.star",
    "particles_r4.star",
)
IMAGES = ("stack.mrcs", "half1.mrc", "mask.mrc")


def _table(name: str, labels: str, *rows: str) -> str:
    heading = "".join(f"_rln{label} #{i}\n" for i, label in enumerate(labels.split(), start=1))
    return f"\n# version 50001\n\ndata_{name}\n\nloop_\n{heading}" + "".join(f"{row}\n" for row in rows)


_OPTICS = _table(
    "optics",
    "OpticsGroup OpticsGroupName Voltage SphericalAberration AmplitudeContrast TomoTiltSeriesPixelSize "
    "OddZernike EvenZernike",
    "1 all 300.0 2.7 0.1 4.0 [0.4,-0.3] [0.05,0.6,-0.4]",
)
_MICROSCOPE = "Voltage SphericalAberration AmplitudeContrast TomoTiltSeriesPixelSize TomoHand"
_SIZES = "TomoSizeX TomoSizeY TomoSizeZ"
_OF_TILT = "DefocusU DefocusV DefocusAngle MicrographPreExposure"
_ANGLES = "AngleRot AngleTilt AnglePsi RandomSubset OpticsGroup"
_NAMES = ("TS_01/1", "TS_01/2", "TS_01/3")


def _optimisation_set(suffix: str, trajectories: str) -> str:
    return (
        f"\n# version 50001\n\ndata_\n\n_rlnTomoTomogramsFile tomograms{suffix}.star\n"
        f"_rlnTomoParticlesFile particles{suffix}.star\n{trajectories}"
        "_rlnTomoReferenceMap1File half1.mrc\n_rlnTomoReferenceMap2File half2.mrc\n"
        "_rlnTomoReferenceMaskFile mask.mrc\n_rlnTomoReferenceFscFile fsc.star\n"
    )


def _texts() -> dict[str, str]:
    """All STAR files of the project."""
    angles = [f"{10.0 * i} {20.0 * i} 30.5 {1 + i % 2} 1" for i in range(3)]
    shifts = "".join(f"0.5 {0.25 * t} -{t}.0\n" for t in range(TILTS))
    offsets = "_rlnOriginXAngst #1\n_rlnOriginYAngst #2\n_rlnOriginZAngst #3\n"
    return {
        "optimisation_set.star": _optimisation_set("", "_rlnTomoTrajectoriesFile motion.star\n"),
        "optimisation_set_r4.star": _optimisation_set("_r4", ""),
        "tomograms.star": _table(
            "global",
            f"TomoName TomoTiltSeriesStarFile {_SIZES} {_MICROSCOPE}",
            "TS_01 tilt_series/TS_01.star 64 60 40 300.0 2.7 0.1 4.0 -1",
        ),
        "tilt_series/TS_01.star": _table(
            "TS_01",
            f"TomoXTilt TomoYTilt TomoZRot TomoXShiftAngst TomoYShiftAngst {_OF_TILT} MicrographName",
            *[
                f"0.0 {20 * t - 20}.0 85.0 {t}.5 -1.0 30000.0 29000.0 40.0 {3 * t}.0 {t + 1:06d}@stack.mrcs"
                for t in range(TILTS)
            ],
        ),
        "tomograms_r4.star": _table(
            "global",
            f"TomoName TomoTiltSeriesName TomoFrameCount {_SIZES} {_MICROSCOPE}",
            f"TS_01 stack.mrcs {TILTS} 64 60 40 300.0 2.7 0.1 4.0 -1",
        )
        + _table(
            "TS_01",
            f"TomoProjX TomoProjY TomoProjZ TomoProjW {_OF_TILT}",
            *[
                f"[1,0,0,{t}.5] [0,1,0,0.25] [0,0,1,0] [0,0,0,1] 30000.0 29000.0 40.0 {3 * t}.0"
                for t in range(TILTS)
            ],
        ),
        "particles.star": _OPTICS
        + _table(
            "particles",
            "TomoName TomoParticleName CenteredCoordinateXAngst CenteredCoordinateYAngst "
            f"CenteredCoordinateZAngst {_ANGLES} OriginXAngst OriginYAngst OriginZAngst",
            *[f"TS_01 {n} {4.0 * i} -2.5 8.0 {angles[i]} 0.0 1.0 0.0" for i, n in enumerate(_NAMES)],
        ),
        "particles_r4.star": _OPTICS
        + _table(
            "particles",
            f"TomoName TomoParticleName CoordinateX CoordinateY CoordinateZ {_ANGLES}",
            *[f"TS_01 {n} {31.0 + i} 30.0 20.0 {angles[i]}" for i, n in enumerate(_NAMES)],
        ),
        "motion.star": "\n# version 50001\n\ndata_general\n\n_rlnParticleNumber 3\n"
        + "".join(f"\n# version 50001\n\ndata_{n}\n\nloop_\n{offsets}{shifts}" for n in _NAMES),
        "fsc.star": _table(
            "fsc",
            "SpectralIndex AngstromResolution FourierShellCorrelationCorrected",
            *[f"{i} {4.0 * BOX / max(i, 0.001):.6f} {1 / (1 + i):.6f}" for i in range(BOX // 2 + 1)],
        ),
    }


def write_sound_project(folder: Path) -> dict[str, bytes]:
    """Write the project; returns what its files hold."""
    rng = np.random.default_rng(5)
    (folder / "tilt_series").mkdir(parents=True)
    for name, text in _texts().items():
        (folder / name).write_text(text)
    images = rng.normal(size=(TILTS, 60, 64)).astype(np.float32)
    write_stack(folder / "stack.mrcs", images, count=TILTS, size_px=(64, 60), pixel_size_angstrom=4.0)
    for name in ("half1.mrc", "half2.mrc"):
        write_volume(folder / name, rng.normal(size=(BOX,) * 3).astype(np.float32), 4.0)
    write_volume(folder / "mask.mrc", np.ones((BOX,) * 3, dtype=np.float32), 4.0)
    return {name: (folder / name).read_bytes() for name in (*STARS, *IMAGES)}


class SoundProject:
    """The project on disk, in which one file at a time is another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.contents = write_sound_project(folder)

    def survive(self, name: str, content: bytes) -> str:
        """Use the whole project with one file replaced; returns how far that led.

        Raises whatever is not the clean error, also warnings that should not be seen.
        """
        path = self._folder / name
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                if name.endswith(".star"):
                    self._survive_copy(path)
                return self._furthest(name)
        finally:
            path.write_bytes(self.contents[name])

    def _furthest(self, name: str) -> str:
        reached = "refused when opened"
        start = "optimisation_set_r4.star" if "_r4" in name else "optimisation_set.star"
        try:
            dataset = open_dataset(self._folder / start, working_directory=self._folder)
            reached = "refused by the checks"
            check_project(Project.of(dataset, BOX))
            reached = "refused when read"
            for tomogram in dataset.tomogram_names:
                series, particles = dataset.load(tomogram)
                images = screened(series).images
                for tilt in np.flatnonzero(series.usable).tolist():
                    assert np.isfinite(images.read(tilt)).all()
                assert np.isfinite(series.projections_px).all()
                assert np.isfinite(particles.positions_px).all()
            assert np.isfinite(dataset.references().half_maps).all()
        except TomopolishError as problem:
            assert "\n" not in str(problem), str(problem)
            return reached
        return "accepted"

    def _survive_copy(self, path: Path) -> None:
        """The content of a STAR file is the same after it was written and read again."""
        try:
            read = read_star(path)
        except InputError as problem:
            assert "\n" not in str(problem), str(problem)
            return
        copy = self._folder / "copy.star"
        write_star(copy, read)  # all that can be read can be written
        again = read_star(copy)
        assert [t.name for t in again.tables] == [t.name for t in read.tables]
        for one, other in zip(again.tables, read.tables, strict=True):
            assert dict(one.columns) == dict(other.columns)
