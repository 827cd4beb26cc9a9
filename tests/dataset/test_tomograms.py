"""Tomogram sets: the geometry behind the text, in both dialects, and its way back."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from star_edits import drop_column, rename_table, set_cell, set_column
from tomopolish.dataset.model import Alignment, Deformation
from tomopolish.dataset.mrc import write_stack
from tomopolish.dataset.relion.tomogram_writer import TomogramSetWriter
from tomopolish.dataset.relion.tomograms import Dialect, TomogramSet, read_tomogram_set
from tomopolish.dataset.star import StarTable, read_star
from tomopolish.errors import InputError
from tomopolish.physics.geometry import rotation_from_vector

SETS = {Dialect.RELION_5: "tomograms.star", Dialect.RELION_4: "tomograms_r4.star"}
# Text precision: 6 decimals of Å and degrees, 8 of matrices; lever arms of a few hundred px.
PRECISION = {Dialect.RELION_5: 2e-6, Dialect.RELION_4: 2e-8}


def read(name: str) -> TomogramSet:
    return read_tomogram_set(Path(name), working_directory=Path.cwd())


def vectors(table: StarTable, label: str) -> np.ndarray:
    return np.array([table.vector(label, row) for row in range(len(table))])


def keep(tomograms: TomogramSet, name: str) -> Alignment:
    """An alignment that changes nothing."""
    return Alignment(
        tomogram=name,
        projections_px=tomograms.load(name).projections_px,
        rows=np.zeros(0, dtype=np.int64),
        positions_px=np.zeros((0, 3)),
    )


def turned(tomograms: TomogramSet, name: str) -> Alignment:
    """An alignment that turns (about RELION 5's fixed point) and shifts every tilt image a little."""
    rng = np.random.default_rng(3)
    old = keep(tomograms, name)
    matrices = old.projections_px.copy()
    tilts = len(matrices)
    centre = np.array(tomograms.load(name).tomogram_size_px) // 2
    before = matrices[:, :3, :3] @ centre
    matrices[:, :3, :3] = rotation_from_vector(rng.normal(scale=0.02, size=(tilts, 3))) @ matrices[:, :3, :3]
    matrices[:, :3, 3] += before - matrices[:, :3, :3] @ centre
    matrices[:, :2, 3] += rng.normal(scale=3, size=(tilts, 2))
    return replace(old, projections_px=matrices)


@pytest.mark.parametrize("dialect", SETS)
def test_projections_of_the_reference(project: Path, dialect: Dialect) -> None:
    tomograms = read(SETS[dialect])
    truth = json.loads(Path("truth.json").read_text())["TS_01"]
    assert tomograms.names == ("TS_01",) and tomograms.dialect is dialect
    series = tomograms.load("TS_01")
    np.testing.assert_allclose(series.projections_px, truth["Pi"], atol=PRECISION[dialect] * 100, rtol=0)
    np.testing.assert_allclose(series.pre_exposure, truth["dose"])
    assert series.image_size_px == (192, 192) and series.tomogram_size_px == (192, 192, 250)
    assert (series.pixel_size_angstrom, series.hand, series.defocus_slope) == (4.0, -1.0, 1.0)
    assert series.fractional_dose == 3.0 and series.frame_dose == 3.0
    assert series.microscope.voltage_kv == 300 and series.microscope.spherical_aberration_mm == 2.7
    assert series.ctf.defocus_u_angstrom[1] == 25323.713783
    assert series.ctf.defocus_v_angstrom[1] == 24847.366450
    assert not series.ctf.phase_shift_degrees.any() and not series.ctf.bfactor_angstrom2.any()
    assert series.deformation is None


def test_projections_of_the_larger_reference(in_golden: Path) -> None:
    truth = json.loads(Path("truth.json").read_text())
    for dialect, name in SETS.items():
        tomograms = read(name)
        assert tomograms.names == ("TS_01", "TS_02")
        for tomogram in tomograms.names:
            found = tomograms.load(tomogram).projections_px
            np.testing.assert_allclose(found, truth[tomogram]["Pi"], atol=PRECISION[dialect] * 100, rtol=0)


def test_optional_columns(project: Path) -> None:
    series = read("tomograms_variant.star").load("TS_01")
    assert series.hand == 1.0 and series.defocus_slope == 0.8
    np.testing.assert_allclose(series.ctf.scale, np.linspace(1.0, 0.8, 11))
    np.testing.assert_allclose(series.ctf.phase_shift_degrees, np.arange(10, 21))
    np.testing.assert_allclose(series.ctf.bfactor_angstrom2, np.arange(20, 71, 5))
    drop_column("tilt_series/TS_01.star", "TS_01", "rlnTomoXTilt", "rlnCtfScalefactor")
    set_column("tilt_series/TS_01.star", "TS_01", "rlnCtfBfactorPerElectronDose", "2.5")
    drop_column("tomograms.star", "global", "rlnTomoImportFractionalDose")
    series = read("tomograms.star").load("TS_01")
    assert (series.ctf.scale == 1).all() and (series.bfactor_per_dose == 2.5).all()
    assert series.fractional_dose is None and series.frame_dose == 3.0


@pytest.mark.parametrize("dialect", SETS)
def test_writing_back_unchanged_projections(project: Path, dialect: Dialect) -> None:
    tomograms = read(SETS[dialect])
    writer = TomogramSetWriter(tomograms, Path.cwd() / "out" / "job")
    writer.add(tomograms.load("TS_01"), keep(tomograms, "TS_01"))
    assert writer.finish() == Path.cwd() / "out/job/tomograms.star"
    again = read("out/job/tomograms.star")
    before, after = tomograms.general, again.general
    moved = {"rlnTomoTiltSeriesStarFile"}
    assert list(before.columns) == list(after.columns) and before.version == after.version
    assert all(
        before.columns[label] == after.columns[label] for label in before.columns if label not in moved
    )
    refined = {"rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot", "rlnTomoXShiftAngst", "rlnTomoYShiftAngst"}
    refined |= {f"rlnTomoProj{row}" for row in "XYZW"}
    old, new = tomograms.series("TS_01"), again.series("TS_01")
    assert list(old.columns) == list(new.columns) and old.version == new.version
    assert all(old.columns[label] == new.columns[label] for label in old.columns if label not in refined)
    # The refined cells say the same to the last digit; RELION 4's have 12 digits where the input had 8.
    for label in refined & set(old.columns):
        if dialect is Dialect.RELION_5:
            assert old.columns[label] == new.columns[label]
        else:
            np.testing.assert_array_equal(vectors(old, label), vectors(new, label))
    if dialect is Dialect.RELION_5:
        assert after.columns["rlnTomoTiltSeriesStarFile"] == ["out/job/tilt_series/TS_01.star"]
        assert Path("out/job/tilt_series/TS_01.star").is_file()
    else:
        assert not Path("out/job/tilt_series").exists()
    assert read_star(tomograms.path).names == read_star(again.path).names


@pytest.mark.parametrize("dialect", SETS)
@pytest.mark.parametrize("sizes", [(192, 192, 250), (191, 203, 249)])
def test_refined_projections_survive(project: Path, dialect: Dialect, sizes: tuple[int, int, int]) -> None:
    for axis, size in zip("XYZ", sizes, strict=True):
        set_cell(SETS[dialect], "global", f"rlnTomoSize{axis}", 0, str(size))
    tomograms = read(SETS[dialect])
    alignment = turned(tomograms, "TS_01")
    writer = TomogramSetWriter(tomograms, Path.cwd() / "out")
    writer.add(tomograms.load("TS_01"), alignment)
    writer.finish()
    found = read("out/tomograms.star").load("TS_01").projections_px
    np.testing.assert_allclose(found, alignment.projections_px, atol=1e-5, rtol=0)
    assert np.abs(found - tomograms.load("TS_01").projections_px).max() > 1


def test_all_reference_runs_are_read(in_golden: Path) -> None:
    runs = sorted(path.parent.name for path in Path("relion").glob("*/tomograms.star"))
    assert len(runs) == 25
    for run in runs:
        tomograms = read(f"relion/{run}/tomograms.star")
        assert tomograms.dialect is (Dialect.RELION_4 if run.startswith("r4") else Dialect.RELION_5)
        for name in tomograms.names:
            series = tomograms.load(name)
            assert len(series) == 21
            assert (series.deformation is not None) == run.startswith("deformation")


def test_deformations_as_relion_wrote_them(in_golden: Path) -> None:
    for run, model, length in [
        ("linear", "linear", 3),
        ("spline", "spline", 72),
        ("Fourier", "Fourier", 12),
        ("Fourier_per_frame", "Fourier", 12),
    ]:
        deformation = read(f"relion/deformation_{run}/tomograms.star").load("TS_02").deformation
        assert deformation is not None
        assert (deformation.model, deformation.grid) == (model, (3, 3))
        assert deformation.coefficients.shape == (21, length)
        beside = read_star(f"relion/deformation_{run}/TS_02_deformations.star").tables[0]
        np.testing.assert_array_equal(
            deformation.coefficients, vectors(beside, "rlnTomoDeformationCoefficients")
        )
        per_frame = np.ptp(deformation.coefficients, axis=0).max() > 0
        assert per_frame == run.endswith("per_frame")


@pytest.mark.parametrize("model", ["spline", "Fourier"])
def test_our_deformation_tables_equal_relions(project: Path, model: str) -> None:
    """RELION's result, written by us over the input it came from, gives RELION's own tables."""
    theirs = read(f"relion/deformation_{model}/tomograms.star")
    result = theirs.load("TS_01")
    tomograms = read("tomograms.star")
    writer = TomogramSetWriter(tomograms, Path.cwd() / "out")
    writer.add(
        tomograms.load("TS_01"),
        replace(keep(theirs, "TS_01"), deformation=result.deformation),
    )
    writer.finish()
    ours = read("out/tomograms.star")
    assert list(ours.general.columns) == list(theirs.general.columns)
    for label in ("rlnTomoDeformationGridSizeX", "rlnTomoDeformationGridSizeY", "rlnTomoDeformationType"):
        assert ours.general.columns[label] == theirs.general.columns[label]
    a, b = ours.series("TS_01"), theirs.series("TS_01")
    assert list(a.columns) == list(b.columns)
    assert a.columns["rlnTomoDeformationCoefficients"] == b.columns["rlnTomoDeformationCoefficients"]
    for label in b.columns:
        if label != "rlnTomoDeformationCoefficients":
            np.testing.assert_allclose(a.floats(label), b.floats(label), atol=2e-5)


def test_a_tomogram_without_result_among_deformed_ones(in_golden: Path, tmp_path: Path) -> None:
    tomograms = read("tomograms.star")
    like = read("relion/deformation_linear/tomograms.star").load("TS_01").deformation
    writer = TomogramSetWriter(tomograms, tmp_path)
    writer.add(tomograms.load("TS_01"), replace(keep(tomograms, "TS_01"), deformation=like))
    writer.finish()
    again = read(str(tmp_path / "tomograms.star"))
    warp = again.load("TS_02").deformation
    assert warp is not None and warp.model == "linear" and not warp.coefficients.any()
    np.testing.assert_array_equal(again.load("TS_02").projections_px, tomograms.load("TS_02").projections_px)
    first = again.load("TS_01").deformation
    assert like is not None and first is not None
    np.testing.assert_array_equal(first.coefficients, like.coefficients)


def test_input_deformations_stay_or_are_replaced(project: Path) -> None:
    tomograms = read("relion/deformation_spline/tomograms.star")
    writer = TomogramSetWriter(tomograms, Path.cwd() / "kept")
    writer.add(tomograms.load("TS_01"), keep(tomograms, "TS_01"))
    writer.finish()
    kept = read("kept/tomograms.star").load("TS_01").deformation
    old = tomograms.load("TS_01").deformation
    assert kept is not None and old is not None and kept.model == "spline"
    np.testing.assert_array_equal(kept.coefficients, old.coefficients)
    new = Deformation(model="linear", grid=(2, 4), coefficients=np.arange(33.0).reshape(11, 3))
    writer = TomogramSetWriter(tomograms, Path.cwd() / "replaced")
    writer.add(tomograms.load("TS_01"), replace(keep(tomograms, "TS_01"), deformation=new))
    writer.finish()
    found = read("replaced/tomograms.star").load("TS_01").deformation
    assert found is not None and (found.model, found.grid) == ("linear", (2, 4))
    np.testing.assert_array_equal(found.coefficients, new.coefficients)


def test_images_one_file_per_tilt(project: Path) -> None:
    """RELION 5 sets name a micrograph per tilt; here relative to the tilt series' own folder."""
    with mrcfile.open("tilt_series/TS_01.mrcs") as stack:
        images = stack.data.astype(np.float32)
    Path("tilt_series/frames").mkdir()
    for tilt in range(10):
        write_stack(
            Path(f"tilt_series/frames/{tilt}.mrc"),
            images[tilt : tilt + 1],
            count=1,
            size_px=(192, 192),
            pixel_size_angstrom=4.0,
        )
    for tilt in range(10):
        set_cell("tilt_series/TS_01.star", "TS_01", "rlnMicrographName", tilt, f"frames/{tilt}.mrc")
    set_cell("tilt_series/TS_01.star", "TS_01", "rlnMicrographName", 10, "000011@TS_01.mrcs")
    drop_column("tomograms.star", "global", "rlnTomoTiltSeriesName")
    tomograms = read("tomograms.star")
    series = tomograms.load("TS_01")
    for tilt in range(11):
        np.testing.assert_array_equal(series.images.read(tilt), images[tilt])
    sent = pickle.loads(pickle.dumps(series))
    np.testing.assert_array_equal(sent.images.read(4), images[4])

    writer = TomogramSetWriter(tomograms, Path.cwd() / "out")
    writer.add(series, keep(tomograms, "TS_01"))
    writer.finish()
    again = read("out/tomograms.star")
    names = again.series("TS_01").strings("rlnMicrographName")
    assert names[0] == "tilt_series/frames/0.mrc" and names[10] == "000011@tilt_series/TS_01.mrcs"
    np.testing.assert_array_equal(again.load("TS_01").images.read(10), images[10])


def test_paths_beside_the_set_are_found_and_stay_valid(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started above the project: names relative to the set's folder, not to the working directory."""
    monkeypatch.chdir(tmp_path)
    tomograms = read("project/tomograms.star")
    assert len(tomograms.load("TS_01")) == 11
    writer = TomogramSetWriter(tomograms, tmp_path / "results")
    writer.add(tomograms.load("TS_01"), keep(tomograms, "TS_01"))
    writer.finish()
    general = read("results/tomograms.star").general
    assert general.value("rlnTomoTiltSeriesName") == "project/tilt_series/TS_01.mrcs"
    assert general.value("rlnTomoTiltSeriesStarFile") == "results/tilt_series/TS_01.star"
    assert len(read("results/tomograms.star").load("TS_01")) == 11


@pytest.mark.parametrize("dialect", SETS)
def test_projections_of_each_refined_tomogram_in_a_file_of_its_own(
    in_golden: Path, tmp_path: Path, dialect: Dialect
) -> None:
    """RELION 5's job leaves such files; programs that carry its result over to other packages read them."""
    tomograms = read(SETS[dialect])
    writer = TomogramSetWriter(tomograms, tmp_path, projections_in="temp")
    alignment = turned(tomograms, "TS_02")
    writer.add(tomograms.load("TS_02"), alignment)
    writer.finish()
    assert [path.name for path in (tmp_path / "temp").iterdir()] == ["TS_02_projections.star"]
    star = read_star(tmp_path / "temp/TS_02_projections.star")
    assert star.names == ("TS_02",)
    assert star.version == tomograms.series("TS_02").version
    written = read(str(tmp_path / "tomograms.star")).series("TS_02")
    assert star.tables[0].columns == written.columns
    angles = star.tables[0].floats("rlnTomoYTilt") if dialect is Dialect.RELION_5 else None
    if angles is not None:
        moved = angles - tomograms.series("TS_02").floats("rlnTomoYTilt")
        assert 0.1 < np.abs(moved).max() < 10
    else:
        rows = vectors(star.tables[0], "rlnTomoProjX")
        assert np.abs(rows - vectors(tomograms.series("TS_02"), "rlnTomoProjX")).max() > 1


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b", ".hidden", "x" * 400, "é ü"])
def test_tomogram_names_never_lead_out_of_the_output_folder(project: Path, name: str) -> None:
    set_cell("tomograms.star", "global", "rlnTomoName", 0, name)
    rename_table("tilt_series/TS_01.star", "TS_01", "other")  # the only table of the file will do
    tomograms = read("tomograms.star")
    files = set(project.parent.rglob("*"))
    writer = TomogramSetWriter(tomograms, Path.cwd() / "out", projections_in="temp")
    writer.add(tomograms.load(name), keep(tomograms, name))
    writer.finish()
    new = {path for path in project.parent.rglob("*") if path not in files and path.is_file()}
    folders = [project / "out", project / "out/temp", project / "out/tilt_series"]
    assert sorted(path.parent for path in new) == folders
    assert all(path.name.endswith("_projections.star") for path in new if path.parent.name == "temp")
    assert len(read("out/tomograms.star").load(name)) == 11


def test_a_broken_series_does_not_stop_the_others(in_golden: Path, tmp_path: Path) -> None:
    text = Path("tomograms.star").read_text().replace("./tilt_series/TS_02.star", "tilt_series/gone.star")
    broken = tmp_path / "broken.star"
    broken.write_text(text)
    tomograms = read(str(broken))
    writer = TomogramSetWriter(tomograms, tmp_path / "out")
    writer.add(tomograms.load("TS_01"), turned(tomograms, "TS_01"))
    writer.finish()
    again = read(str(tmp_path / "out/tomograms.star"))
    assert again.general.columns["rlnTomoTiltSeriesStarFile"][1] == "tilt_series/gone.star"
    assert len(again.load("TS_01")) == 21


def test_a_set_with_both_geometries_keeps_them_equal(project: Path) -> None:
    """Converted sets may hold matrices beside angles; the refined ones must not contradict each other."""
    matrices = read("tomograms_r4.star").series("TS_01")
    for label in ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ", "rlnTomoProjW"):
        for row, cell in enumerate(matrices.strings(label)):
            set_cell("tilt_series/TS_01.star", "TS_01", label, row, cell)
    tomograms = read("tomograms.star")
    alignment = turned(tomograms, "TS_01")
    writer = TomogramSetWriter(tomograms, Path.cwd() / "out")
    writer.add(tomograms.load("TS_01"), alignment)
    writer.finish()
    again = read("out/tomograms.star")
    np.testing.assert_allclose(again.load("TS_01").projections_px, alignment.projections_px, atol=1e-5)
    rows = [vectors(again.series("TS_01"), f"rlnTomoProj{row}") for row in "XYZW"]
    np.testing.assert_allclose(np.stack(rows, axis=1), alignment.projections_px, atol=1e-8)


def test_an_unknown_tomogram_is_named(project: Path) -> None:
    with pytest.raises(InputError, match="no tomogram named 'TS_99'"):
        read("tomograms.star").load("TS_99")
