"""`tomopolish polish` with two species: shared projections, and maps, FSC and files of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from runs_in_round_2 import at_round_2
from scipy.ndimage import affine_transform, gaussian_filter
from two_species import BOXES, PIXEL, SIMULATED, write_two_species

import tomopolish
from tomopolish.cli import run
from tomopolish.dataset.mrc import write_volume
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.fsc_file import write_fsc
from tomopolish.dataset.star import read_star
from tomopolish.imaging.fsc import shell_correlation
from tomopolish.output.rounds_page import ComparedSlices, RoundsPage, write_page
from tomopolish.physics.geometry import rotation_from_vector, rotation_vector
from tomopolish.results.rounds import Round, SpeciesRound
from tomopolish.simulate.project import write_project

OPTIONS = ["polish", "--i", "species.yaml", "--r", "5", "--hold_out", "0", "--orientations", "--no_report"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("species")
    write_two_species(folder)
    return folder


@pytest.fixture
def copied(simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project without output; it is the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(simulated, folder, ignore=lambda at, _: ["out"] if Path(at) == simulated else [])
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def project(simulated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(simulated)
    return simulated


def read_map(path: Path) -> np.ndarray:
    with mrcfile.open(path) as file:
        return np.array(file.data)


@pytest.fixture(scope="module")
def polished(simulated: Path) -> Path:
    """The output folder of an undisturbed run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(simulated)
        assert run([*OPTIONS, "--o", "out", "--rounds", "2"]) == 0
    return simulated / "out"


