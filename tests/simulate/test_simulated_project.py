"""Simulated projects on disk: complete, readable, reproducible."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulation_cases import varied

from tomopolish.dataset.mrc import read_header, write_volume
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.tomograms import Dialect
from tomopolish.dataset.star import read_star
from tomopolish.errors import InputError, RunError
from tomopolish.simulate.molecule import synthesise_molecule
from tomopolish.simulate.parts import (
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    build_structure,
    read_truth,
    simulate_tilt_series,
    simulate_tomogram,
    write_project,
)


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.parametrize("dialect", ["relion5", "relion4"])
def test_project_reads_back_as_it_was_simulated(
    small: SimulationSettings, tmp_path: Path, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(small, dialect=dialect, tomograms=2, motion=PlantedMotion(), warp=PlantedWarp())
    settings = varied(
        settings,
        "acquisition",
        file_order="shuffled",
        optics_groups=2,
        even_zernike=(0.1, 0.2),
        odd_zernike=(0.3,),
        phase_shift_degrees=3.0,
        bfactor_angstrom2=20.0,
        bfactor_per_dose=2.0,
        defocus_slope=0.9,
        hand=1.0,
        scale_follows_tilt=True,
    )
    monkeypatch.chdir(tmp_path)
    path = write_project(Path("project"), settings)
    assert path == Path("project/optimisation_set.star")
    dataset = open_dataset(path)
    assert dataset.tomograms.dialect is (Dialect.RELION_5 if dialect == "relion5" else Dialect.RELION_4)
    assert dataset.tomogram_names == ("TS_01", "TS_02")
    truths = read_truth(Path("project/truth.json"))
    for index, name in enumerate(dataset.tomogram_names):
        series, particles = dataset.load(name)
        expected = simulate_tomogram(settings, index)
        assert series.tomogram_size_px == (203, 175, 151)
        assert series.image_size_px == (201, 173)
        assert (series.hand, series.defocus_slope, series.fractional_dose) == (1.0, 0.9, 3.0)
        assert series.microscope == expected.series.microscope
        np.testing.assert_allclose(series.projections_px, expected.series.projections_px, atol=1e-5)
        np.testing.assert_allclose(series.pre_exposure, expected.series.pre_exposure)
        np.testing.assert_allclose(series.bfactor_per_dose, 2.0)
        for field in ("defocus_u_angstrom", "defocus_angle_degrees", "phase_shift_degrees"):
            np.testing.assert_allclose(
                getattr(series.ctf, field), getattr(expected.series.ctf, field), atol=1e-5
            )
        np.testing.assert_allclose(series.ctf.bfactor_angstrom2, 20.0)
        np.testing.assert_allclose(series.ctf.scale, np.cos(np.deg2rad(expected.angles_degrees)), atol=1e-6)
        assert particles.names == expected.particles.names
        np.testing.assert_allclose(particles.positions_px, expected.particles.positions_px, atol=1e-5)
        np.testing.assert_allclose(particles.rotations, expected.particles.rotations, atol=1e-6)
        np.testing.assert_array_equal(particles.half_set, expected.particles.half_set)
        np.testing.assert_array_equal(particles.optics_group, expected.particles.optics_group)
        np.testing.assert_array_equal(particles.rows, expected.particles.rows)
        assert particles.optics_groups[0].even_zernike == (0.1, 0.2)
        assert particles.optics_groups[1].odd_zernike == (0.0,)
        assert particles.trajectories_px is None and series.deformation is None  # the input knows neither
        np.testing.assert_allclose(series.images.read(4), expected.images.read(4), atol=5e-3)
        truth = truths[name]
        np.testing.assert_array_equal(truth.positions_2d_px, expected.truth.positions_2d_px)
        np.testing.assert_array_equal(truth.trajectories_px, expected.truth.trajectories_px)
        assert truth.deformation is not None and truth.deformation.model == "Fourier"


def test_references_read_back(small: SimulationSettings, tmp_path: Path) -> None:
    references = open_dataset(write_project(tmp_path, small), working_directory=tmp_path).references()
    expected = build_structure(small).references
    np.testing.assert_array_equal(references.half_maps, expected.half_maps)
    assert references.mask is not None and references.fsc is not None
    np.testing.assert_array_equal(references.mask, expected.mask)
    np.testing.assert_allclose(references.fsc, expected.fsc, atol=1e-6)
    assert (references.pixel_size_angstrom, references.fsc_box) == (4.0, 48)


@pytest.mark.parametrize("dialect", ["relion5", "relion4"])
def test_layout_is_that_of_the_reference_data_set(
    small: SimulationSettings, tmp_path: Path, mini: Path, dialect: str
) -> None:
    write_project(tmp_path, replace(small, dialect=dialect))
    suffix = "" if dialect == "relion5" else "_r4"
    for name in ("optimisation_set", "tomograms", "particles"):
        made, reference = read_star(tmp_path / f"{name}.star"), read_star(mini / f"{name}{suffix}.star")
        assert made.names == reference.names
        assert made.version == reference.version or dialect == "relion4"
        for table, model in zip(made.tables, reference.tables, strict=True):
            assert set(table.columns) == set(model.columns)
    assert set(read_star(tmp_path / "fsc.star").table("fsc").columns) == set(
        read_star(mini / "fsc.star").table("fsc").columns
    )
    truth, reference_truth = (json.loads((f / "truth.json").read_text()) for f in (tmp_path, mini))
    assert set(reference_truth["TS_01"]) <= set(truth["TS_01"])


def test_equal_settings_make_equal_files(small: SimulationSettings, tmp_path: Path) -> None:
    settings = replace(small, tomograms=2)
    settings = varied(settings, "noise", low_frequency_excess=3.0)
    write_project(tmp_path / "a", settings)
    build_structure.cache_clear()
    write_project(tmp_path / "b", settings, threads=2)
    assert _digests(tmp_path / "a") == _digests(tmp_path / "b")
    write_project(tmp_path / "c", replace(settings, seed=12))
    different = [k for k, v in _digests(tmp_path / "c").items() if v != _digests(tmp_path / "a")[k]]
    assert {"tilt_series/TS_01.mrcs", "particles.star", "ref_half1.mrc", "truth.json"} <= set(different)


@pytest.mark.parametrize(("image_type", "tolerance"), [("float32", 0.0), ("float16", 0.004), ("int16", 0.5)])
def test_image_types(small: SimulationSettings, tmp_path: Path, image_type: str, tolerance: float) -> None:
    settings = replace(small, image_type=image_type)
    dataset = open_dataset(write_project(tmp_path, settings), working_directory=tmp_path)
    stored, _ = dataset.load("TS_01")
    series, *_ = simulate_tilt_series(settings)
    difference = np.abs(stored.images.read(7) - series.images.read(7)).max()
    assert difference <= tolerance
    assert np.dtype(read_header(tmp_path / "tilt_series" / "TS_01.mrcs").dtype) == image_type
    assert read_header(tmp_path / "tilt_series" / "TS_01.mrcs").pixel_size_angstrom == pytest.approx(4.0)
    assert np.std(series.images.read(7)) > (50 if image_type == "int16" else 0.5)


def test_a_given_map_is_simulated(small: SimulationSettings, tmp_path: Path) -> None:
    path = tmp_path / "map.mrc"
    density = synthesise_molecule(seed=9, diameter_px=24.0, blobs=60).density_map(40)
    write_volume(path, 7.5 * density + np.float32(3.0), 4.0)
    settings = varied(small, "molecule", map_path=path)
    structure = build_structure(settings)
    assert structure.box_px == 40
    similarity = np.corrcoef(structure.density.ravel(), density.ravel())[0, 1]
    assert similarity > 0.99
    truth = read_truth(write_project(tmp_path / "project", settings).parent / "truth.json")["TS_01"]
    assert truth.box_px == 40 and truth.settings is not None
    assert truth.settings["molecule"]["map_path"] == str(path)


@pytest.mark.parametrize(
    ("shape", "pixel", "values", "words"),
    [
        ((40, 40, 42), 4.0, "noise", "42 x 40 x 40 px cannot be simulated"),
        ((41, 41, 41), 4.0, "noise", "even cube"),
        ((40, 40, 40), 3.0, "noise", "3 Å per pixel"),
        ((40, 40, 40), 4.0, "constant", "constant"),
        ((40, 40, 40), 4.0, "nan", "not numbers"),
    ],
)
def test_maps_that_cannot_be_used_are_refused(
    small: SimulationSettings, tmp_path: Path, shape: tuple, pixel: float, values: str, words: str
) -> None:
    volume = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if values == "constant":
        volume[...] = 1
    write_volume(tmp_path / "map.mrc", volume, pixel)
    if values == "nan":
        np.memmap(tmp_path / "map.mrc", dtype=np.float32, mode="r+", offset=1024)[5000] = np.nan
    with pytest.raises(InputError, match=words):
        build_structure(varied(small, "molecule", map_path=tmp_path / "map.mrc"))


def test_a_box_larger_than_the_images_is_refused(small: SimulationSettings) -> None:
    with pytest.raises(InputError, match="larger than the images"):
        simulate_tomogram(varied(small, "acquisition", image_size_px=(201, 40)))


def test_a_folder_that_cannot_be_made_is_an_error(small: SimulationSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="this is a file"):
        write_project(tmp_path / "file", small)
    with pytest.raises(RunError, match="cannot be written"):
        write_project(tmp_path / "file" / "below", small)


def test_truth_survives_its_file(small: SimulationSettings, tmp_path: Path) -> None:
    settings = varied(small, "noise", pair_snr=math.inf)
    write_project(tmp_path, settings)
    found, expected = read_truth(tmp_path / "truth.json")["TS_01"], simulate_tomogram(settings).truth
    for name in (
        *["projections_px", "input_projections_px", "positions_px", "input_positions_px", "rotations"],
        *["trajectories_px", "positions_2d_px", "pre_exposure", "tomogram_centre_px", "visible"],
    ):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.particle_names == expected.particle_names
    assert found.image_size_px == (201, 173)
    assert found.settings is not None and found.settings["noise"]["pair_snr"] is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSON"),
        ("[1, 2]", "JSON"),
        ('{"TS_01": {"P": []}}', "no entry"),
        ('{"TS_01": {"size": [5, 5], "P": "x"}}', "JSON"),
        (None, "cannot be read"),
    ],
)
def test_a_malformed_truth_is_refused(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "truth.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        read_truth(path)
    assert str(path) in str(caught.value)
