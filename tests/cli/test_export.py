"""`tomopolish export`: every option, what is left out, and that nothing is written elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import tomopolish
from star_edits import without_columns
from tomopolish.cli import run
from tomopolish.cli.export import COMMAND, FORMATS
from tomopolish.dataset.model import Alignment, Deformation
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.relion.particles import CENTRED, CORNERED
from tomopolish.dataset.star import format_floats, read_star, write_star
from tomopolish.output.exports.points import PICKS_NAME
from tomopolish.physics.geometry import relion5_projections
from tomopolish.run.commands import export as exports
from tomopolish.run.invocation import Invocation
from tomopolish.run.reporter import SilentReporter

ALL = {
    *[f"imod/{name}.{end}" for name in ("TS_01", "TS_02") for end in ("xf", "tlt", "xtilt")],
    *[f"warp/{name}.{end}" for name in ("TS_01", "TS_02") for end in ("xf", "tlt")],
    *[f"aretomo/{name}.aln" for name in ("TS_01", "TS_02")],
    *[f"napari/points/{name}.csv" for name in ("TS_01", "TS_02")],
    *[f"chimerax/particles/{name}.cmm" for name in ("TS_01", "TS_02")],
    *[f"chimerax/{name}{end}.cxc" for name in ("TS_01", "TS_02") for end in ("", "_artiax")],
    *[f"copick/ExperimentRuns/{name}/Picks/{PICKS_NAME}" for name in ("TS_01", "TS_02")],
    *[f"portal/{name}.ndjson" for name in ("TS_01", "TS_02")],
    "napari/open.py",
}
ORIENTED = {f"chimerax/{name}_artiax.cxc" for name in ("TS_01", "TS_02")}
"""Files that need another format's."""
MOTION = {"napari/tracks/TS_01.csv", "chimerax/motion/TS_01.cmm"}


def files(folder: Path) -> set[str]:
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if ".tomopolish" not in path.parts and path.stem != "run"}


def points(project: Path) -> np.ndarray:
    return np.loadtxt(project / "out/napari/points/TS_01.csv", delimiter=",", skiprows=1, ndmin=2)[:, 1:]


def refined(project: Path, **changes: Any) -> Path:
    """Write the project's sets again, with TS_01 changed; returns the new optimisation set."""
    dataset = open_dataset(Path("optimisation_set.star"))
    series, particles = dataset.load("TS_01")
    fields: dict[str, Any] = {
        "tomogram": "TS_01",
        "projections_px": series.projections_px,
        "rows": particles.rows,
        "positions_px": particles.positions_px,
    }
    alignment = Alignment(**(fields | changes))
    dataset.write(Path("refined"), {"TS_01": alignment}, motion=alignment.trajectories_px is not None)
    return project / "refined" / "optimisation_set.star"


def motion_of(project: Path) -> np.ndarray:
    """One px along x per image exposed."""
    series, particles = tomopolish.load(project / "optimisation_set.star").first.load("TS_01")
    offsets = np.zeros((len(particles), len(series), 3))
    offsets[:, series.chronological, 0] = np.arange(len(series))
    return offsets


