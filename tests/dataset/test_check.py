"""Malformed input that a user can produce: refused before any work, in one sentence with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from star_edits import (
    constant_map,
    constant_stack,
    copy_row,
    drop_column,
    drop_table,
    edit,
    keep_rows,
    noise_map,
    rename_table,
    set_cell,
    set_column,
)
from tomopolish.dataset.check import check_project
from tomopolish.dataset.mrc import read_header, write_stack
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.species import Project
from tomopolish.errors import InputError

PARTICLES, TOMOGRAMS, SERIES = "particles.star", "tomograms.star", "tilt_series/TS_01.star"
STACK = "tilt_series/TS_01.mrcs"
EXPOSURE = "rlnMicrographPreExposure"
MOTION = "relion/motion/motion.star"


def replace_text(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new, 1))


def one_constant_tilt() -> None:
    file = read_header(Path(STACK))
    images = [image * (i != 4) for i, image in enumerate(file.read_volume())]
    write_stack(Path(STACK), images, count=11, size_px=(192, 192), pixel_size_angstrom=4.0)


def one_nan_voxel() -> None:
    raw = bytearray(Path("ref_half1.mrc").read_bytes())
    raw[2024:2028] = np.float32("nan").tobytes()
    Path("ref_half1.mrc").write_bytes(raw)


def unknown_optics_group() -> None:
    set_column(PARTICLES, "optics", "rlnOddZernike", "[0.5,0,0,0]")
    set_cell(PARTICLES, "particles", "rlnOpticsGroup", 1, "2")


def shear_matrices() -> None:
    set_cell("tomograms_r4.star", "TS_01", "rlnTomoProjX", 2, "[2,0,0,100]")


def two_sizes() -> None:
    """Name a micrograph per tilt, one of another size."""
    drop_column(TOMOGRAMS, "global", "rlnTomoTiltSeriesName")
    set_cell(SERIES, "TS_01", "rlnMicrographName", 0, f"000001@{STACK}")
    constant_stack("other.mrc", (1, 180, 192))
    set_cell(SERIES, "TS_01", "rlnMicrographName", 6, "other.mrc")


def micrograph_with_frames() -> None:
    drop_column(TOMOGRAMS, "global", "rlnTomoTiltSeriesName")
    set_cell(SERIES, "TS_01", "rlnMicrographName", 0, STACK)


def missing_micrograph() -> None:
    drop_column(TOMOGRAMS, "global", "rlnTomoTiltSeriesName")
    set_cell(SERIES, "TS_01", "rlnMicrographName", 0, f"000001@{STACK}")
    set_cell(SERIES, "TS_01", "rlnMicrographName", 3, "gone.mrc")


def short_trajectory() -> None:
    keep_rows(MOTION, "TS_01/4", slice(0, 5))


def deformation_columns(model: str, cell: str, grid: str = "3") -> None:
    for label, value in [("SizeX", grid), ("SizeY", "3")]:
        set_column(TOMOGRAMS, "global", f"rlnTomoDeformationGrid{label}", value)
    set_column(TOMOGRAMS, "global", "rlnTomoDeformationType", model)
    set_column(SERIES, "TS_01", "rlnTomoDeformationCoefficients", cell)


@dataclass(frozen=True)
class Case:
    """Damage to the project, and parts that the message must have."""

    change: Callable[[], object]
    says: tuple[str, ...]
    box: int = 48
    start: str = "optimisation_set.star"
    components: dict[str, str] = field(default_factory=dict)


def nothing() -> None:
    """The project is sound, the options are not."""


CASES = {
    # files
    "no optimisation set": Case(nothing, ("gone.star", "file not found", "correct"), start="gone.star"),
    "a folder as optimisation set": Case(nothing, ("tilt_series", "folder"), start="tilt_series"),
    "another kind of file": Case(
        nothing,
        ("--i fsc.star", "Post-processing", "not an optimisation set", "give it with --fsc"),
        start="fsc.star",
    ),
    "a map as optimisation set": Case(
        nothing, ("--i mask.mrc", "MRC file", "not an optimisation set", "give"), start="mask.mrc"
    ),
    "two data sets in one": Case(
        lambda: Path("optimisation_set.star").write_text(
            "data_\nloop_\n_rlnTomoTomogramsFile\n_rlnTomoParticlesFile\na b\nc d\n"
        ),
        ("optimisation_set.star", "this has 2", "keep"),
    ),
    "no tomogram set named": Case(
        lambda: drop_column("optimisation_set.star", "", "rlnTomoTomogramsFile"),
        ("optimisation_set.star", "rlnTomoTomogramsFile is missing", "--t"),
    ),
    "no half map named": Case(
        lambda: drop_column("optimisation_set.star", "", "rlnTomoReferenceMap2File"),
        ("optimisation_set.star", "rlnTomoReferenceMap2File is missing", "--ref2"),
    ),
    "missing tomogram set": Case(Path(TOMOGRAMS).unlink, (TOMOGRAMS, "file not found", "correct")),
    "missing particle set": Case(Path(PARTICLES).unlink, (PARTICLES, "file not found", "correct")),
    "missing tilt series file": Case(
        Path(SERIES).unlink, (TOMOGRAMS, "row 1", "rlnTomoTiltSeriesStarFile", SERIES, "file not found")
    ),
    "missing stack": Case(
        Path(STACK).unlink, (TOMOGRAMS, "row 1", "rlnTomoTiltSeriesName", "TS_01.mrcs", "file not found")
    ),
    "missing half map": Case(
        Path("ref_half1.mrc").unlink, ("rlnTomoReferenceMap1File", "ref_half1.mrc", "correct")
    ),
    "missing mask": Case(Path("mask.mrc").unlink, ("mask", "mask.mrc", "file not found")),
    "missing FSC": Case(Path("fsc.star").unlink, ("fsc.star", "file not found")),
    "missing trajectories": Case(
        nothing, ("gone.star", "file not found"), components={"trajectories": "gone.star"}
    ),
    # tables, columns and cells
    "no table particles": Case(
        lambda: drop_table(PARTICLES, "particles"), (PARTICLES, "data_particles", "right file")
    ),
    "no table global": Case(
        lambda: rename_table(TOMOGRAMS, "global", ""),
        (TOMOGRAMS, "no table 'data_global'", "one without a name", "rename 'data_' to 'data_global'"),
    ),
    "nothing in a file": Case(
        lambda: drop_table(TOMOGRAMS, "global"), (TOMOGRAMS, "an empty file, not a tomogram set", "give")
    ),
    "no table for the tomogram": Case(
        lambda: rename_table("tomograms_r4.star", "TS_01", "TS_1"),
        ("tomograms_r4.star", "data_TS_01", "'data_TS_1'"),
        start="optimisation_set_r4.star",
    ),
    "no table fsc": Case(
        lambda: Path("fsc.star").write_text("data_general\n_rlnFinalResolution 8\n"), ("fsc.star", "data_fsc")
    ),
    "no particle": Case(
        lambda: keep_rows(PARTICLES, "particles", slice(0, 0)), (PARTICLES, "no particle in this set")
    ),
    "no tomogram": Case(
        lambda: keep_rows(TOMOGRAMS, "global", slice(0, 0)), (TOMOGRAMS, "no tomogram in this set")
    ),
    "no half sets": Case(
        lambda: drop_column(PARTICLES, "particles", "rlnRandomSubset"),
        (PARTICLES, "rlnRandomSubset is missing", "refinement"),
    ),
    "half set 3": Case(
        lambda: set_cell(PARTICLES, "particles", "rlnRandomSubset", 2, "3"),
        (PARTICLES, "table particles", "row 3", "rlnRandomSubset is 3", "1 or 2"),
    ),
    "half set in words": Case(
        lambda: set_cell(PARTICLES, "particles", "rlnRandomSubset", 1, "first"),
        (PARTICLES, "row 2", "rlnRandomSubset is 'first'", "correct"),
    ),
    "no positions": Case(
        lambda: drop_column(PARTICLES, "particles", "rlnCenteredCoordinateYAngst"),
        (PARTICLES, "rlnCenteredCoordinateYAngst is missing", "add"),
    ),
    "no positions along x": Case(
        lambda: drop_column(PARTICLES, "particles", "rlnCenteredCoordinateXAngst"),
        (PARTICLES, "rlnCenteredCoordinateXAngst is missing", "add"),
    ),
    "a position that is no number": Case(
        lambda: set_cell(PARTICLES, "particles", "rlnCenteredCoordinateZAngst", 3, "12,5"),
        (PARTICLES, "row 4", "rlnCenteredCoordinateZAngst is '12,5'", "not a number"),
    ),
    "NaN position": Case(
        lambda: set_cell(PARTICLES, "particles", "rlnCenteredCoordinateXAngst", 5, "nan"),
        (PARTICLES, "row 6", "rlnCenteredCoordinateXAngst is 'nan'", "finite"),
    ),
    "infinite angle": Case(
        lambda: set_cell(PARTICLES, "particles", "rlnAngleTilt", 0, "inf"),
        (PARTICLES, "row 1", "rlnAngleTilt is 'inf'", "finite"),
    ),
    "unknown optics group": Case(
        unknown_optics_group,
        (PARTICLES, "row 2", "rlnOpticsGroup is 2", "add the group"),
    ),
    "row with too few values": Case(
        lambda: replace_text(PARTICLES, "TS_01 TS_01/3 ", "TS_01/3 "),
        (PARTICLES, "table particles, row 3", "12 values for 13 labels", "complete"),
    ),
    "aberrations that are no vector": Case(
        lambda: set_column(PARTICLES, "optics", "rlnEvenZernike", "0.1,0.2"),
        (PARTICLES, "optics", "rlnEvenZernike is '0.1,0.2'", "[a,b,c]"),
    ),
    "tomogram listed twice": Case(
        lambda: copy_row(TOMOGRAMS, "global", 0), (TOMOGRAMS, "row 2", "'TS_01' is listed twice", "remove")
    ),
    "no particle in any tomogram": Case(
        lambda: set_column(PARTICLES, "particles", "rlnTomoName", "TS_1"),
        (PARTICLES, "'TS_1'", TOMOGRAMS, "rlnTomoName the same"),
    ),
    "no dose": Case(
        lambda: drop_column(SERIES, "TS_01", EXPOSURE),
        (SERIES, "rlnMicrographPreExposure is missing"),
    ),
    "no defocus": Case(
        lambda: drop_column(SERIES, "TS_01", "rlnDefocusV"), (SERIES, "rlnDefocusV is missing", "add")
    ),
    "not aligned": Case(
        lambda: drop_column(SERIES, "TS_01", "rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot"),
        (SERIES, "neither angles", "align"),
    ),
    "no shifts": Case(
        lambda: drop_column(SERIES, "TS_01", "rlnTomoYShiftAngst"), (SERIES, "rlnTomoYShiftAngst is missing")
    ),
    "hand 0": Case(
        lambda: set_cell(TOMOGRAMS, "global", "rlnTomoHand", 0, "0"),
        (TOMOGRAMS, "row 1", "rlnTomoHand is 0", "1 or -1"),
    ),
    "tomogram of no depth, from whose corner positions count": Case(
        lambda: set_cell("tomograms_r4.star", "global", "rlnTomoSizeZ", 0, "0"),
        ("particles_r4.star", "rlnCoordinateZ count from the corner of tomogram TS_01", "rlnTomoSizeZ"),
        start="optimisation_set_r4.star",
    ),
    "tomogram of half a pixel": Case(
        lambda: set_cell(TOMOGRAMS, "global", "rlnTomoSizeX", 0, "191.5"),
        (TOMOGRAMS, "row 1", "rlnTomoSizeX is 191.5", "whole"),
    ),
    "voltage in volts": Case(
        lambda: set_cell(TOMOGRAMS, "global", "rlnVoltage", 0, "300000"),
        (TOMOGRAMS, "row 1", "rlnVoltage is 300000", "kV"),
    ),
    "amplitude contrast in per cent": Case(
        lambda: set_cell(TOMOGRAMS, "global", "rlnAmplitudeContrast", 0, "10"),
        (TOMOGRAMS, "row 1", "rlnAmplitudeContrast is 10", "between 0 and 1"),
    ),
    "one row": Case(
        lambda: keep_rows(SERIES, "TS_01", slice(0, 1)),
        (TOMOGRAMS, "1 row,", "11 sections", "--exclude_tilts"),
    ),
    "no tilt": Case(lambda: keep_rows(SERIES, "TS_01", slice(0, 0)), (SERIES, "no tilt image", "remove")),
    "unknown kind of warp": Case(
        lambda: deformation_columns("thin_plate", "[1,2,3]"),
        (TOMOGRAMS, "row 1", "rlnTomoDeformationType is 'thin_plate'", "linear, spline or Fourier"),
    ),
    "warp of the wrong length": Case(
        lambda: deformation_columns("linear", "[1,2]"),
        (SERIES, "row 1", "rlnTomoDeformationCoefficients", "3 numbers"),
    ),
    "warp without grid": Case(
        lambda: deformation_columns("spline", "[1,2]", grid="0"),
        (TOMOGRAMS, "row 1", "rlnTomoDeformationGridSizeX is 0", "positive"),
    ),
    # parts that do not fit each other
    "more rows than sections": Case(
        lambda: copy_row(SERIES, "TS_01", 10), ("12 rows", "TS_01.mrcs", "11 sections", "give the stack")
    ),
    "fewer rows than sections": Case(
        lambda: keep_rows(SERIES, "TS_01", slice(0, 9)), ("9 rows", "TS_01.mrcs", "11 sections")
    ),
    "placeholder stack of one pixel": Case(
        lambda: constant_stack(STACK, (1, 1, 1)), (TOMOGRAMS, "1 section of 1 x 1 px", "placeholder")
    ),
    "placeholder stack of tiny images": Case(
        lambda: constant_stack(STACK, (11, 8, 8)), (TOMOGRAMS, "row 1", "8 x 8 px", "placeholders", "real")
    ),
    "constant images": Case(
        lambda: constant_stack(STACK, (11, 192, 192), 3.5),
        (TOMOGRAMS, "row 1", "image is constant", "placeholders", "real"),
    ),
    "unsummed movies": Case(micrograph_with_frames, (SERIES, "row 1", "11 sections", "motion-corrected")),
    "no images named": Case(
        lambda: drop_column(TOMOGRAMS, "global", "rlnTomoTiltSeriesName"),
        (TOMOGRAMS, "row 1", "rlnTomoTiltSeriesName", "rlnMicrographName"),
    ),
    "stack that is no MRC file": Case(
        lambda: Path(STACK).write_text("dear user, " * 1000), ("TS_01.mrcs", "not an MRC file", "give an MRC")
    ),
    "no particle visible": Case(
        lambda: set_column(PARTICLES, "particles", "rlnCenteredCoordinateXAngst", "4000"),
        (PARTICLES, "no particle is at least half a box", "24 px", "check positions"),
    ),
    "trajectory missing": Case(
        lambda: rename_table(MOTION, "TS_01/3", "TS_01/33"),
        (MOTION, "'TS_01/3'", "no trajectory"),
        components={"trajectories": MOTION},
    ),
    "trajectory of the wrong length": Case(
        short_trajectory,
        (MOTION, "table TS_01/4", "5 rows", "11 tilt images"),
        components={"trajectories": MOTION},
    ),
    "trajectory with NaN": Case(
        lambda: set_cell(MOTION, "TS_01/1", "rlnOriginYAngst", 7, "nan"),
        (MOTION, "table TS_01/1, row 8", "rlnOriginYAngst is 'nan'"),
        components={"trajectories": MOTION},
    ),
    "no trajectory at all": Case(
        nothing, ("empty.star", "no trajectory in this file"), components={"trajectories": "empty.star"}
    ),
    # references and options
    "half maps of two sizes": Case(
        lambda: noise_map("ref_half2.mrc", (40, 40, 40)), ("ref_half2.mrc", "40^3", "48^3", "one size")
    ),
    "mask of another size": Case(lambda: noise_map("mask.mrc", (50, 50, 50)), ("mask.mrc", "50^3", "48^3")),
    "map not cubic": Case(
        lambda: noise_map("ref_half1.mrc", (48, 48, 40)), ("ref_half1.mrc", "40 x 48 x 48", "cubic")
    ),
    "map of odd size": Case(
        lambda: noise_map("ref_half1.mrc", (47, 47, 47)), ("ref_half1.mrc", "47^3", "even")
    ),
    "half map of another pixel size": Case(
        lambda: noise_map("ref_half2.mrc", (48, 48, 48), 8.0),
        ("ref_half2.mrc", "8.0000", "4.0000", "unbinned"),
    ),
    "mask of another pixel size": Case(
        lambda: noise_map("mask.mrc", (48, 48, 48), 2.0), ("mask.mrc", "2.0000", "4.0000")
    ),
    "uncorrected FSC": Case(
        lambda: drop_column("fsc.star", "fsc", "rlnFourierShellCorrelationCorrected"),
        ("fsc.star", "rlnFourierShellCorrelationCorrected is missing", "postprocess.star"),
    ),
    "FSC beyond 1": Case(
        lambda: set_cell("fsc.star", "fsc", "rlnFourierShellCorrelationCorrected", 3, "1.5"),
        ("fsc.star", "row 4", "is 1.5", "between -1 and 1"),
    ),
    "FSC with a shell left out": Case(
        lambda: set_cell("fsc.star", "fsc", "rlnSpectralIndex", 3, "4"), ("fsc.star", "row 5", "every shell")
    ),
    "FSC of two shells": Case(
        lambda: keep_rows("fsc.star", "fsc", slice(0, 2)), ("fsc.star", "2 shells", "postprocess.star")
    ),
    "empty mask": Case(
        lambda: constant_map("mask.mrc", 48, 0.0), ("mask.mrc", "from 0 to 0", "not be empty")
    ),
    "a map as mask": Case(lambda: noise_map("mask.mrc", (48, 48, 48)), ("mask.mrc", "between 0 and 1")),
    "constant half map": Case(
        lambda: constant_map("ref_half2.mrc", 48, 1.0), ("ref_half2.mrc", "constant", "refinement")
    ),
    "half map with NaN": Case(
        one_nan_voxel,
        ("ref_half1.mrc", "not finite", "make it again"),
    ),
    "box smaller than the map": Case(nothing, ("--b 40", "ref_half1.mrc", "48 px", "crop"), box=40),
    "box larger than the image": Case(nothing, ("--b 200", "192 x 192 px", "reduce"), box=200),
}


VERBS = {
    "add",
    "align",
    "assign",
    "check",
    "complete",
    "convert",
    "copy",
    "correct",
    "crop",
    "export",
    "give",
}
VERBS |= {"import", "keep", "make", "name", "put", "reduce", "remove", "rename", "rewrite", "run", "split"}
VERBS |= {"start", "supply", "unpack"}


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 45


def checked(case: Case) -> list[str]:
    Path("empty.star").write_text("data_general\n_rlnParticleNumber 0\n")
    components = {name: Path(path) for name, path in case.components.items()}
    return check_project(Project.of(open_dataset(Path(case.start), **components), case.box))


@pytest.mark.parametrize("name", CASES)
def test_malformed_input_is_refused_in_one_sentence(project: Path, name: str) -> None:
    case = CASES[name]
    case.change()
    with pytest.raises(InputError) as caught:
        checked(case)
    sentence = str(caught.value)
    for part in case.says:
        assert part in sentence, sentence
    assert "\n" not in sentence and len(sentence) < 450, sentence
    remedy = sentence.rpartition("; ")[2]
    assert remedy.split()[0] in VERBS and len(remedy.split()) > 1, sentence


@pytest.mark.parametrize("start", ["optimisation_set.star", "optimisation_set_r4.star"])
def test_sound_projects_pass_without_a_word(project: Path, start: str) -> None:
    assert checked(Case(nothing, (), start=start)) == []
    assert checked(Case(nothing, (), start=start, components={"trajectories": MOTION})) == []


def test_the_larger_project_passes(in_golden: Path) -> None:
    for start in ("optimisation_set.star", "optimisation_set_r4.star"):
        done = []
        dataset = open_dataset(Path(start))
        assert check_project(Project.of(dataset, 96), lambda i, n, done=done: done.append((i, n))) == []
        assert done == [(1, 2), (2, 2)]


def with_second_tomogram() -> None:
    """Another tomogram over the same images, with one particle far outside."""
    copy_row(TOMOGRAMS, "global", 0, rlnTomoName="TS_02")
    copy_row(
        PARTICLES,
        "particles",
        0,
        rlnTomoName="TS_02",
        rlnTomoParticleName="TS_02/1",
        rlnCenteredCoordinateXAngst="5000",
        rlnCenteredCoordinateYAngst="5000",
    )


def shifted_trajectory() -> None:
    edit(MOTION, "TS_01/2", lambda t: t.with_columns({"rlnOriginXAngst": ["8.0"] * 11}))


WARNINGS = {
    "particles of an unknown tomogram": Case(
        lambda: set_cell(PARTICLES, "particles", "rlnTomoName", 0, "TS_77"),
        ("1 of 6 particles belong to tomograms that tomograms.star does not list ('TS_77')",),
    ),
    "a tomogram without visible particles": Case(
        with_second_tomogram, ("1 of 1 particles are outside tomogram TS_02", "TS_02: no particle is")
    ),
    "a tomogram without particles": Case(
        lambda: copy_row(TOMOGRAMS, "global", 0, rlnTomoName="TS_02"), ("tomograms without particles: 1",)
    ),
    "one half set": Case(
        lambda: set_column(PARTICLES, "particles", "rlnRandomSubset", "2"),
        ("all particles are in half set 2",),
    ),
    "no orientations": Case(
        lambda: drop_column(PARTICLES, "particles", "rlnAngleRot"), ("rlnAngleRot missing, assumed to be 0",)
    ),
    "equal half maps": Case(
        lambda: Path("ref_half2.mrc").write_bytes(Path("ref_half1.mrc").read_bytes()),
        ("half maps are identical",),
    ),
    "an FSC without signal": Case(
        lambda: set_cell("fsc.star", "fsc", "rlnFourierShellCorrelationCorrected", 1, "0.01"),
        ("FSC is below 0.143",),
    ),
    "a constant image": Case(
        one_constant_tilt, ("tilt image 5 of TS_01 is left out: the image is constant",)
    ),
    "a missing image": Case(
        missing_micrograph, ("tilt image 4 of TS_01 is left out: gone.mrc: file not found (looked for in ",)
    ),
    "an image of another size": Case(
        two_sizes, ("other.mrc has 192 x 180 px, but the other images 192 x 192",)
    ),
    "a stack that is cut off": Case(
        lambda: Path(STACK).write_bytes(Path(STACK).read_bytes()[:-1000]),
        ("tilt image 11 of TS_01 is left out: ",),
    ),
    "a negative exposure": Case(
        lambda: set_cell(SERIES, "TS_01", EXPOSURE, 2, "-3"),
        ("tilt image 3 of TS_01 is left out: rlnMicrographPreExposure is -3, but must lie between 0 and",),
    ),
    "a defocus that is no number": Case(
        lambda: set_cell(SERIES, "TS_01", "rlnDefocusU", 10, "2.5um"),
        ("tilt image 11 of TS_01 is left out: rlnDefocusU is '2.5um', which is not a finite number",),
    ),
    "a matrix of three numbers": Case(
        lambda: set_cell("tomograms_r4.star", "TS_01", "rlnTomoProjY", 5, "[0,1,0]"),
        ("tilt image 6 of TS_01 is left out: rlnTomoProjY is '[0,1,0]', which is not a vector of 4 numbers",),
        start="optimisation_set_r4.star",
    ),
    "a matrix that is no rotation": Case(
        shear_matrices,
        ("tilt image 3 of TS_01 is left out: rlnTomoProjX, Y, Z is not a rotation",),
        start="optimisation_set_r4.star",
    ),
    "all doses equal": Case(
        lambda: set_column(SERIES, "TS_01", EXPOSURE, "0"),
        ("all tilt images of TS_01 have the exposure 0 (rlnMicrographPreExposure)",),
    ),
    "an exposure that images share": Case(
        lambda: set_cell(SERIES, "TS_01", EXPOSURE, 4, "9.0"),
        ("tilt images 4, 5 of TS_01 share their exposure",),
    ),
    "exposures from last to first": Case(
        lambda: [set_cell(SERIES, "TS_01", EXPOSURE, i, str(60 - 6 * i)) for i in range(11)],
        ("the exposures of TS_01 (rlnMicrographPreExposure) decrease from row to row",),
    ),
    "an image exposed out of order": Case(
        lambda: set_cell(SERIES, "TS_01", EXPOSURE, 0, "1.0"),
        ("the exposures of TS_01 (rlnMicrographPreExposure) do not grow with the tilt angle",),
    ),
    "trajectories that begin elsewhere": Case(
        shifted_trajectory,
        ("TS_01 do not begin at zero, but up to 2 px from it",),
        components={"trajectories": MOTION},
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_is_odd_but_possible_is_a_warning(project: Path, name: str) -> None:
    case = WARNINGS[name]
    case.change()
    warnings = checked(case)
    assert len(warnings) == len(case.says), warnings
    for part, warning in zip(case.says, warnings, strict=True):
        assert part in warning


def test_tomograms_that_only_leaves_out_are_not_said_to_lack_particles(project: Path) -> None:
    with_second_tomogram()
    dataset = open_dataset(Path("optimisation_set.star")).restricted_to(["TS_01"])
    assert check_project(Project.of(dataset, 48)) == []


def test_visible_pairs_keep_half_a_box_from_the_border(project: Path) -> None:
    from tomopolish.dataset.check import count_visible
    from tomopolish.physics.geometry import project as project_points

    series, particles = open_dataset(Path("optimisation_set.star")).load("TS_01")
    q = project_points(series.projections_px, particles.positions_px)[..., :2]
    for box in (48, 100, 180):
        by_hand = sum(bool(np.all(x >= box / 2) and np.all(x <= 192 - box / 2)) for f in q for x in f)
        assert count_visible(series, particles, box) == by_hand
    assert 0 < count_visible(series, particles, 100) < 66
