"""Cleaned sets: what a selection leaves out, what it leaves unchanged, and what it refuses."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tomopolish
from star_edits import drop_column, edit, set_cell, set_column
from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.trajectories import trajectory_writer
from tomopolish.dataset.star import StarTable, format_floats, read_star, write_star
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    CompanionSettings,
    MoleculeSettings,
    SimulationSettings,
    SpecimenSettings,
    write_project,
)

SETTINGS = SimulationSettings(
    seed=23,
    tomograms=3,
    molecule=MoleculeSettings(box_px=40),
    acquisition=AcquisitionSettings(image_size_px=(200, 190), tilt_step_degrees=20.0),
    specimen=SpecimenSettings(particles=5, thickness_angstrom=400.0),
    companions=(CompanionSettings(name="small", molecule=MoleculeSettings(box_px=32, seed=2), particles=4),),
)
TILTS = 7
NAMES = ("TS_01", "TS_02", "TS_03")
SPECIES = {"large": "", "small": "small/"}
"""Species → folder of its particles."""
SETS = {name: f"Align/job003/{name}/optimisation_set.star" for name in SPECIES}
BOTH = ["align", "--i", "{}/large/optimisation_set.star", "--i", "{}/small/optimisation_set.star"]

FLAGGED = {("large", "TS_01"): {1: "picked twice", 3: "shows nothing of the reference"},
           ("large", "TS_03"): dict.fromkeys(range(5), "agrees less than the others"),
           ("small", "TS_02"): {0: "picked twice"}}  # fmt: skip
UNLIKELY = {("small", "TS_01"): {2: 0.7}}
EMPTY_TILTS = {"TS_01": (0, 5), "TS_02": (2,)}


def write_scores(folder: Path, species: str) -> None:
    """Write scores as an alignment does; TS_02 has none for the first species, as where it failed."""
    particles: dict[str, list[str]] = {}
    tilts: dict[str, list[str]] = {}
    names = open_dataset(Path(SETS[species])).particles
    for tomogram, rows in names.rows_by_tomogram.items():
        if (species, tomogram) == ("large", "TS_02"):
            continue
        flagged = FLAGGED.get((species, tomogram), {})
        low = UNLIKELY.get((species, tomogram), {})
        for number, row in enumerate(rows):
            probability = 0.02 if number in flagged else low.get(number, 0.97)
            append(particles, tomogram, probability, flagged.get(number, ""), names.names[row])
        for tilt in range(TILTS):
            empty = tilt in EMPTY_TILTS.get(tomogram, ())
            append(tilts, tomogram, 0.9 - 0.85 * empty, "shows nothing of the particles" if empty else "")
    tables = [StarTable(name=n, columns=c) for n, c in (("particles", particles), ("tilt_images", tilts))]
    write_star(folder / "scores.star", tables)


def append(
    columns: dict[str, list[str]], tomogram: str, probability: float, reason: str, name: str | None = None
) -> None:
    cells = {
        "rlnTomoName": tomogram,
        "tomopolishProbability": f"{probability:.6f}",
        "tomopolishFlagged": str(int(bool(reason))),
        "tomopolishReason": reason or "none",
    }
    for label, cell in (cells if name is None else cells | {"rlnTomoParticleName": name}).items():
        columns.setdefault(label, []).append(cell)


def move_into_jobs(folder: Path, dialect: str) -> None:
    """Lay a simulated project out as an alignment's output: a folder for each species, motion and scores."""
    rng = np.random.default_rng(8)
    for name, prefix in SPECIES.items():
        (folder / "Align/job003" / name).mkdir(parents=True)
        shutil.copy(f"{prefix[:-1]}{'_' * bool(prefix)}optimisation_set.star", SETS[name])
        particles = open_dataset(Path(SETS[name])).particles
        count = len(particles)
        merit = format_floats(rng.uniform(size=count))
        edit(f"{prefix}particles.star", "particles",
             lambda t, m=merit: t.with_columns({"rlnParticleFigureOfMerit": m}))  # fmt: skip
        if dialect == "relion5":
            frames = "[" + ",".join(map(str, range(TILTS))) + "]"
            set_column(f"{prefix}particles.star", "particles", "rlnTomoVisibleFrames", frames)
        motion = folder / f"Align/job003/{name}/motion.star"
        with trajectory_writer(motion, count=count, version="30001") as writer:
            writer.add(particles.names, rng.normal(size=(count, TILTS, 3)))
        set_cell(SETS[name], "", "rlnTomoTrajectoriesFile", 0, str(motion.relative_to(folder)))
    for name in NAMES:
        images = [f"{tilt + 1:06d}@tilt_series/{name}.mrcs" for tilt in range(TILTS)]
        table = "tomograms.star" if dialect == "relion4" else f"tilt_series/{name}.star"
        edit(table, name, lambda t, i=images: t.with_columns({"rlnMicrographName": i}))
    if dialect == "relion5":
        drop_column("tomograms.star", "global", "rlnTomoTiltSeriesName")
    for name in SPECIES:
        write_scores(folder / "Align/job003" / name, name)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for dialect in ("relion5", "relion4"):
        folder = folders[dialect] = tmp_path_factory.mktemp(dialect)
        write_project(folder, replace(SETTINGS, dialect=dialect), threads=2)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            move_into_jobs(folder, dialect)
    return folders


