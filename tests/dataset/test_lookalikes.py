"""Files that stand in each other's place: the sentence says what the file is, and where the right one is."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from star_edits import drop_column, drop_table, noise_map, rename_table, set_column
from tomopolish.dataset.contents import content_of, recognised
from tomopolish.dataset.mrc import read_header
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.relion.kinds import described, kind_of
from tomopolish.dataset.star import StarFile, read_star
from tomopolish.errors import InputError


def star(*tables: tuple[str, str, str]) -> str:
    """Text of a STAR file: name, labels and one row of each table."""
    return "".join(
        f"data_{name}\n\nloop_\n" + "".join(f"_{label}\n" for label in labels.split()) + f"{row}\n\n"
        for name, labels, row in tables
    )


def written(name: str, text: str | bytes) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


OPTICS = ("optics", "rlnOpticsGroup rlnImagePixelSize rlnVoltage", "1 1.35 300")
STARS = {
    "picks": star(("particles", "rlnTomoName rlnCoordinateX rlnCoordinateY rlnCoordinateZ", "TS_7 1 2 3")),
    "relion3": star(
        OPTICS,
        (
            "particles",
            "rlnCoordinateX rlnCoordinateY rlnCoordinateZ rlnMicrographName rlnImageName rlnCtfImage",
            "9 8 7 tomo/L5.mrc sub/L5_004.mrc sub/L5_004_ctf.mrc",
        ),
    ),
    "relion30": star(
        ("", "rlnCoordinateX rlnCoordinateZ rlnMagnification rlnImageName rlnAngleRot", "9 8 10000 a.mrc 5")
    ),
    "warp picks": star(
        ("", "rlnCoordinateX rlnCoordinateY rlnCoordinateZ rlnMicrographName", "5 6 7 L5.tomostar")
    ),
    "single particles": star(
        OPTICS,
        ("particles", "rlnCoordinateX rlnCoordinateY rlnImageName rlnMicrographName", "1 2 1@a.mrcs b.mrc"),
    ),
    "micrographs": star(OPTICS, ("micrographs", "rlnMicrographName rlnOpticsGroup", "b.mrc 1")),
    "postprocess": star(
        ("general", "rlnFinalResolution rlnMaskName", "7.1 m.mrc"),
        ("fsc", "rlnSpectralIndex rlnFourierShellCorrelationCorrected", "0 1"),
    ),
    "model": star(
        ("model_general", "rlnReferenceDimensionality", "3"), ("model_class_1", "rlnSpectralIndex", "0")
    ),
    "optimiser": star(("optimiser_general", "rlnOutputRootName", "run")),
    "job": star(("job", "rlnJobTypeLabel", "x"), ("joboptions_values", "rlnJobOptionVariable", "y")),
    "tilts": star(
        ("L5", "rlnTomoYTilt rlnTomoZRot rlnMicrographPreExposure rlnMicrographName", "3 85 0 1@a.mrcs")
    ),
    "aligned": star(("global", "rlnTomoName rlnTomoTiltSeriesStarFile rlnVoltage", "L5 L5.star 300")),
    "trajectories": star(("general", "rlnParticleNumber", "1"), ("L5/1", "rlnOriginXAngst", "0")),
    "tomostar": star(("", "wrpMovieName wrpAngleTilt wrpDose", "a.tif 3 2")),
    "coordinates": star(("", "rlnTomoName rlnTomoImportParticleFile rlnMicrographCoordinates", "a b c")),
    "unknown": star(("shopping", "item price", "milk 1")),
}

WORDS = {
    "picks": "picked positions",
    "relion3": "RELION 3",
    "relion30": "RELION 3",
    "warp picks": "positions for Warp",
    "single particles": "single-particle analysis",
    "micrographs": "micrographs",
    "postprocess": "Post-processing",
    "model": "model file",
    "optimiser": "optimiser file",
    "job": "job.star",
    "tilts": "one tilt series",
    "aligned": "a tomogram set",
    "trajectories": "a trajectory set",
    "tomostar": ".tomostar",
    "coordinates": "coordinate files",
}


@pytest.mark.parametrize("name", WORDS)
def test_kinds_of_star_file_are_recognised(name: str, tmp_path: Path) -> None:
    path = tmp_path / "some.star"
    path.write_text(STARS[name])
    kind = kind_of(read_star(path))
    assert kind is not None and WORDS[name] in kind.description


def test_an_unknown_file_is_described_by_its_tables(tmp_path: Path) -> None:
    (tmp_path / "some.star").write_text(STARS["unknown"])
    found = read_star(tmp_path / "some.star")
    assert kind_of(found) is None
    assert "data_shopping" in described(found) and "price" in described(found)
    assert described(StarFile(tables=())) == "a file without any table"


def test_the_reference_projects_files_are_of_their_own_kind(project: Path) -> None:
    for name, words in {
        "optimisation_set.star": "an optimisation set",
        "particles.star": "a particle set",
        "tomograms.star": "a tomogram set",
        "tomograms_r4.star": "a tomogram set",
        "tilt_series/TS_01.star": "the table of one tilt series",
        "fsc.star": "the result of Post-processing",
        "relion/motion/motion.star": "a trajectory set",
    }.items():
        if Path(name).exists():
            assert described(read_star(name)) == words


COMPONENTS = {
    "particles": "--p",
    "tomograms": "--t",
    "trajectories": "--mot",
    "ref1": "--ref1",
    "ref2": "--ref2",
    "mask": "--mask",
    "fsc": "--fsc",
}


def loaded(**components: str) -> Dataset:
    """Open the project with some components replaced, and read all of it."""
    found = open_dataset(
        Path("optimisation_set.star"), **{name: Path(path) for name, path in components.items()}
    )
    found.check_columns()
    found.references()
    for name in found.tomogram_names:
        found.load(name)
    return found


def refusal(**components: str) -> str:
    with pytest.raises(InputError) as caught:
        loaded(**components)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


SWAPPED = [
    # component, file, what the file is, and what to do
    ("particles", "optimisation_set.star", "an optimisation set", "give it with --i"),
    ("particles", "tomograms.star", "a tomogram set", "give it with --t"),
    ("particles", "fsc.star", "Post-processing", "give it with --fsc"),
    ("particles", "mask.mrc", "an MRC file", "run_data.star"),
    ("tomograms", "particles.star", "a particle set", "give it with --p"),
    ("tomograms", "tilt_series/TS_01.star", "the table of one tilt series", "tomograms.star"),
    ("tomograms", "optimisation_set.star", "an optimisation set", "give it with --i"),
    ("tomograms", "tilt_series/TS_01.mrcs", "an MRC file", "tomograms.star"),
    ("trajectories", "particles.star", "a particle set", "give it with --p"),
    ("trajectories", "tomograms.star", "a tomogram set", "give it with --t"),
    ("ref1", "fsc.star", "Post-processing", "give it with --fsc"),
    ("ref2", "particles.star", "a particle set", "half map"),
    ("mask", "tomograms.star", "a tomogram set", "Mask create"),
    ("fsc", "ref_half1.mrc", "an MRC file", "postprocess.star"),
    ("fsc", "particles.star", "a particle set", "postprocess.star"),
]


@pytest.mark.parametrize(("component", "file", "what", "remedy"), SWAPPED)
def test_a_file_in_anothers_place_is_named_for_what_it_is(
    component: str, file: str, what: str, remedy: str, project: Path
) -> None:
    sentence = refusal(**{component: file})
    assert file in sentence and what in sentence and ", not " in sentence
    assert remedy in sentence.partition(", not ")[2]


@pytest.mark.parametrize("name", [name for name in STARS if name not in ("aligned", "unknown")])
def test_no_other_kind_of_star_file_passes_for_a_set(name: str, project: Path) -> None:
    written("other.star", STARS[name])
    for component in ("particles", "tomograms", "ref1"):
        assert WORDS[name] in refusal(**{component: "other.star"})


@pytest.mark.parametrize("name", ["particles.star", "tilt_series/TS_01.star", "run_optimiser.star"])
def test_another_star_file_for_the_optimisation_set(name: str, project: Path) -> None:
    if not Path(name).exists():
        written(name, STARS["optimiser"])
    with pytest.raises(InputError, match=f"--i {name}: this is .*, not an optimisation set; ") as caught:
        open_dataset(Path(name))
    if Path(name).parent == Path():
        assert "perhaps optimisation_set.star" in str(caught.value)


def test_picks_and_old_subtomograms_name_the_jobs_that_come_next(project: Path) -> None:
    written("other.star", STARS["picks"])
    assert "run Extract subtomos and 3D auto-refine" in refusal(particles="other.star")
    written("other.star", STARS["relion3"])
    assert "import tilt series and coordinates into RELION 5" in refusal(particles="other.star")


CONTENTS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "gzip": (
        lambda path: gzip.compress(path.read_bytes()),
        "with gzip, .*; unpack it with gunzip",
    ),
    "bzip2": (lambda path: bz2.compress(path.read_bytes()), "compressed with bzip2, .*; unpack it"),
    "nothing": (lambda _: b"", "an empty file"),
    "pdf": (lambda _: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
    "tiff": (lambda _: b"II*\x00" + bytes(400), "a TIFF image"),
    "eer": (lambda _: b"II+\x00" + bytes(400), "EER"),
    "numpy": (lambda _: b"\x93NUMPY\x01\x00" + bytes(400), "CryoSPARC"),
    "hdf5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(400), "HDF5"),
    "xml": (lambda _: b"<?xml version='1.0'?>\n<TiltSeries/>\n", "XML"),
    "json": (lambda _: json.dumps({"a": 1}).encode(), "a JSON file"),
    "mdoc": (lambda _: b"PixelSpacing = 1.35\nImageFile = a.mrc\n\n[ZValue = 0]\n", ".mdoc"),
    "tlt": (lambda _: b"-60.0\n -57.1\n 3e0\n", "a list of numbers"),
    "aln": (lambda _: b"# AreTomo Alignment / Priims bprmMn\n# RawSize = 9 9 9\n", ".aln"),
    "html": (lambda _: b"<!DOCTYPE html><html></html>", "a web page"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_other_contents_are_named(name: str, project: Path) -> None:
    make, words = CONTENTS[name]
    for component, file in {"particles": "particles.star", "ref1": "ref_half1.mrc"}.items():
        content = make(Path(file))
        other = written(f"other{Path(file).suffix}", content)
        sentence = refusal(**{component: other})
        with pytest.raises(InputError, match=words):
            raise InputError(sentence)
        assert sentence.startswith(f"{COMPONENTS[component]} {other}: this is ")


@pytest.mark.parametrize("name", CONTENTS)
def test_other_contents_are_named_where_a_table_names_them(name: str, project: Path) -> None:
    make, words = CONTENTS[name]
    for file in ("tilt_series/TS_01.star", "tilt_series/TS_01.mrcs"):
        before = Path(file).read_bytes()
        written(file, make(Path(file)))
        with pytest.raises(InputError, match=f"row 1, .*TS_01.*{words}"):
            loaded()
        written(file, before)


def test_contents_are_told_from_their_beginning_alone(project: Path) -> None:
    assert content_of(project / "gone") is None
    assert content_of(project) is None
    assert recognised(b"\x00" * 100) is None
    assert recognised(b"plain words\n") is None
    found = content_of(project / "ref_half1.mrc")
    assert found is not None and found.is_mrc and not found.is_star
    for text in (b"data_a\n", b"\xef\xbb\xbf# version 50001\n\ndata_\n", b"\n# a\n# b\r\ndata_x \r\n"):
        kind = recognised(text)
        assert kind is not None and kind.is_star, text
    # A sample that ends within a number is one of numbers all the same.
    assert recognised(b"12.5 -7\n" * 512) is not None


def test_a_map_without_the_formats_mark_is_read(project: Path) -> None:
    raw = bytearray(Path("ref_half1.mrc").read_bytes())
    raw[208:212] = bytes(4)
    written("old.mrc", bytes(raw))
    assert read_header(Path("old.mrc")).shape == read_header(Path("ref_half1.mrc")).shape
    loaded(ref1="old.mrc")


def test_folders_name_the_file_in_them_that_is_meant(project: Path) -> None:
    job = Path("Refine3D/job021")
    for name in ("run_optimisation_set.star", "run_data.star", "run_half1_class001_unfil.mrc", "notes.txt"):
        written(str(job / name), "x")
    for component, wanted in {"particles": "run_data.star", "ref1": "run_half1_class001_unfil.mrc"}.items():
        sentence = refusal(**{component: str(job)})
        assert (
            f"{COMPONENTS[component]} {job}: this is a folder; give a file in it: {job / wanted}" in sentence
        )
    with pytest.raises(
        InputError, match=f"--i {job}: this is a folder; give .*{job}/run_optimisation_set.star"
    ):
        open_dataset(job)
    assert "no file named like a mask" in refusal(mask=str(job))


def test_missing_files_are_named_as_typed_and_with_where_they_were_looked_for(project: Path) -> None:
    sentence = refusal(particles="Refine3D/job021/run_data.star")
    assert sentence.startswith("--p Refine3D/job021/run_data.star: file not found (looked for in ")
    assert str(project) in sentence
    assert "did you mean particles.star?" in refusal(particles="particels.star")
    absolute = str(project / "absent.mrc")
    assert refusal(mask=absolute).startswith(f"--mask {absolute}: file not found; correct")


def test_missing_files_in_tables_are_named_with_both_places(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("sets").mkdir()
    Path("optimisation_set.star").rename("sets/optimisation_set.star")
    set_column("sets/optimisation_set.star", "", "rlnTomoReferenceMaskFile", "masks/m.mrc")
    with pytest.raises(InputError) as caught:
        open_dataset(Path("sets/optimisation_set.star")).references()
    said = str(caught.value)
    assert said.startswith(
        "sets/optimisation_set.star, rlnTomoReferenceMaskFile: masks/m.mrc: file not found"
    )
    assert f"looked for in {project} and in {project / 'sets'}" in said


def test_another_tomograms_file_is_not_suggested(project: Path) -> None:
    set_column("tomograms.star", "global", "rlnTomoTiltSeriesName", "tilt_series/TS_09.mrcs")
    with pytest.raises(InputError) as caught:
        loaded()
    assert "tilt_series/TS_09.mrcs: file not found" in str(caught.value)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "images", "Particles_1"])
def test_a_table_by_another_name_is_named(name: str, project: Path) -> None:
    rename_table("particles.star", "particles", name)
    with pytest.raises(InputError) as caught:
        loaded()
    said = str(caught.value)
    assert "particles.star: there is no table 'data_particles'" in said
    assert f"rename 'data_{name}' to 'data_particles'" in said
    assert name or "one without a name" in said


def test_all_missing_columns_of_a_file_are_named_at_once(project: Path) -> None:
    drop_column("particles.star", "particles", "rlnRandomSubset", "rlnCenteredCoordinateZAngst")
    with pytest.raises(InputError) as caught:
        loaded()
    said = str(caught.value)
    assert "particles.star, table particles: columns are missing" in said
    assert "rlnCenteredCoordinateZAngst" in said and "rlnRandomSubset (from 3D auto-refine)" in said


def test_all_missing_columns_of_a_tilt_series_name_their_jobs(project: Path) -> None:
    labels = ("rlnDefocusU", "rlnDefocusAngle", "rlnMicrographPreExposure", "rlnTomoYTilt", "rlnTomoZRot")
    drop_column("tilt_series/TS_01.star", "TS_01", *labels)
    with pytest.raises(InputError) as caught:
        loaded()
    said = str(caught.value)
    assert all(label in said for label in labels)
    assert all(job in said for job in ("Align tilt-series", "CTF estimation", "Import"))


def test_columns_of_projections_are_named_with_the_others_that_are_missing(project: Path) -> None:
    labels = ("rlnTomoZRot", "rlnTomoYShiftAngst", "rlnDefocusV")
    drop_column("tilt_series/TS_01.star", "TS_01", *labels)
    with pytest.raises(InputError) as caught:
        loaded()
    assert all(label in str(caught.value) for label in labels)


def test_all_missing_columns_of_the_tomogram_set_are_named_at_once(project: Path) -> None:
    drop_table("particles.star", "optics")
    drop_column("tomograms.star", "global", "rlnTomoHand", "rlnVoltage", "rlnTomoTiltSeriesPixelSize")
    with pytest.raises(InputError) as caught:
        loaded()
    said = str(caught.value)
    assert "rlnTomoTiltSeriesPixelSize and rlnVoltage (from Import)" in said
    assert "rlnTomoHand (from Import; -1 where defocus decreases with depth" in said


@pytest.mark.parametrize("cell", ["0", "2", "-0.5", "right", "?"])
def test_which_sign_the_hand_should_have_is_said(cell: str, project: Path) -> None:
    set_column("tomograms.star", "global", "rlnTomoHand", cell)
    with pytest.raises(InputError, match="Import writes -1 by default") as caught:
        loaded()
    assert f"rlnTomoHand is {cell}, but must be 1 or -1" in str(caught.value)


def test_a_relion_5_set_without_the_files_of_its_tilt_series(project: Path) -> None:
    drop_column("tomograms.star", "global", "rlnTomoTiltSeriesStarFile")
    with pytest.raises(InputError, match="rlnTomoTiltSeriesStarFile is missing"):
        loaded()


def test_a_map_in_the_place_of_a_stack_of_another_kind(project: Path) -> None:
    noise_map("volume.mrc", (8, 40, 40))
    set_column("tomograms.star", "global", "rlnTomoTiltSeriesName", "volume.mrc")
    with pytest.raises(InputError, match=r"has 11 rows, but its stack .*volume.mrc has 8 sections"):
        loaded()
