"""Several species in the same tomograms, from the command line to the files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tomopolish
from star_edits import drop_column, set_column
from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.errors import InputError
from tomopolish.settings.inputs import SpeciesPaths
from tomopolish.simulate.evaluate import evaluate_project
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    CompanionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    write_project,
)

SETTINGS = SimulationSettings(
    seed=3,
    tomograms=2,
    molecule=MoleculeSettings(box_px=48),
    acquisition=AcquisitionSettings(image_size_px=(224, 208), tilt_step_degrees=12.0),
    specimen=SpecimenSettings(particles=5, thickness_angstrom=500.0),
    noise=NoiseSettings(pair_snr=60.0),
    errors=PlantedErrors(max_displacement_px=4.0),
    companions=(
        CompanionSettings(
            name="fas", molecule=MoleculeSettings(box_px=40, seed=1), particles=6, pair_snr=60.0
        ),
    ),
)
FIRST, SECOND = "ribosome/optimisation_set.star", "fas_optimisation_set.star"
BOTH = ["align", "--i", FIRST, "--i", SECOND, "--b", "48", "--b", "40", "--r", "6", "--j", "2"]


@pytest.fixture(scope="module", params=["relion5", "relion4"])
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    write_project(folder, replace(SETTINGS, dialect=request.param), threads=2)
    (folder / "ribosome").mkdir()
    (folder / FIRST).write_bytes((folder / "optimisation_set.star").read_bytes())
    return folder


@pytest.fixture
def project(simulated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(simulated)
    return simulated


def test_each_species_gets_its_own_set_and_all_share_the_tomograms(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run([*BOTH, "--o", str(out)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^ribosome +48 +2 +10$", text, re.MULTILINE)
    assert re.search(r"^fas +40 +2 +12$", text, re.MULTILINE)
    assert f"{out}/ribosome/optimisation_set.star, {out}/fas/optimisation_set.star" in text
    assert f"species: fas from {SECOND}, box 40 px" in (out / "note.txt").read_text()
    assert not (out / "particles.star").exists() and not (out / "fas/tomograms.star").exists()
    sets = {}
    for name, source in (("ribosome", FIRST), ("fas", SECOND)):
        assert (out / name / "uncertainty.star").exists()
        written, before = open_dataset(out / name / "optimisation_set.star"), open_dataset(Path(source))
        assert written.files.require("tomograms") == out / "tomograms.star"
        assert written.references().size_px == before.references().size_px
        for tomogram in ("TS_01", "TS_02"):
            sets[name, tomogram] = written.load(tomogram)
            moved = sets[name, tomogram][1].positions_px - before.load(tomogram)[1].positions_px
            assert np.abs(moved).max() > 0.3
            assert sets[name, tomogram][1].names == before.load(tomogram)[1].names
    for tomogram in ("TS_01", "TS_02"):
        one, other = sets["ribosome", tomogram], sets["fas", tomogram]
        np.testing.assert_array_equal(one[0].projections_px, other[0].projections_px)
        assert one[1].names[0] == other[1].names[0]  # names repeat from species to species
        assert not np.allclose(one[1].positions_px[:5], other[1].positions_px[:5], atol=5)
    for name, truth in (("ribosome", "truth.json"), ("fas", "fas_truth.json")):
        found = evaluate_project(out / name / "optimisation_set.star", project / truth)
        assert found.rms_2d_before_angstrom is not None
        assert found.rms_2d_after_angstrom < 0.5 * found.rms_2d_before_angstrom


def test_the_maps_of_each_species_are_compared(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run([*BOTH, "--no_report", "--evaluate", "--o", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.err == "" and "The refinement helped" in captured.out
    for name in ("ribosome", "fas"):
        row = re.search(rf"^{name} +(\S+) → (\S+) ", captured.out, re.MULTILINE)
        assert row is not None and float(row[2]) < float(row[1])
    endings = ("after", "after_fas", "before", "before_fas")
    maps = {f"{kind}_{e}.mrc" for kind in ("half1", "half2", "merged", "slices") for e in endings}
    assert {path.name for path in (out / "evaluation").iterdir()} == maps | {f"fsc_{e}.star" for e in endings}


def test_a_yaml_file_lists_species_and_a_tomogram_may_lack_one(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (project / "fas/particles.star").read_text()
    kept = [line for line in text.split("\n") if not line.startswith("TS_01")]
    (project / "fas/few.star").write_text("\n".join(kept))
    few = (project / SECOND).read_text().replace("fas/particles.star", "fas/few.star")
    (project / "few_optimisation_set.star").write_text(few)
    listing = tmp_path / "species.yaml"
    listing.write_text(
        f"species:\n- name: large\n  optimisation_set: {FIRST}\n"
        "- name: small\n  optimisation_set: few_optimisation_set.star\n  box: 40\n"
    )
    command = ["align", "--i", str(listing), "--b", "48", "--r", "6", "--j", "2", "--no_report"]
    command += ["--o", str(tmp_path / "o")]
    assert run([*command, "--dry_run"]) == 0
    assert not (tmp_path / "o").exists()
    captured = capsys.readouterr()
    assert re.search(r"^TS_01 +5 .*\nTS_02 +11 ", captured.out, re.MULTILINE)
    assert run(command) == 0
    captured = capsys.readouterr()
    assert "remain unchanged" not in captured.err
    assert re.search(r"^small +40 +1 +6$", captured.out, re.MULTILINE)
    small = open_dataset(tmp_path / "o/small/optimisation_set.star")
    assert small.tomogram_names == ("TS_02",)
    before = open_dataset(Path(FIRST))
    assert not np.allclose(
        small.tomograms.load("TS_01").projections_px, before.tomograms.load("TS_01").projections_px
    )
    assert run([*command, "--only_do_unfinished"]) == 0
    assert capsys.readouterr().out.count("finished earlier") == 2
    listing.write_text(listing.read_text().replace("box: 40", "box: 44"))
    assert run([*command, "--only_do_unfinished"]) == 0
    assert "references" in capsys.readouterr().out


REFUSED = {
    "boxes": (["--i", FIRST, "--i", SECOND, "--b", "48", "--b", "40", "--b", "40"], "--b is given 3 times"),
    "box too small": (["--i", FIRST, "--i", SECOND, "--b", "48", "--b", "36"], "fas.*ref_half1.mrc|--b 36"),
    "box of one": (["--i", FIRST, "--b", "48", "--b", "40"], "--b is given 2 times: give it once$"),
    "same name": (["--i", FIRST, "--i", FIRST, "--b", "48"], "would both be the species ribosome"),
    "parts": (["--i", FIRST, "--i", SECOND, "--b", "48", "--p", "p.star"], "which of them --p would belong"),
    "missing": (["--i", FIRST, "--i", "none.star", "--b", "48"], "none.star"),
    "into the input": (
        ["--i", FIRST, "--i", SECOND, "--b", "48", "--o", "."],
        "replace the input tomograms.star",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused(
    project: Path, tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, sentence = REFUSED[case]
    output = [] if "--o" in options else ["--o", str(tmp_path / "o")]
    assert run(["align", *options, "--r", "6", *output]) == 2
    assert re.search(sentence, capsys.readouterr().err.replace("\n", " ").strip())
    assert not (tmp_path / "o").exists()


YAML = {
    "no list": ("ribosome: 3", "no list 'species'"),
    "no yaml": ("species: [", "not a YAML file"),
    "typing error": ("species: [{optimization_set: a.star}]", "'optimization_set' is unknown"),
    "no file": ("species: [{name: a}]", "item 1 of species: optimisation_set is missing"),
    "no box": ("species: [{optimisation_set: a.star}]", "box is missing"),
    "box of words": ("species: [{optimisation_set: a.star, box: big}]", "box is 'big'"),
    "name": (
        "species: [{name: ../up, optimisation_set: a.star, box: 48}]",
        "cannot be the name of a species",
    ),
    "reserved": ("species: [{name: temp, optimisation_set: a.star, box: 48}]", "cannot be the name"),
}


@pytest.mark.parametrize("case", YAML)
def test_faults_of_a_yaml_file_are_named(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, sentence = YAML[case]
    Path("species.yml").write_text(content)
    assert run(["align", "--i", "species.yml", "--o", "o"]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("lacking", [FIRST, SECOND])
def test_sizes_and_doses_that_one_tomogram_set_does_not_state(
    project: Path, capsys: pytest.CaptureFixture[str], lacking: str
) -> None:
    """The first set counts; in RELION 4 positions count from the corner, so that it must have sizes."""
    is_relion4 = "rlnTomoTiltSeriesStarFile" not in (project / "tomograms.star").read_text()
    (project / "poor.star").write_bytes((project / "tomograms.star").read_bytes())
    drop_column("poor.star", "global", "rlnTomoSizeX", "rlnTomoSizeZ", "rlnTomoImportFractionalDose")
    text = (project / lacking).read_text().replace("tomograms.star", "poor.star")
    (project / "poor_optimisation_set.star").write_text(text)
    command = [part if part != lacking else "poor_optimisation_set.star" for part in BOTH]
    status = run([*command, "--dry_run", "--o", "o"])
    assert status == (2 if is_relion4 and lacking == FIRST else 0)
    if status:
        assert "count from the corner of tomogram TS_01, whose size" in capsys.readouterr().err


def test_sizes_that_differ_matter_to_positions_from_the_corner(project: Path) -> None:
    is_relion4 = "rlnTomoTiltSeriesStarFile" not in (project / "tomograms.star").read_text()
    (project / "deeper.star").write_bytes((project / "tomograms.star").read_bytes())
    set_column("deeper.star", "global", "rlnTomoSizeZ", "246")
    text = (project / SECOND).read_text().replace("tomograms.star", "deeper.star")
    (project / "deeper_optimisation_set.star").write_text(text)
    command = [part if part != SECOND else "deeper_optimisation_set.star" for part in BOTH]
    assert run([*command, "--dry_run", "--o", "o"]) == (2 if is_relion4 else 0)


def test_tomograms_aligned_otherwise_are_refused(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "same.star").write_bytes((project / "tomograms.star").read_bytes())
    changed = (project / "tomograms.star").read_text().replace("2.700000", "2.600000")
    (project / "other.star").write_text(changed)
    assert "2.600000" in changed
    for name, status in (("same", 0), ("other", 2)):
        text = (project / SECOND).read_text().replace("tomograms.star", f"{name}.star")
        (project / f"{name}_optimisation_set.star").write_text(text)
        files = ["--i", FIRST, "--i", f"{name}_optimisation_set.star"]
        command = ["align", *files, "--b", "48", "--r", "6", "--o", str(tmp_path / "o")]
        assert run([*command, "--dry_run"]) == status
    assert "tomogram TS_01 is not the same as in tomograms.star (microscope)" in capsys.readouterr().err
    renamed = (project / "tomograms.star").read_text().replace("TS_02", "TS_99")
    (project / "renamed.star").write_text(renamed)
    text = (project / FIRST).read_text().replace("tomograms.star", "renamed.star")
    (project / "renamed_optimisation_set.star").write_text(text)
    command[command.index(FIRST) : command.index(FIRST) + 3] = [
        "renamed_optimisation_set.star",
        "--i",
        SECOND,
    ]
    assert run([*command, "--dry_run"]) == 2
    sentence = "tomogram TS_02, with particles of fas, is not in renamed.star"
    assert sentence in capsys.readouterr().err


def test_the_api_refines_species_together_as_the_command_does(project: Path, tmp_path: Path) -> None:
    projects = {"ribosome": tomopolish.load(FIRST), "fas": tomopolish.load(SECOND)}
    aligned = tomopolish.align(projects, box_px={"ribosome": 48, "fas": 40}, range_px=6, threads=2)
    assert [len(a.rows) for a in aligned.results["TS_01"].alignments] == [5, 6]
    assert aligned.write(tmp_path / "api") == tmp_path / "api/ribosome/optimisation_set.star"
    assert run([*BOTH, "--no_report", "--o", str(tmp_path / "cli")]) == 0
    for name in ("ribosome/particles.star", "fas/particles.star", "tomograms.star"):
        one, other = ((tmp_path / f / name).read_text() for f in ("api", "cli"))
        assert one.replace("/api/", "/cli/") == other
    with pytest.raises(InputError, match="no box is given for fas"):
        tomopolish.align(projects, box_px={"ribosome": 48})


@pytest.mark.parametrize("name", ["report", "errors", "Evaluation", "temp", "a/b", "../x", ""])
def test_a_name_that_other_files_of_the_output_have_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a species"):
        SpeciesPaths(name=name, optimisation_set=Path(FIRST), box_px=48)