@pytest.fixture(params=["relion5", "relion4"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(
    simulated: dict[str, Path], dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of the tables; the images and maps are links."""
    shutil.copytree(
        simulated[dialect],
        tmp_path / "project",
        copy_function=lambda a, b: Path(b).symlink_to(a) if ".mrc" in a else shutil.copy(a, b),
    )
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


relion5_only = pytest.mark.parametrize("dialect", ["relion5"])


def rows_of(path: Path | str) -> list[tuple[str, ...]]:
    table = read_star(path).table("particles")
    return list(zip(*table.columns.values(), strict=True))


def cleaned(species: str) -> Path:
    return Path(f"Select/job004/{species}/particles.star")


def test_bad_particles_and_images_are_left_out(
    project: Path, dialect: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*.star")}
    assert run(["select", "--i", "Align/job003/", "--drop_tilts", "--o", "Select/job004/"]) == 0
    shown = capsys.readouterr()
    said = " ".join(shown.out.split())
    assert (
        "large: 8 of 15 particles remain; left out: 5 (agrees less than the others), 1 (picked twice), "
        "1 (shows nothing of the reference)." in said
    )
    assert "large: No particle of TS_03 remains" in said
    assert "small: 11 of 12 particles remain; left out: 1 (picked twice)." in said
    assert "18 of 21 tilt images remain; left out: 3 (shows nothing of the particles)." in said
    assert "large: all particles of TS_02 remain, since they have no scores" in shown.err
    assert ("extract the subtomograms again" in shown.err) == (dialect == "relion5")
    assert "8 of 15 particles remain" in Path("Select/job004/note.txt").read_text()
    assert before == {path: path.read_bytes() for path in before}

    for species, prefix in SPECIES.items():
        old = open_dataset(Path(SETS[species]))
        new = open_dataset(Path(f"Select/job004/{species}/optimisation_set.star"))
        assert new.files.require("tomograms") == project / "Select/job004/tomograms.star"
        assert new.particles.table.columns.keys() == old.particles.table.columns.keys()
        stays = [n in set(new.particles.names) for n in old.particles.names]
        merit = np.array(old.particles.table.strings("rlnParticleFigureOfMerit"))[stays]
        assert list(new.particles.table.strings("rlnParticleFigureOfMerit")) == list(merit)
        assert new.particles.optics is not None
        assert new.trajectories is not None and len(new.trajectories) == len(new.particles)
        for name in new.tomogram_names:
            series, particles = new.load(name)
            whole, all_particles = old.load(name)
            images = np.delete(np.arange(TILTS), EMPTY_TILTS.get(name, ()))
            kept = np.isin(all_particles.names, particles.names)
            lost = set(FLAGGED.get((species, name), {}))
            assert set(np.flatnonzero(~kept)) == lost
            np.testing.assert_array_equal(series.projections_px, whole.projections_px[images])
            np.testing.assert_array_equal(series.images.read(1), whole.images.read(int(images[1])))
            np.testing.assert_array_equal(particles.positions_px, all_particles.positions_px[kept])
            assert particles.trajectories_px is not None and all_particles.trajectories_px is not None
            np.testing.assert_array_equal(
                particles.trajectories_px, all_particles.trajectories_px[kept][:, images]
            )
        assert prefix == "" or "TS_03" in new.tomogram_names
        if dialect == "relion5":
            frames = dict(zip(new.particles.table.strings("rlnTomoName"),
                              new.particles.table.strings("rlnTomoVisibleFrames"), strict=True))  # fmt: skip
            assert frames["TS_01"] == "[1,2,3,4,6]" and frames["TS_02"] == "[0,1,3,4,5,6]"
    counts = read_star("Select/job004/tomograms.star").table("global").strings("rlnTomoFrameCount")
    assert list(counts) == ["5", "6", "7"]

    align = [word.format("Select/job004") for word in BOTH]
    assert run([*align, "--b", "40", "--b", "32", "--r", "6", "--dry_run", "--o", "Align/job005"]) == 0
    assert "TS_03" in capsys.readouterr().out


@relion5_only
@pytest.mark.parametrize(
    ("options", "large", "small"),
    [
        ([], 8, 11),
        (["--min_probability", "0.8"], 8, 10),
        (["--min_probability", "0.01"], 15, 12),
        (["--drop_flagged", "--min_probability", "0.8"], 8, 10),
        (["--drop_flagged", "--min_probability", "0.01"], 8, 11),
    ],
)
def test_options_say_which_particles_remain(
    project: Path, options: list[str], large: int, small: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["select", "--i", "Align/job003", *options, "--o", "Select/job004"]) == 0
    said = capsys.readouterr().out
    assert f"large: {large} of 15" in said and f"small: {small} of 12" in said
    assert "21 of 21 tilt images remain; 3 are flagged, which --drop_tilts leaves out" in said
    assert ("probability below 0.8" in said) == ("0.8" in options)
    for name, prefix in SPECIES.items():
        remaining = rows_of(cleaned(name))
        assert len(remaining) == {"large": large, "small": small}[name]
        assert set(remaining) <= set(rows_of(f"{prefix}particles.star"))
        files = open_dataset(Path(f"Select/job004/{name}/optimisation_set.star")).files
        assert files.require("tomograms") == project / "tomograms.star"  # that of the input


@relion5_only
def test_python_does_what_the_command_does(project: Path) -> None:
    one = tomopolish.select(
        SETS["small"], "Select/job006", min_probability=0.8, drop_flagged=True, drop_tilts=True
    )
    assert repr(one) == "SelectionRun(without 2 particles and 3 tilt images, Select/job006/)"
    assert "10 of 12 particles remain" in one.sentence()
    assert one.optimisation_set == Path("Select/job006/optimisation_set.star")
    assert run(["select", "--i", SETS["small"], "--min_probability", "0.8", "--drop_flagged",
                "--drop_tilts", "--o", "Select/job007"]) == 0  # fmt: skip
    for name in ("particles.star", "motion.star", "tilt_series/TS_02.star"):
        assert Path("Select/job006", name).read_bytes() == Path("Select/job007", name).read_bytes()
    # a second selection in the same folder replaces the first, and removes files that it does not need
    assert run(["select", "--i", SETS["small"], "--o", "Select/job007"]) == 0
    assert len(rows_of("Select/job007/particles.star")) == 11
    assert not Path("Select/job007/tomograms.star").exists()
    pytest.importorskip("pandas")
    frame = one.to_dataframe()
    assert frame.left_out.value_counts()["probability below 0.8"] == 1

    # the cleaned set again, with the scores of the set that it comes from: fewer particles have scores
    scores = Path(SETS["small"]).with_name("scores.star")
    again = tomopolish.select(one.optimisation_set, "Select/job008", scores=scores)
    assert "10 of 10 particles remain." in again.sentence()
    with pytest.raises(tomopolish.InputError, match=r"TS_01 has 7 tilt images, but 5 in .*TS_01\.star"):
        tomopolish.select(one.optimisation_set, "Select/job009", scores=scores, drop_tilts=True)


@pytest.mark.parametrize("dialect", ["relion4"])
def test_images_bound_to_their_rows_are_refused_with_a_remedy_that_works(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        drop_column("tomograms.star", name, "rlnMicrographName")
    words = ["select", "--i", "Align/job003", "--o", "Select/job004"]
    assert run([*words, "--drop_tilts"]) == 2
    said = capsys.readouterr().err
    assert "table TS_01: tilt images cannot be left out" in said and not Path("Select").exists()
    options = re.findall(r"--exclude_tilts (\S+)", said)
    assert options == ["TS_01:1,6", "TS_02:3"]
    assert run(words) == 0
    align = [word.format("Select/job004") for word in BOTH]
    excluded = [word for option in options for word in ("--exclude_tilts", option)]
    assert run([*align, *excluded, "--b", "40", "--b", "32", "--r", "6", "--dry_run", "--o", "out"]) == 0
    assert "tilt images 1, 6 of TS_01 are left out" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("dialect", ["relion4"])
def test_sections_in_another_order_than_the_rows_are_refused(project: Path) -> None:
    """Beside a stack of as many sections as rows, the order of the rows counts."""
    set_cell("tomograms.star", "TS_01", "rlnMicrographName", 1, "000003@tilt_series/TS_01.mrcs")
    with pytest.raises(
        tomopolish.InputError,
        match=r"TS_01: tilt images cannot .* exclude_tilts TS_01:1,6 \(in Python .*'TS_01': \[1, 6\]}\)$",
    ):
        tomopolish.select("Align/job003", "Select/job004", drop_tilts=True)


@relion5_only
def test_a_tomogram_without_images_loses_its_particles(project: Path) -> None:
    for name in SPECIES:
        scores = Path(SETS[name]).with_name("scores.star")
        table = read_star(scores).table("tilt_images")
        flags = ["1" if t == "TS_01" else "0" for t in table.strings("rlnTomoName")]
        write_star(scores, read_star(scores).with_table(table.with_columns({"tomopolishFlagged": flags})))
    done = tomopolish.select("Align/job003", "Select/job004", drop_tilts=True)
    assert "5 (no tilt image would remain)" in done.sentence()
    assert any("no tilt image of TS_01 would remain" in w for w in done.warnings)
    assert "21 of 21 tilt images remain" in done.sentence()
    assert all(row[0] != "TS_01" for name in SPECIES for row in rows_of(cleaned(name)))


REFUSED = {
    "not a probability": (["--min_probability", "1.5"], "--min_probability 1.5 must lie between 0 and 1"),
    "input folder": (["--o", "Align/job003"], "--o Align/job003 would replace the input Align/job003/"),
    "nothing left": (
        ["--min_probability", "0.98"],
        "small: no particle would remain: 11 (probability below 0.98), 1 (picked twice); give a lower",
    ),
    "scores of one": (["--scores", SETS["small"]], "--scores is given 1 times; give it once for each"),
    "others' scores": (
        ["--scores", "Align/job003/small/scores.star", "--scores", "Align/job003/large/scores.star"],
        "small/scores.star: TS_01 has scores, but not of its particle TS_01/5 in particles.star; give the",
    ),
    "no results": (["--i", "tilt_series"], "--i tilt_series: there is no optimisation_set.star in this"),
}


@relion5_only
@pytest.mark.parametrize("case", REFUSED)
def test_mistakes_are_refused(case: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options, says = REFUSED[case]
    source = [] if "--i" in options else ["--i", "Align/job003"]
    folder = [] if "--o" in options else ["--o", "Select/job004"]
    assert run(["select", *source, *options, *folder]) == 2
    assert says in capsys.readouterr().err
    assert not Path("Select").exists()


@relion5_only
def test_scores_are_needed_and_must_be_of_the_set(project: Path) -> None:
    scores = Path(SETS["large"]).with_name("scores.star")
    drop_column("particles.star", "particles", "rlnTomoParticleName")
    drop_column(SETS["large"], "", "rlnTomoTrajectoriesFile")
    assert "8 of 15" in tomopolish.select(SETS["large"], "Select/job004").sentence()
    edit("particles.star", "particles", lambda t: t.with_rows(np.arange(len(t)) != 2))
    with pytest.raises(
        tomopolish.InputError, match=r"TS_01 has 5 particles, but 4 in particles\.star, where"
    ):
        tomopolish.select(SETS["large"], "Select/job004")
    edit(scores, "particles", lambda t: t.with_columns({"rlnTomoName": ["TS_09"] * len(t)}))
    with pytest.raises(tomopolish.InputError, match=r"none of its tomograms is in particles\.star"):
        tomopolish.select(SETS["large"], "Select/job004")
    scores.unlink()
    with pytest.raises(tomopolish.InputError, match=r"large/scores\.star: file not found; .* with scores,"):
        tomopolish.select(SETS["large"], "Select/job004")
