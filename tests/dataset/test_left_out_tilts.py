"""An image that cannot be used costs that image: whole runs over tomograms, each damaged in its own way."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import tomopolish
from star_edits import drop_column, edit, set_cell
from tomopolish.cli import run
from tomopolish.dataset.mrc import read_header, write_stack
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.uncertainty import read_left_out
from tomopolish.errors import InputError
from tomopolish.output.report.gather import tomogram_details
from tomopolish.run.store import ResultsStore
from tomopolish.settings.tilts import TiltSelection, excluded_tilts
from tomopolish.simulate.evaluate import geometry_of
from tomopolish.simulate.geometry_errors import geometry_errors
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    read_truth,
    write_project,
)

SIZE = (168, 156)
SETTINGS = SimulationSettings(
    seed=17,
    tomograms=8,
    image_type="float32",
    molecule=MoleculeSettings(box_px=32, seed=4),
    acquisition=AcquisitionSettings(image_size_px=SIZE, pixel_size_angstrom=5.0, tilt_step_degrees=12.0),
    specimen=SpecimenSettings(particles=8, thickness_angstrom=350.0),
    noise=NoiseSettings(pair_snr=70.0),
    errors=PlantedErrors(max_displacement_px=3.0),
)
TILTS = 11


def images_of(name: str) -> np.ndarray:
    return read_header(stack(name)).read_volume()


def stack(name: str) -> Path:
    return Path(f"tilt_series/{name}.mrcs")


def series(name: str) -> Path:
    return Path(f"tilt_series/{name}.star")


def store(path: Path, images: np.ndarray) -> None:
    size = (images.shape[2], images.shape[1])
    write_stack(path, images, count=len(images), size_px=size, pixel_size_angstrom=5.0)


def dark_and_broken(name: str) -> None:
    """The first exposed image is dark, and a third of another one is no number."""
    images = images_of(name)
    images[5], images[2, 30:90] = 0.0, np.nan
    store(stack(name), images)


def values_missing(name: str) -> None:
    set_cell(series(name), name, "rlnDefocusU", 3, "nan")
    set_cell(series(name), name, "rlnMicrographPreExposure", 6, "?")
    set_cell(series(name), name, "rlnTomoXShiftAngst", 8, "")
    set_cell(series(name), name, "rlnTomoYTilt", 9, "1e300")


def cut_off(name: str) -> None:
    content = stack(name).read_bytes()
    stack(name).write_bytes(content[: -2 * 4 * SIZE[0] * SIZE[1] + 9])


def wild_pixels(name: str) -> None:
    images = images_of(name)
    images[1, 40, 50:52], images[7, 80, 90], images[7, 3, 3] = 1e30, -np.inf, np.nan
    store(stack(name), images)


def rows_removed(name: str) -> None:
    """Rows say which section is theirs, and three of them are gone."""
    rows = [0, 2, 3, 4, 5, 6, 7, 10]
    edit(
        series(name),
        name,
        lambda t: replace(
            t.with_columns({"rlnMicrographName": [f"{i + 1:06d}@{stack(name)}" for i in range(TILTS)]}),
            columns={},
        ).with_columns(
            {label: [cells[i] for i in rows] for label, cells in t.columns.items()}
            | {"rlnMicrographName": [f"{i + 1:06d}@{stack(name)}" for i in rows]}
        ),
    )


def files_missing(name: str) -> None:
    """Each image has a file of its own; one is gone, one has another size, one is text."""
    for i, image in enumerate(images_of(name)):
        store(Path(f"tilt_series/{name}_{i}.mrc"), image[None, : 100 if i == 4 else None])
    Path(f"tilt_series/{name}_1.mrc").unlink()
    Path(f"tilt_series/{name}_8.mrc").write_text("no image")
    names = [f"tilt_series/{name}_{i}.mrc" for i in range(TILTS)]
    edit(series(name), name, lambda t: t.with_columns({"rlnMicrographName": names}))
    row = open_dataset(Path("optimisation_set.star")).tomograms.row(name)
    set_cell("tomograms.star", "global", "rlnTomoTiltSeriesName", row, "None")


def all_dark(name: str) -> None:
    store(stack(name), np.full((TILTS, SIZE[1], SIZE[0]), 7.0, dtype=np.float32))


@dataclass(frozen=True)
class Damage:
    """Damage to a tomogram, the images that are left out for it, and parts of the messages."""

    change: Callable[[str], None]
    lost: tuple[int, ...] = ()
    says: tuple[str, ...] = ()


DAMAGES = {
    "TS_01": Damage(dark_and_broken, (2, 5), ("tilt image 6 of TS_01 is left out: the image is constant",)),
    "TS_02": Damage(
        values_missing, (3, 6, 8, 9), ("tilt image 4 of TS_02 is left out: rlnDefocusU is 'nan'",)
    ),
    "TS_03": Damage(cut_off, (9, 10), ("tilt images 10, 11 of TS_03 are left out: ", "is cut off")),
    "TS_04": Damage(wild_pixels, (), ("4 outlier pixels in tilt images 2, 8 of TS_04 were replaced",)),
    "TS_05": Damage(rows_removed),
    "TS_06": Damage(files_missing, (1, 4, 8), ("tilt image 2 of TS_06 is left out: ", "not found")),
    "TS_07": Damage(
        lambda name: None, (0, 9, 10), ("tilt images 1, 10, 11 of TS_07 are left out: --exclude",)
    ),
    "TS_08": Damage(all_dark, (), ("TS_08 failed: ", "none of the tilt images can be used")),
}
OPTIONS = ["--b", "32", "--j", "2", "--exclude_tilts", "TS_07:10-11", "--exclude_tilts", "TS_07:1"]


@dataclass(frozen=True)
class Outcome:
    folder: Path
    status: int
    err: str


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("damaged")
    write_project(folder, SETTINGS, threads=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, damage in DAMAGES.items():
            damage.change(name)
        shutil.copytree(folder / "tilt_series", folder / "as_read")
        err = io.StringIO()
        words = ["--i", "optimisation_set.star", "--r", "8", "--hold_out", "0", "--no_report", "--o", "out"]
        with redirect_stdout(io.StringIO()), redirect_stderr(err):
            status = run(["align", *words, *OPTIONS])
    return Outcome(folder, status, " ".join(err.getvalue().split()))


@pytest.fixture
def damaged(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.chdir(outcome.folder)
    return outcome


@pytest.mark.parametrize("name", [name for name in DAMAGES if name != "TS_08"])
def test_the_others_are_refined_and_its_row_stays(damaged: Outcome, name: str) -> None:
    damage = DAMAGES[name]
    assert damaged.status == 1  # TS_08 alone failed
    for part in damage.says:
        assert part in damaged.err
        assert damaged.err.count(part) == 1 or part.startswith(("is", "no"))
    result = ResultsStore(folder=Path("out/temp")).load(name)
    assert tuple(one.tilt for one in result.left_out) == damage.lost
    assert read_left_out(Path("out/uncertainty.star"))[name] == damage.lost
    before, after = (
        (Path(place) / f"{name}.star").read_text().splitlines() for place in ("as_read", "out/tilt_series")
    )
    cells = [[line.split() for line in lines if "." in line and len(line) > 60] for lines in (before, after)]
    kept = [i for i, rows in enumerate(zip(*cells, strict=True)) if rows[0] == rows[1]]
    assert kept == list(damage.lost)
    flags = tomogram_details(name, result, "open").tilts_to_inspect
    flagged = {flag.name.split()[0]: flag.reasons for flag in flags}
    for tilt in damage.lost:
        assert flagged[str(tilt + 1)][0].startswith("left out: ")
    if name == "TS_05":
        return
    truth = read_truth(Path("truth.json"))[name]
    refined = geometry_of(truth, *open_dataset(Path("out/optimisation_set.star")).load(name))
    errors = geometry_errors(truth, replace(refined, left_out=damage.lost))
    assert errors.rms_2d_angstrom < 1.7


def test_a_tomogram_without_images_fails_alone(damaged: Outcome) -> None:
    for part in DAMAGES["TS_08"].says:
        assert part in damaged.err
    assert Path("out/tilt_series/TS_08.star").exists()
    assert not ResultsStore(folder=Path("out/temp")).path("TS_08").exists()


def test_reconstruct_and_evaluate_leave_out_the_same_images(damaged: Outcome) -> None:
    Path("seven.star").write_text(
        "".join(
            line
            for line in Path("out/tomograms.star").read_text().splitlines(keepends=True)
            if not line.startswith("TS_08")
        )
    )
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        words = ["--i", "out/optimisation_set.star", "--t", "seven.star", "--o", "maps"]
        assert run(["reconstruct", *words, *OPTIONS]) == 0
        assert run(["evaluate", "--truth", "truth.json", "--i", "out/optimisation_set.star"]) == 1
    said = " ".join(err.getvalue().split())
    for name in ("TS_01", "TS_02", "TS_03", "TS_06", "TS_07"):
        assert f"of {name} {'is' if name in ('TS_01', 'TS_02') else ''}" in said
    assert "outlier pixels in tilt images 2, 8 of TS_04" in said
    assert "TS_05: the result has 8 tilt images, the truth 11" in said


def test_the_remedy_for_rows_that_do_not_match_the_stack_works(damaged: Outcome) -> None:
    original = series("TS_07").read_text()
    drop_column(series("TS_07"), "TS_07", "rlnMicrographName")
    lines = series("TS_07").read_text().splitlines(keepends=True)
    series("TS_07").write_text("".join(lines[:-4] + lines[-2:]))  # two images' rows are gone
    dataset = open_dataset(Path("optimisation_set.star"))
    with pytest.raises(InputError, match=r"has 9 rows.* has 11 sections.*--exclude_tilts TS_07:") as caught:
        dataset.load("TS_07")
    series("TS_07").write_text(original)
    option = str(caught.value).partition("--exclude_tilts ")[2].replace("NUMBERS", "8,9")
    selection = TiltSelection(excluded=excluded_tilts([option]))
    loaded, _ = dataset.selecting(selection).load("TS_07")
    assert [one.tilt for one in loaded.left_out] == [7, 8] and len(loaded) == 11


@pytest.mark.parametrize(
    ("options", "lost"),
    [
        ({"exclude_tilts": {"TS_04": [3, 1]}}, {0, 2}),
        ({"max_tilt_angle_degrees": 36.0}, {0, 1, 9, 10}),
        ({"max_dose": 20.0}, {0, 1, 9, 10}),
        ({"max_tilt_angle_degrees": 48.0, "exclude_tilts": {"TS_04": [5]}}, {0, 4, 10}),
    ],
)
def test_python_leaves_out_the_same(damaged: Outcome, options: dict, lost: set[int]) -> None:
    project = tomopolish.load("optimisation_set.star").first
    rows = project.particles.rows_by_tomogram["TS_04"]
    path = Path("four.star")
    lines = Path("particles.star").read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("TS_0") or "TS_04" in line))
    only = tomopolish.load("optimisation_set.star", particles=path)
    assert len(only.first.particles.table) == len(rows)
    done = tomopolish.align(only, box_px=32, range_px=8, **options)
    result = done.results["TS_04"]
    assert {one.tilt for one in result.left_out} == lost
    assert result.statistics.left_out_tilts == len(lost)
    reasons = ("left out: exclude_tilts", "left out: max_tilt_angle_degrees", "left out: max_dose")
    assert sum(reason in sentence for sentence in done.warnings for reason in reasons) == len(options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"exclude_tilts": {"TS_9": [1]}}, "lists no tomogram 'TS_9'"),
        ({"exclude_tilts": {"TS_04": [12]}}, "TS_04 has 11 tilt images"),
        ({"exclude_tilts": {"TS_04": [0]}}, "from 1"),
        (
            {"exclude_tilts": {"TS_04": range(1, 12)}, "strict": True},
            "none of its tilt images can be used: exclude_tilts",
        ),
        ({"max_dose": -3.0}, "max_dose=-3"),
        ({"max_tilt_angle_degrees": 200.0}, "max_tilt_angle_degrees=200"),
    ],
)
def test_selections_that_cannot_work_are_refused(damaged: Outcome, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        tomopolish.align(tomopolish.load("optimisation_set.star"), box_px=32, range_px=8, **options)


@pytest.mark.parametrize("value", ["TS_04", "TS_04:", ":3", "TS_04:3-", "TS_04:a", "TS_04:7-3", "TS_04:1;2"])
def test_values_of_the_option_that_cannot_be_read(value: str) -> None:
    with pytest.raises(InputError, match=r"--exclude_tilts .*TS_04|--exclude_tilts :3"):
        excluded_tilts([value])


def test_values_of_the_option_add_up() -> None:
    found = excluded_tilts(["a:b:3-5,1", "TS 1:7", "a:b: 4 , 9"])
    assert found == {"a:b": (1, 3, 4, 5, 9), "TS 1": (7,)}
