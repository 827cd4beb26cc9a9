"""`tomopolish polish` with two species: shared projections, and maps, FSC and files of each."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import tomopolish
from tomopolish.cli import run
from tomopolish.dataset.mrc import write_volume
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.fsc_file import write_fsc
from tomopolish.dataset.star import read_star
from tomopolish.imaging.fsc import shell_correlation
from tomopolish.output.rounds_page import ComparedSlices, RoundsPage, write_page
from tomopolish.results.rounds import Round, SpeciesRound
from tomopolish.settings.simulated_structure import CompanionSettings, MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.project import write_project

PIXEL, BOXES = 4.0, {"ribosome": 32, "fas": 28}
SIMULATED = SimulationSettings(
    seed=9,
    tomograms=2,
    molecule=MoleculeSettings(box_px=32, seed=9, blobs=40),
    acquisition=AcquisitionSettings(
        image_size_px=(200, 200), pixel_size_angstrom=PIXEL, tilt_step_degrees=15.0
    ),
    specimen=SpecimenSettings(
        particles=14,
        tomogram_size_px=(200, 200, 90),
        thickness_angstrom=240.0,
        min_distance_px=10.0,
        edge_margin_px=20.0,
    ),
    errors=PlantedErrors(shift_px=1.0, angle_degrees=0.1, position_px=1.0),
    noise=NoiseSettings(pair_snr=150.0),
    companions=(
        CompanionSettings(
            name="fas",
            molecule=MoleculeSettings(box_px=28, seed=4, blobs=40),
            particles=14,
            pair_snr=150.0,
        ),
    ),
)
YAML = """species:
- {name: ribosome, optimisation_set: optimisation_set.star, box: 32}
- {name: fas, optimisation_set: fas_optimisation_set.star, box: 28, sym: C2}
"""
OPTIONS = ["polish", "--i", "species.yaml", "--r", "5", "--hold_out", "0", "--orientations", "--no_report"]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two species, of which the first has no particles in the second tomogram."""
    folder = tmp_path_factory.mktemp("species")
    write_project(folder, SIMULATED)
    (folder / "species.yaml").write_text(YAML)
    lines = (folder / "particles.star").read_text().split("\n")
    (folder / "particles.star").write_text("\n".join(x for x in lines if not x.startswith("TS_02")))
    return folder


@pytest.fixture
def project(simulated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(simulated)
    return simulated


def read_map(path: Path) -> np.ndarray:
    with mrcfile.open(path) as file:
        return np.array(file.data)


def test_each_species_has_its_maps_and_the_rounds_go_on_where_they_ended(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*OPTIONS, "--o", "out", "--rounds", "1"]) == 0
    capsys.readouterr()
    (project / "out/round01/fas/maps/half2.mrc").unlink()
    assert run([*OPTIONS, "--o", "out", "--rounds", "2", "--only_do_unfinished"]) == 0
    said = capsys.readouterr().out
    assert "Finished earlier: round00\n" in said  # the round without one of its maps is made again
    assert "Round 1: " in said and said.count("finished earlier") == 2  # but its tomograms are not
    assert "(ribosome)" in said and "(fas)" in said
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