def test_each_species_has_its_maps_and_figures(
    project: Path, polished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = read_star(project / "out/rounds.star").table("rounds")
    names, numbers = table.strings("tomopolishSpecies"), table.ints("tomopolishRound")
    best = table.ints("tomopolishIsBest").astype(bool)
    assert names[:2] == ["ribosome", "fas"] and numbers.tolist() == [0, 0, 1, 1, 2, 2]
    mean = table.floats("tomopolishMeanFsc").reshape(3, 2)
    chosen = mean[int(numbers[best][0])]
    assert (chosen > mean[0] + 0.05).all()
    sets = {}
    for name, box in BOXES.items():
        folder = project / "out" / name
        sets[name] = open_dataset(folder / "optimisation_set.star")
        assert sets[name].references().size_px == box
        assert f"round{numbers[best][0]:02d}/{name}/maps" in str(sets[name].files.paths["fsc"])
        assert read_star(folder / "postprocess.star").names == ("general", "fsc", "guinier")
        assert read_map(folder / "postprocess_masked.mrc").shape == (box,) * 3
        assert f"{name}/maps/postprocess.mrc" in (folder / "before_after.cxc").read_text()
    ribosome, fas = sets.values()
    assert ribosome.files.require("tomograms") == fas.files.require("tomograms")
    assert ribosome.tomogram_names == ("TS_01",) and fas.tomogram_names == ("TS_01", "TS_02")
    refined = open_dataset(Path(f"out/round{numbers[best][0]:02d}/fas/optimisation_set.star"))
    before = open_dataset(Path("optimisation_set.star"))
    for tomogram in fas.tomogram_names:  # also where the half sets were brought into one frame
        expected = refined.tomograms.load(tomogram).projections_px
        np.testing.assert_allclose(fas.tomograms.load(tomogram).projections_px, expected, atol=1e-4)
        assert np.abs(expected - before.tomograms.load(tomogram).projections_px).max() > 0.3
    assert run(["select", "--i", "out", "--o", "selected"]) == 2
    best_folder = f"out/round{numbers[best][0]:02d}"
    assert f"--i {best_folder}\n" in capsys.readouterr().err
    assert run(["select", "--i", best_folder, "--o", "selected"]) == 0


def test_a_run_killed_in_round_2_ends_with_the_files_of_an_undisturbed_run(
    copied: Path, polished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*OPTIONS, "--o", "out", "--rounds", "2"]
    with at_round_2("refined", *options[1:]) as process:
        process.kill()
        process.communicate()
    (copied / "out/round01/fas/maps/half2.mrc").unlink()
    unfinished = [
        copied / "out" / folder / f".half1.mrc.{'0' * 32}.part"
        for folder in ("round01/ribosome/maps", "round01/one_frame/fas", "round02/fas/maps")
    ]
    for path in unfinished:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    capsys.readouterr()
    assert run([*options, "--only_do_unfinished"]) == 0
    said = capsys.readouterr().out
    assert "Finished earlier: round00\n" in said  # the round without one of its maps is made again
    assert "Round 1: " in said and said.count("finished earlier") == 3  # but its tomograms are not
    assert "(ribosome)" in said and "(fas)" in said
    files, expected = (
        {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
        for folder in (copied / "out", polished)
    )
    assert files.keys() == expected.keys()
    for name in files:
        if name.suffix in (".star", ".mrc") and name.name != "rounds.star":  # which has the time it took
            assert files[name].read_bytes() == expected[name].read_bytes(), name
    tables = [read_star(folder / "out/rounds.star").table("rounds") for folder in (copied, polished.parent)]
    for label in ("tomopolishMeanFsc", "tomopolishIsBest", "tomopolishShiftChangeAngst"):
        assert tables[0].strings(label) == tables[1].strings(label)


def test_a_map_that_is_turned_turns_its_own_half_set_alone(copied: Path) -> None:
    fixed = ["--const_a", "--const_s", "--const_p", "--no_outliers", "--ref_scale", "1", "--rounds", "1"]
    rotations = []
    for name in ("before", "turned"):
        if name == "turned":
            turn, centre = rotation_from_vector(np.deg2rad([0.0, 0.0, 6.0])), np.full(3, 16.0)
            second = affine_transform(read_map(copied / "ref_half2.mrc"), turn, centre - turn @ centre)
            write_volume(copied / "ref_half2.mrc", second, PIXEL)
        assert run([*OPTIONS, *fixed, "--o", name]) == 0
        sets = [open_dataset(Path(f"{name}/round01/{each}/optimisation_set.star")) for each in BOXES]
        rotations.append([each.load("TS_01")[1].rotations for each in sets])
    inputs = [open_dataset(Path(name)) for name in ("optimisation_set.star", "fas_optimisation_set.star")]
    half_sets = [each.load("TS_01")[1].half_set for each in inputs]

    def turned_degrees(species: int, half: int) -> float:
        first, second = (each[species][half_sets[species] == half] for each in rotations)
        turns = rotation_vector(np.swapaxes(first, 1, 2) @ second)
        return float(np.rad2deg(np.sqrt(np.mean(np.sum(turns**2, axis=1)))))

    # Scales of tilt images and the width of the orientations' prior belong to all particles.
    of_half_sets = {(species, half): turned_degrees(species, half) for species in (0, 1) for half in (0, 1)}
    own = of_half_sets.pop((0, 1))
    assert own > 4.0
    assert max(of_half_sets.values()) < 0.25 * own


def test_a_yaml_file_states_the_point_group_of_a_species(project: Path) -> None:
    assert run([*OPTIONS, "--const_p", "--rounds", "1", "--o", "symmetric"]) == 0
    deviations = []
    for name in BOXES:
        volume = read_map(project / f"symmetric/round00/{name}/maps/merged.mrc")[:, 1:, 1:]
        deviations.append(np.std(volume - volume[:, ::-1, ::-1]) / np.std(volume))
    assert deviations[0] > 0.3
    assert deviations[1] < 1e-3


def test_noise_stays_noise_in_each_species(
    simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, SIMULATED)
    rng = np.random.default_rng(6)
    for path in Path("tilt_series").glob("*.mrc*"):
        with mrcfile.mmap(path, mode="r+") as stack:
            stack.data[:] = rng.standard_normal(stack.data.shape)
    sets = {"ribosome": ("optimisation_set.star", ""), "fas": ("fas_optimisation_set.star", "fas/")}
    for name, (_, folder) in sets.items():
        box = BOXES[name]
        for number in (1, 2):
            path = tmp_path / f"{folder}ref_half{number}.mrc"
            noise = gaussian_filter(rng.standard_normal((box,) * 3), 1.0)
            strength = read_map(path).std() / noise.std()
            write_volume(path, (strength * noise).astype(np.float32), PIXEL)
        curve = 0.95 * (np.arange(box // 2 + 1) <= box * PIXEL / 14.0)
        write_fsc(tmp_path / f"{folder}fsc.star", {"corrected": curve}, box_px=box, pixel_size_angstrom=PIXEL)
    polished = tomopolish.polish(
        {name: path for name, (path, _) in sets.items()},
        "noise",
        box_px=BOXES,
        range_px=5,
        max_rounds=1,
        held_out_fraction=0.0,
        reference_scale=1.0,
        report=False,
    )
    assert polished.optimisation_sets["fas"] == tmp_path / "noise/fas/optimisation_set.star"
    assert polished.to_dataframe().species.tolist() == ["ribosome", "fas"] * 2
    for maps in polished.rounds[1].species:
        halves = [read_map(Path(maps.optimisation_set).parent / f"half{n}.mrc") for n in (1, 2)]
        assert shell_correlation(np.stack(halves), None).unmasked[2:8].mean() < 0.12


def test_the_report_shows_the_curves_and_slices_of_each_species(tmp_path: Path) -> None:
    species = [
        SpeciesRound(
            name=name,
            optimisation_set=f"{name}.star",
            fsc=tuple(np.linspace(1, 0, box // 2 + 1)),
            resolution_angstrom=(10.0, 12.0),
            bfactor_angstrom2=0.0,
        )
        for name, box in BOXES.items()
    ]
    slices = [ComparedSlices.of(*np.ones((2, box, box, box), np.float32)) for box in BOXES.values()]
    page = RoundsPage(
        rounds=[Round(number=0, species=tuple(species))],
        reason="",
        slices=slices,
        pixel_size_angstrom=PIXEL,
        note=[],
    )
    write_page(tmp_path / "report.html", page)
    text = (tmp_path / "report.html").read_text()
    for name in BOXES:
        assert f"FSC of the half maps of {name}" in text and f"The sharpened map of {name}" in text
        assert f"<td>{name}</td>" in text


def test_a_dry_run_states_what_all_species_need(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*OPTIONS, "--o", "dry", "--dry_run"]) == 0
    assert "for each round in dry" in capsys.readouterr().out
    assert not (project / "dry").exists()
    assert run([*OPTIONS, "--o", "dry", "--crop", "30"]) == 2
    assert "mask has 32^3 px, but --crop is 30" in capsys.readouterr().err
