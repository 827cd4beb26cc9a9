"""Values that are not used may be missing, and where a second source disagrees the first is used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from star_edits import copy_row, drop_column, drop_table, edit, set_cell, set_column
from tomopolish.dataset.check import check_project
from tomopolish.dataset.model import Alignment, Particles, TiltSeries
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.relion.tilt_series import STATED_TWICE
from tomopolish.dataset.relion.tomogram_size import SIZES, read_tomogram_size
from tomopolish.dataset.species import Project
from tomopolish.dataset.star import StarTable, format_floats
from tomopolish.errors import InputError
from tomopolish.physics.geometry import depth_px, project, relion5_parameters, rotation_x

PARTICLES, TOMOGRAMS, SERIES = "particles.star", "tomograms.star", "tilt_series/TS_01.star"
UNSET = ("?", "<NA>", "", "nan", "None", "null", "N/A", ".")


def opened(start: str = "optimisation_set.star") -> Dataset:
    return open_dataset(Path(start))


def warnings(start: str = "optimisation_set.star") -> list[str]:
    return check_project(Project.of(opened(start), 48))


def seen(series: TiltSeries, particles: Particles) -> np.ndarray:
    """Where all particles are seen, and how deep: all that a size could change of the computation."""
    image = project(series.projections_px, particles.positions_px)[..., :2]
    depth = depth_px(series.projections_px, particles.positions_px, series.tomogram_size_px)
    return np.concatenate([image, depth[..., None]], axis=-1)


def without_size() -> None:
    drop_column(TOMOGRAMS, "global", *SIZES)


def size_zero() -> None:
    for label in SIZES:
        set_column(TOMOGRAMS, "global", label, "0")


def depth_unset() -> None:
    set_column(TOMOGRAMS, "global", "rlnTomoSizeZ", "<NA>")


def negative_size() -> None:
    for label in SIZES:
        set_column(TOMOGRAMS, "global", label, "-1")


@pytest.mark.parametrize("change", [without_size, size_zero, depth_unset, negative_size])
def test_a_tomogram_needs_no_size_where_positions_count_from_its_centre(
    project: Path, change: Callable[[], None]
) -> None:
    """Input, refined result on disk and its reading agree with those of the same set with its size."""
    before = opened()
    expected = seen(*before.load("TS_01"))
    change()
    after = opened()
    np.testing.assert_allclose(seen(*after.load("TS_01")), expected, atol=1e-9)
    refined = [refined_on_disk(dataset, Path(f"out{i}")) for i, dataset in enumerate((before, after))]
    np.testing.assert_allclose(refined[1], refined[0], atol=1e-6)
    text = Path("out1/tomograms.star").read_text()
    assert "192 192 250" not in text and all(
        (label in text) == (label in Path(TOMOGRAMS).read_text()) for label in SIZES
    )
    (sentence,) = warnings()
    assert "rlnTomoSizeZ not set" in sentence and "192 x 192 x " in sentence


def refined_on_disk(dataset: Dataset, out: Path) -> np.ndarray:
    """Turn, move and write the same geometry, and read it again."""
    series, particles = dataset.load("TS_01")
    centre = np.append(np.asarray(series.tomogram_size_px) / 2, 1)
    turned = series.projections_px.copy()
    turned[:, :3, :3] = rotation_x(1.5) @ turned[:, :3, :3]
    turned[:, :3, 3] += ((series.projections_px - turned) @ centre)[:, :3]
    turned[:, :2, 3] += np.random.default_rng(3).normal(size=(len(series), 2))
    moved = particles.positions_px + np.random.default_rng(4).normal(size=particles.positions_px.shape)
    alignment = Alignment(tomogram="TS_01", projections_px=turned, rows=particles.rows, positions_px=moved)
    dataset.write(out, {"TS_01": alignment}, motion=False)
    return seen(*open_dataset(out / "optimisation_set.star").load("TS_01"))


def test_an_assumed_size_is_even_and_as_large_as_the_images() -> None:
    table = StarTable(name="global", columns={"rlnTomoName": ["T"], "rlnTomoSizeY": ["71"]})
    size = read_tomogram_size(table, 0, (301, 255))
    assert size.px == (300, 71, 254) and size.is_assumed == (True, False, True)


def both_descriptions(change: Callable[[np.ndarray], np.ndarray] = lambda angles: angles) -> None:
    """Give the tilt series matrices beside its angles, of which `change` makes others."""
    series, _ = opened().load("TS_01")
    rows = {
        f"rlnTomoProj{axis}": [
            "[" + ",".join(map(repr, row.tolist())) + "]" for row in series.projections_px[:, i]
        ]
        for i, axis in enumerate("XYZW")
    }
    angles, _ = relion5_parameters(series.projections_px, series.image_size_px, series.tomogram_size_px)
    changed = change(angles)
    labels = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
    rows |= {label: format_floats(changed[:, i]) for i, label in enumerate(labels)}
    edit(SERIES, "TS_01", lambda t: t.with_columns(rows))


def test_matrices_count_where_angles_disagree(project: Path) -> None:
    """As RELION takes them; the warning says how far apart particles are seen, found here by hand."""
    series, particles = opened().load("TS_01")
    expected = seen(series, particles)
    both_descriptions(lambda angles: angles + np.array([0, 0, 3.5]))
    found, _ = opened().load("TS_01")
    np.testing.assert_allclose(seen(found, particles), expected, atol=1e-9)
    (sentence,) = warnings()
    assert sentence.startswith("tomogram TS_01: rlnTomoProjX")
    # Turning the image by 3.5° about its centre moves a particle by a chord of its distance from there.
    shift = np.array(relion5_parameters(series.projections_px, (192, 192), (192, 192, 250))[1])
    distance = np.linalg.norm(expected[..., :2] - 96 - shift[:, None], axis=-1)
    assert f"up to {2 * np.sin(np.deg2rad(3.5) / 2) * distance.max():.3g} px" in sentence
    drop_column(SERIES, "TS_01", *sentence.partition("remove the columns ")[2].split(", "))
    assert warnings() == []
    by_angles = seen(opened().load("TS_01")[0], particles)
    assert np.abs(by_angles - expected).max() > 1


def test_matrices_and_angles_that_agree_are_both_kept_up_to_date(project: Path) -> None:
    both_descriptions()
    assert warnings() == []
    dataset = opened()
    result = refined_on_disk(dataset, Path("out"))
    assert check_project(Project.of(open_dataset(Path("out/optimisation_set.star")), 48)) == []
    drop_column("out/tilt_series/TS_01.star", "TS_01", *[f"rlnTomoProj{axis}" for axis in "XYZW"])
    by_angles = seen(*open_dataset(Path("out/optimisation_set.star")).load("TS_01"))
    np.testing.assert_allclose(by_angles, result, atol=1e-5)


def test_matrices_without_values_leave_the_angles_to_count(project: Path) -> None:
    expected = seen(*opened().load("TS_01"))
    for axis, cell in zip("XYZW", UNSET, strict=False):
        set_column(SERIES, "TS_01", f"rlnTomoProj{axis}", cell)
    np.testing.assert_allclose(seen(*opened().load("TS_01")), expected, atol=1e-9)
    assert warnings() == []


def test_wrong_matrices_beside_angles_are_refused_with_a_remedy_that_works(project: Path) -> None:
    expected = seen(*opened().load("TS_01"))
    both_descriptions()
    set_column(SERIES, "TS_01", "rlnTomoProjY", "[0.25,0,0,10]")
    with pytest.raises(
        InputError, match=r"row 1: .* is not a rotation.*remove the columns rlnTomoProjX"
    ) as caught:
        warnings()
    columns = str(caught.value).partition("remove the columns ")[2].partition(", so that")[0].split(", ")
    drop_column(SERIES, "TS_01", *columns)
    np.testing.assert_allclose(seen(*opened().load("TS_01")), expected, atol=1e-5)


def test_matrices_of_a_set_without_size_count_from_the_centre(project: Path) -> None:
    """RELION computes with a size of 0 then; matrices and positions both begin at the centre."""
    expected = seen(*opened().load("TS_01"))
    both_descriptions()
    shifted = []
    series, _ = opened().load("TS_01")
    for axis in range(4):
        rows = series.projections_px[:, axis].copy()
        rows[:, 3] += rows[:, :3] @ [96, 96, 125] * (axis < 3)
        shifted.append(["[" + ",".join(map(repr, row.tolist())) + "]" for row in rows])
    labels = [f"rlnTomoProj{axis}" for axis in "XYZW"]
    edit(SERIES, "TS_01", lambda t: t.with_columns(dict(zip(labels, shifted, strict=True))))
    drop_column(SERIES, "TS_01", "rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
    size_zero()
    dataset = opened()
    np.testing.assert_allclose(seen(*dataset.load("TS_01")), expected, atol=1e-9)
    refined_on_disk(dataset, Path("out"))
    again = open_dataset(Path("out/optimisation_set.star")).tomograms.series("TS_01")
    assert abs(float(again.value("rlnTomoProjX").strip("[]").split(",")[3]) - 96) < 30


# ---------------------------------------------------------------- cells without a value


@pytest.mark.parametrize("cell", UNSET)
def test_cells_without_a_value_stand_for_the_default(project: Path, cell: str) -> None:
    plain = opened().load("TS_01")
    labels = ("rlnPhaseShift", "rlnCtfBfactor", "rlnCtfScalefactor", "rlnCtfBfactorPerElectronDose")
    for label in (*labels, "rlnTomoXTilt", "rlnTomoDeformationCoefficients", "rlnCtfMaxResolution"):
        set_column(SERIES, "TS_01", label, cell)
    for label in ("rlnTomoDefocusSlope", "rlnTomoImportFractionalDose", "rlnTomoDeformationType"):
        set_column(TOMOGRAMS, "global", label, cell)
    for label in ("rlnOriginXAngst", "rlnTomoSubtomogramTilt", "rlnTomoManifoldIndex"):
        set_column(PARTICLES, "particles", label, cell)
    for label in ("rlnOddZernike", "rlnEvenZernike", "rlnOpticsGroupName"):
        set_column(PARTICLES, "optics", label, cell)
    set_column("optimisation_set.star", "", "rlnTomoTrajectoriesFile", cell)
    series, particles = opened().load("TS_01")
    np.testing.assert_array_equal(series.ctf.phase_shift_degrees, np.zeros(11))
    np.testing.assert_array_equal(series.ctf.scale, np.ones(11))
    assert series.deformation is None and series.fractional_dose is None and series.defocus_slope == 1
    np.testing.assert_allclose(seen(series, particles), seen(*plain))
    assert particles.optics_groups[0].odd_zernike == ()
    assert warnings() == []


def test_a_column_with_some_values_only_is_said_once(project: Path) -> None:
    cells = ["12", "?", "14", *["13"] * 8]
    edit(SERIES, "TS_01", lambda t: t.with_columns({"rlnCtfBfactor": cells}))
    series, _ = opened().load("TS_01")
    assert series.ctf.bfactor_angstrom2[:3].tolist() == [12, 0, 14]
    assert warnings() == ["tomogram TS_01: rlnCtfBfactor is not set in every row; 0 is assumed in the others"]


def test_cells_that_count_still_need_a_value(project: Path) -> None:
    set_cell(SERIES, "TS_01", "rlnTomoZRot", 6, "<NA>")
    reason = "rlnTomoZRot is '<NA>', which is not a finite number"
    assert warnings() == [f"tilt image 7 of TS_01 is left out: {reason}"]


def test_labels_and_tables_in_other_capitals_are_read_and_kept(project: Path) -> None:
    plain = opened().load("TS_01")
    text = Path(PARTICLES).read_text().replace("data_particles", "data_Particles")
    Path(PARTICLES).write_text(text.replace("rlnCenteredCoordinateXAngst", "rlnCenteredcoordinateXAngst"))
    Path(SERIES).write_text(Path(SERIES).read_text().replace("rlnTomoZRot", "rlnTomoZrot"))
    dataset = opened()
    np.testing.assert_allclose(seen(*dataset.load("TS_01")), seen(*plain))
    refined_on_disk(dataset, Path("out"))
    assert "rlnTomoZrot" in Path("out/tilt_series/TS_01.star").read_text()
    written = Path("out/particles.star").read_text()
    assert "rlnCenteredcoordinateXAngst" in written and "rlnCenteredCoordinateXAngst" not in written


# ---------------------------------------------------------------- particle optics


@pytest.mark.parametrize("missing", [*[(label,) for label in STATED_TWICE], STATED_TWICE])
def test_particle_optics_need_not_repeat_the_tomograms_values(
    project: Path, missing: tuple[str, ...]
) -> None:
    plain = opened().load("TS_01")[0]
    drop_column(PARTICLES, "optics", *missing)
    assert warnings() == []
    assert opened().load("TS_01")[0].microscope == plain.microscope


DISAGREEING = {
    "rlnTomoTiltSeriesPixelSize": ("4.13", "pixel size is 4,"),
    "rlnVoltage": ("200", "voltage is 300,"),
    "rlnSphericalAberration": ("0.01", "spherical aberration is 2.7,"),
    "rlnAmplitudeContrast": ("0.085", "amplitude contrast is 0.1,"),
}


@pytest.mark.parametrize("label", DISAGREEING)
def test_of_two_values_the_tomograms_counts(project: Path, label: str) -> None:
    plain = opened().load("TS_01")[0]
    cell, says = DISAGREEING[label]
    set_column(PARTICLES, "optics", label, cell)
    copy_row(TOMOGRAMS, "global", 0, rlnTomoName="TS_02", rlnTomoTiltSeriesStarFile=f"./{SERIES}")
    copy_row(PARTICLES, "particles", 1, rlnTomoName="TS_02", rlnTomoParticleName="TS_02/1")
    (sentence,) = warnings()  # one for both tomograms
    assert "tomograms TS_01, TS_02: the " + says + " which is used" in sentence
    assert f"{PARTICLES}, table optics, row 1, says {cell}" in sentence
    assert opened().load("TS_01")[0].microscope == plain.microscope


@pytest.mark.parametrize("label", STATED_TWICE)
def test_values_that_only_the_particles_state_count(project: Path, label: str) -> None:
    plain = opened().load("TS_01")[0]
    drop_column(TOMOGRAMS, "global", label)
    series = opened().load("TS_01")[0]
    assert series.microscope == plain.microscope and series.pixel_size_angstrom == 4
    (sentence,) = warnings()
    assert f"{label} not set in {TOMOGRAMS}" in sentence and "table optics is used" in sentence
    drop_column(PARTICLES, "optics", label)
    with pytest.raises(InputError, match=f"{TOMOGRAMS}, table global: the column {label} is missing"):
        warnings()


def test_particles_of_one_optics_group_need_not_name_it(project: Path) -> None:
    set_column(PARTICLES, "optics", "rlnOddZernike", "[0.1,0.2,0.3,0.4]")
    drop_column(PARTICLES, "particles", "rlnOpticsGroup")
    assert warnings() == []
    (group,) = opened().load("TS_01")[1].optics_groups
    assert group.odd_zernike == (0.1, 0.2, 0.3, 0.4)
    drop_column(PARTICLES, "optics", "rlnOpticsGroup")
    assert warnings() == []
    drop_table(PARTICLES, "optics")
    assert warnings() == []
    assert opened().load("TS_01")[1].optics_group.tolist() == [0] * 6


def test_groups_without_aberrations_need_not_be_named(project: Path) -> None:
    copy_row(PARTICLES, "optics", 0, rlnOpticsGroup="2")
    drop_column(PARTICLES, "particles", "rlnOpticsGroup")
    (sentence,) = warnings()
    assert "rlnOpticsGroup is missing" in sentence and "no group has aberrations" in sentence


def test_joined_sets_whose_groups_have_the_same_number(project: Path) -> None:
    """Equal groups are one; of different ones nobody can tell which a particle means."""
    set_column(PARTICLES, "optics", "rlnOddZernike", "[0.5,-2,0]")
    copy_row(PARTICLES, "optics", 0, rlnOpticsGroupName="second session", rlnOddZernike="[0.5,-2]")
    assert warnings() == []
    set_cell(PARTICLES, "optics", "rlnOddZernike", 1, "[0.5,2]")
    said = r"table optics, row 2: rlnOpticsGroup 1 is that of row 1, too, with other aberrations; give each"
    with pytest.raises(InputError, match=said):
        warnings()


def test_optics_groups_matter_where_one_has_aberrations(project: Path) -> None:
    copy_row(PARTICLES, "optics", 0, rlnOpticsGroup="2")
    set_cell(PARTICLES, "particles", "rlnOpticsGroup", 4, "7")
    (sentence,) = warnings()
    assert "row 5: rlnOpticsGroup is 7" in sentence and "no group has aberrations" in sentence
    set_column(PARTICLES, "optics", "rlnEvenZernike", "[0,0,0.1]")
    with pytest.raises(InputError, match="row 5: rlnOpticsGroup is 7"):
        warnings()
    drop_column(PARTICLES, "particles", "rlnOpticsGroup")
    with pytest.raises(InputError, match="rlnOpticsGroup is missing"):
        warnings()


def test_angles_and_origins_of_some_particles_only_are_said_once(project: Path) -> None:
    set_cell(PARTICLES, "particles", "rlnAnglePsi", 2, "<NA>")
    set_cell(PARTICLES, "particles", "rlnOriginYAngst", 0, "?")
    assert warnings() == [
        f"{PARTICLES}, table particles: {label} is not set in every row; 0 is assumed in the others"
        for label in ("rlnAnglePsi", "rlnOriginYAngst")
    ]
    set_column(PARTICLES, "particles", "rlnAnglePsi", "nan")
    assert any("rlnAnglePsi missing, assumed to be 0" in sentence for sentence in warnings())


def test_the_table_with_tilt_images_may_have_any_name_in_a_file_of_its_own(project: Path) -> None:
    expected = seen(*opened().load("TS_01"))
    text = Path(SERIES).read_text().replace("data_TS_01", "data_Position_4")
    Path(SERIES).write_text("data_general\n_rlnNote none\n\n" + text)
    dataset = opened()
    np.testing.assert_array_equal(seen(*dataset.load("TS_01")), expected)
    refined_on_disk(dataset, Path("out"))
    written = Path("out/tilt_series/TS_01.star").read_text()
    assert "data_Position_4" in written and "_rlnNote none" in written


# ---------------------------------------------------------------- pixel sizes of headers


def set_header(path: str, pixel_size: float) -> None:
    with mrcfile.open(path, "r+") as file:
        file.voxel_size = pixel_size


REFERENCES = {"mask.mrc": "mask", "ref_half1.mrc": "half map 1", "ref_half2.mrc": "half map 2"}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_header_may_leave_the_pixel_size_unset(project: Path, name: str) -> None:
    set_header(name, 0.0)
    assert warnings() == []
    set_header(name, 1.0)
    (sentence,) = warnings()
    assert sentence.startswith(f"{name}: the header's pixel size of 1 Å") and REFERENCES[name] in sentence
    set_header(name, 4.15)  # 3.75 %
    (sentence,) = warnings()
    assert sentence.startswith(f"{name}: the header says 4.1500 Å/px") and "4.0000, which is" in sentence


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("wrong", [4.3, 8.0, 0.4])
def test_another_pixel_size_is_refused_with_a_remedy_that_works(
    project: Path, name: str, wrong: float
) -> None:
    set_header(name, wrong)
    with pytest.raises(InputError) as caught:
        warnings()
    sentence = str(caught.value)
    assert sentence.startswith(f"{name}: the {REFERENCES[name]} has {wrong:.4f} Å/px")
    assert ("make the mask from these half maps" in sentence) == (name == "mask.mrc")
    set_header(name, float(sentence.partition("set its pixel size to ")[2].split()[0]))
    assert warnings() == []


def test_images_of_another_pixel_size(project: Path) -> None:
    stack = "tilt_series/TS_01.mrcs"
    for unset in (0.0, 1.0):
        set_header(stack, unset)
        assert warnings() == []
    set_header(stack, 3.9)
    assert warnings() == ["tomogram TS_01: the tilt images' header says 3.9 Å/px, the set 4, which is used"]
    set_header(stack, 8.0)
    with pytest.raises(
        InputError, match=r"have 8.0000 Å/px \(binned 2 times\), but the set says 4.0000.*give the images"
    ) as caught:
        warnings()
    set_header(stack, float(str(caught.value).partition("set its pixel size to ")[2].split()[0]))
    assert warnings() == []


@pytest.mark.parametrize(
    ("size", "says"), [("4.03", None), ("4.15", "pixel size is 4.15"), ("4.4", "split the set")]
)
def test_tomograms_of_other_pixel_sizes(project: Path, size: str, says: str | None) -> None:
    """Calibrations differ a little from one session to the next; one reference serves them all."""
    copy_row(TOMOGRAMS, "global", 0, rlnTomoName="TS_02", rlnTomoTiltSeriesPixelSize=size)
    copy_row(PARTICLES, "particles", 1, rlnTomoName="TS_02", rlnTomoParticleName="TS_02/1")
    set_header("tilt_series/TS_01.mrcs", 0.0)
    if size == "4.4":
        with pytest.raises(InputError, match=f"TS_02 has 4.4 Å/px.*{says}"):
            warnings()
        return
    found = [sentence for sentence in warnings() if "which is used" not in sentence]
    assert [says is not None and says in sentence for sentence in found] == [True] * (says is not None)


def test_a_linear_warp_needs_no_grid(project: Path) -> None:
    set_column(TOMOGRAMS, "global", "rlnTomoDeformationType", "Linear")
    set_column(TOMOGRAMS, "global", "rlnTomoDeformationGridSizeX", "?")
    set_column(SERIES, "TS_01", "rlnTomoDeformationCoefficients", "[0.001,0.002,0.003]")
    found = opened().load("TS_01")[0].deformation
    assert found is not None and found.model == "linear"
    np.testing.assert_array_equal(found.coefficients, [[0.001, 0.002, 0.003]] * 11)
    set_column(TOMOGRAMS, "global", "rlnTomoDeformationType", "spline")
    with pytest.raises(InputError, match="rlnTomoDeformationGridSizeX is"):
        opened().load("TS_01")