def test_all_formats_of_all_tomograms(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--i", "optimisation_set.star", "--o", "out"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert all(word in shown.out for word in ("TS_01", "TS_02", "IMOD", "AreTomo", "Warp"))
    assert "run WarpTools ts_defocus_hand --check" in shown.out
    assert files(project / "out") == ALL
    _, particles = tomopolish.load("optimisation_set.star").first.load("TS_01")
    np.testing.assert_allclose(points(project), particles.positions_px[:, ::-1], atol=1e-4)


@pytest.mark.parametrize("name", FORMATS)
def test_format(name: str, project: Path) -> None:
    assert run(["export", "--i", "optimisation_set.star", "--o", "out", "--format", name]) == 0
    assert files(project / "out") == {file for file in ALL - ORIENTED if file.startswith(f"{name}/")}


def test_formats_of_the_parser_are_the_programs() -> None:
    assert FORMATS == exports.FORMATS


def test_every_option_has_a_test_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    for option in COMMAND.params:
        if option.name not in ("debug", "help", "config", "quiet", "verbose"):
            assert f'"{option.opts[0]}"' in text, option.opts[0]


def test_angpix(project: Path) -> None:
    assert run(["export", "--i", "optimisation_set.star", "--o", "out"]) == 0
    unbinned = points(project)
    pixel = open_dataset(Path("optimisation_set.star")).pixel_size_angstrom
    options = ["--o", "out", "--angpix", str(4 * pixel), "--format", "napari"]
    assert run(["export", "--i", "optimisation_set.star", *options]) == 0
    np.testing.assert_allclose(points(project), unbinned / 4, atol=1e-4)


def test_positions_in_px_are_those_of_the_reader(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    star = read_star("particles.star")
    table = star.table("particles")
    pixels = {label: table.floats(label) / 4 + 100 for label in CENTRED}
    cells = dict(zip(CORNERED, map(format_floats, pixels.values()), strict=True))
    write_star("particles.star", star.with_table(without_columns(table, CENTRED).with_columns(cells)))
    found = []
    for version in ("5", "4", "auto"):
        options = ["--o", f"out{version}", "--format", "napari", "--relion_version", version]
        assert run(["export", "--i", "optimisation_set.star", *options]) == 0
        assert f"as RELION {5 if version != '4' else '4.0'} does" in capsys.readouterr().out
        file = project / f"out{version}/napari/points/TS_01.csv"
        found.append(np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)[:, 1:])
    np.testing.assert_allclose(found[1] - found[0], 1, atol=1e-3)
    np.testing.assert_array_equal(found[2], found[0])


def test_sets_one_by_one(project: Path) -> None:
    table = (project / "particles.star").read_text().splitlines()
    kept = [line for line in table if not line.startswith("TS_01") or "TS_01/1 " in f"{line} "]
    (project / "fewer.star").write_text("\n".join([*kept, ""]))
    options = ["--p", "fewer.star", "--t", "tomograms.star", "--o", "out"]
    assert run(["export", *options]) == 0
    assert len(points(project)) == 1


def test_mot_and_magnify(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refined(project, trajectories_px=motion_of(project))
    options = ["--i", "optimisation_set.star", "--mot", "refined/motion.star", "--o", "out"]
    assert run(["export", *options]) == 0
    assert files(project / "out") >= ALL | MOTION
    warnings = capsys.readouterr().err
    assert "TS_01: the particles' motion, up to " in warnings
    pixel = open_dataset(Path("optimisation_set.star")).pixel_size_angstrom
    for factor in (1.0, 8.0):
        assert run(["export", *options, "--magnify", str(factor)]) == 0
        track = np.loadtxt(project / "out/napari/tracks/TS_01.csv", delimiter=",", skiprows=1)[:11]
        np.testing.assert_allclose(track[:, 4] - track[0, 4], factor * np.arange(11), atol=1e-3)
        chain = list(ElementTree.parse(project / "out/chimerax/motion/TS_01.cmm").getroot())[:11]
        x = np.array([float(marker.get("x", "")) for marker in chain])
        np.testing.assert_allclose(x - x[0], factor * pixel * np.arange(11), atol=2e-3)


def test_a_tilt_about_x_draws_a_warning_where_a_format_has_no_place_for_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series, _ = tomopolish.load("optimisation_set.star").first.load("TS_01")
    angles = np.stack([np.full(11, 4.0), np.linspace(-50, 50, 11), np.full(11, 85.0)], axis=-1)
    projections = relion5_projections(
        angles, np.zeros((11, 2)), series.image_size_px, series.tomogram_size_px
    )
    new = refined(project, projections_px=projections)
    assert run(["export", "--i", str(new), "--o", "out"]) == 0
    shown = capsys.readouterr()
    (warning,) = shown.err.splitlines()
    assert warning.startswith("warning: TS_01: the files for AreTomo and Warp cannot describe ")
    row = next(line for line in shown.out.splitlines() if line.startswith("TS_01  "))
    imod, aretomo, warp = map(float, row.split()[-3:])
    assert imod < 1e-3
    assert min(aretomo, warp) > exports.NOTABLE_PX
    assert f"up to {max(aretomo, warp):.2f} px" in warning
    resolution = re.search(r"to better than about (\d+) Å", warning)
    assert resolution is not None
    assert int(resolution[1]) == round(4 * max(aretomo, warp) * series.pixel_size_angstrom)


def test_a_deformation_draws_a_warning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deformation = Deformation(model="linear", grid=(3, 3), coefficients=np.full((11, 3), 0.02))
    new = refined(project, deformation=deformation)
    assert run(["export", "--i", str(new), "--o", "out", "--format", "imod"]) == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: TS_01: the images' deformation, up to ")
    assert run(["export", "--i", str(new), "--o", "out", "--format", "napari"]) == 0
    assert capsys.readouterr().err == ""  # points of napari are in space


def test_tomograms_without_particles_are_exported_too(project: Path) -> None:
    table = (project / "particles.star").read_text().splitlines()
    kept = [line for line in table if not line.startswith("TS_02")]
    (project / "particles.star").write_text("\n".join([*kept, ""]))
    assert run(["export", "--i", "optimisation_set.star", "--o", "out"]) == 0
    assert files(project / "out") == ALL


def test_one_broken_tomogram_is_left_out_and_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "tilt_series/TS_01.mrcs").unlink()
    assert run(["export", "--i", "optimisation_set.star", "--o", "out"]) == 1
    shown = capsys.readouterr()
    assert "warning: TS_01 is left out: " in shown.err
    assert "Left out: TS_01." in shown.out
    assert files(project / "out") == {file for file in ALL if "TS_01" not in file}


def test_hostile_names_stay_in_the_output_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("../../TS_01", "/etc/TS_02")
    for path in (project / "tomograms.star", project / "particles.star"):
        text = path.read_text()
        lines = [
            line.replace("TS_01", names[0], 1)
            if line.startswith("TS_01")
            else line.replace("TS_02", names[1], 1)
            if line.startswith("TS_02")
            else line
            for line in text.splitlines()
        ]
        path.write_text("\n".join([*lines, ""]))
    for name, file in zip(names, ("TS_01", "TS_02"), strict=True):
        path = project / "tilt_series" / f"{file}.star"
        text = path.read_text().replace(f"data_{file}", f"data_{name}")
        path.unlink()
        path.write_text(text)
    before = files(project.parent)
    assert run(["export", "--i", "optimisation_set.star", "--o", "out"]) == 0
    new = files(project.parent) - before
    assert len(new) == len(ALL)
    assert all(file.startswith("project/out/") for file in new)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["TS_1.tomostar", "TS_2.tomostar"], ["TS_1", "TS_2"]),
        (["TS_1.tomostar", "TS_1"], ["TS_1.tomostar", "TS_1"]),
        ([".tomostar", "a/b"], ["tomostar", "a_b"]),
    ],
)
def test_warp_finds_files_by_the_names_of_its_tilt_series(names: list[str], wanted: list[str]) -> None:
    assert list(exports._warp_stems(names).values()) == wanted


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--angpix", "0"], "--angpix"),
        (["--angpix", "nan"], "--angpix"),
        (["--magnify", "-1"], "--magnify"),
        (["--format", "eman"], "--format"),
    ],
)
def test_what_cannot_work_is_refused(
    options: list[str], word: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", "--i", "optimisation_set.star", "--o", "out", *options]) == 2
    assert word in capsys.readouterr().err
    assert not (project / "out").exists()


def test_from_python_the_residuals_are_numbers(project: Path) -> None:
    dataset: Dataset = tomopolish.load("optimisation_set.star").first
    settings = exports.ExportSettings(output_folder=Path("out"), formats=("aretomo",))
    found = exports.export_dataset(dataset, settings, SilentReporter(), Invocation())
    assert found.tomograms["TS_01"].residual_px["aretomo"] < 1e-3
    assert not found.failures


def test_overwrite(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "out/imod").mkdir(parents=True)
    mine = project / "out/imod/TS_02.xf"
    mine.write_text("of another program\n")
    options = ["export", "--i", "optimisation_set.star", "--format", "imod", "--o", "out"]
    assert run(options) == 2
    assert "would replace imod/TS_02.xf, which this program did not write there" in capsys.readouterr().err
    assert files(project / "out") == {"imod/TS_02.xf"}
    assert run([*options, "--overwrite"]) == run(options) == 0
    assert "of another program" not in mine.read_text()
