"""The Python API does what the commands do."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

import tomopolish
from tomopolish import (
    AcquisitionSettings,
    DeformationSettings,
    InputError,
    KeywordError,
    MoleculeSettings,
    MotionSettings,
    RunError,
    SimulationRun,
    SpecimenSettings,
    align,
    evaluate,
    export,
    load,
    plan,
    reconstruct,
    report,
    select,
    simulate,
    tune,
)
from tomopolish.api import keywords
from tomopolish.api.simulation import SimulateOptions
from tomopolish.cli import COMMANDS, run
from tomopolish.settings.alignment import FitSettings, RunSettings, WeightSettings, WindowSettings
from tomopolish.settings.simulation import SimulationSettings
from tomopolish.settings.wording import ARGUMENTS

SET = "optimisation_set.star"
SHELL = ["align", "--i", SET, "--b", "48", "--r", "6", "--j", "2", "--o", "shell"]


def test_a_run_with_a_folder_leaves_what_the_command_leaves(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(SHELL) == 0
    said = capsys.readouterr().out
    result = align(load(SET), "python", box_px=48, range_px=6, threads=2)
    assert capsys.readouterr() == ("", "")
    files = {
        folder: sorted(p.relative_to(folder) for p in Path(folder).rglob("*") if p.is_file())
        for folder in ("shell", "python")
    }
    assert files["python"] == files["shell"]
    for name in ("particles.star", "tilt_series/TS_01.star", "uncertainty.star"):
        assert Path("python", name).read_bytes() == Path("shell", name).read_bytes()
    assert result.sentence() in said
    assert result.verdict is not None and result.verdict.sentence() == result.sentence()
    for table in result.tables[:2]:
        assert table.plain() in said
    assert result.optimisation_set == Path("python", SET)
    assert result.report_path == Path("python/report.html")
    assert repr(result) == "AlignmentRun(2 tomograms, helped, python/)"
    html = result._repr_html_()
    assert html.count("<table>") == 3 and "TS_02" in html and result.sentence() in html


def test_the_note_has_a_command_that_does_the_same(project: Path) -> None:
    options: Any = {"max_iterations": 2, "motion": MotionSettings(velocity_scale=0.3), "report": False}
    align(load(SET, mask="mask.mrc"), Path("one"), box_px=48, range_px=6, **options)
    (command,) = [
        line.removeprefix("command: python -c ")
        for line in Path("one/note.txt").read_text().splitlines()
        if line.startswith("command: python -c ")
    ]
    (code,) = shlex.split(command)
    exec(code.replace('"one"', '"two"'))
    assert Path("two/motion.star").read_bytes() == Path("one/motion.star").read_bytes()


def test_results_in_memory_are_arrays_and_can_be_written(project: Path) -> None:
    loaded = load(SET)
    assert repr(loaded) == f"Project(2 tomograms, {len(loaded.first.particles)} particles)"
    aligned = align(loaded, box_px=48, range_px=6, threads=2)
    assert repr(aligned) == "AlignmentRun(2 tomograms, helped, in memory)"
    assert not list(project.glob("note*"))
    tomogram = loaded.tomogram("TS_01")
    series, particles = tomogram.series, tomogram.particles
    result = aligned.results["TS_01"]
    assert result.alignment.projections_px.shape == series.projections_px.shape
    assert result.alignment.positions_px.shape == particles.positions_px.shape
    assert result.statistics.log_likelihood_gain > 0
    assert not aligned.failures
    written = aligned.write("from_python")
    assert written == project / "from_python" / SET
    assert "TS_02" in aligned.write_report("from_python").read_text()
    assert run(SHELL) == 0
    for name in ("particles.star", "tilt_series/TS_01.star"):
        assert Path("from_python", name).read_bytes() == Path("shell", name).read_bytes()


class TestTables:
    @pytest.fixture(autouse=True)
    def _pandas(self) -> None:
        pytest.importorskip("pandas", reason="pandas is not installed")

    def test_of_a_run_hold_its_figures(self, project: Path) -> None:
        Path("tilt_series/TS_02.mrcs").unlink()
        loaded = load(SET)
        aligned = align(loaded, box_px=48, range_px=6, exclude_tilts={"TS_01": [2]})
        assert list(aligned.failures) == ["TS_02"]
        assert repr(aligned).startswith("AlignmentRun(1 tomogram, 1 failed, ")
        result, given = aligned.results["TS_01"], loaded.tomogram("TS_01").particles

        frame = aligned.to_dataframe().set_index("tomogram")
        assert list(frame.index) == ["TS_01", "TS_02"]
        assert frame.loc["TS_01", "rms_shift_angstrom"] == result.statistics.rms_shift_angstrom
        evidence = result.statistics.evidence
        assert evidence is not None
        assert frame.loc["TS_01", "gain_per_pair"] == evidence.gain_per_pair
        assert frame.loc["TS_02", "failure"] == aligned.failures["TS_02"]
        assert np.isnan(frame.loc["TS_02", "visible_pairs"])

        tilts = aligned.to_dataframe("tilts")
        assert list(tilts.tilt) == list(range(1, len(result.alignment.projections_px) + 1))
        assert [bool(reason) for reason in tilts.left_out] == [tilt == 2 for tilt in tilts.tilt]
        assert result.record is not None
        assert list(tilts.visible_particles) == list(result.record.visible.sum(axis=1))

        particles = aligned.to_dataframe("particles")
        assert tuple(particles.particle) == given.names
        refined = particles[["x_px", "y_px", "z_px"]].to_numpy()
        np.testing.assert_array_equal(refined, result.alignment.positions_px)
        pixel = loaded.first.pixel_size_angstrom
        moved = particles[["moved_x_angstrom", "moved_y_angstrom", "moved_z_angstrom"]].to_numpy()
        np.testing.assert_allclose(moved, (refined - given.positions_px) * pixel)

        with pytest.raises(InputError, match="table='shells' is unknown: give one of 'tomograms', 'tilts'"):
            aligned.to_dataframe("shells")

    def test_of_species_say_which(self, project: Path) -> None:
        both = {"one": load(SET), "two": SET}
        aligned = align(both, box_px={"one": 48, "two": 56}, range_px=6, held_out_fraction=0.0)
        frame = aligned.to_dataframe("particles")
        count = len(frame) // 4
        assert list(frame.species) == 2 * (count * ["one"] + count * ["two"])


def test_without_pandas_a_sentence_says_what_to_install(
    simulated: SimulationRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = evaluate(simulated.optimisation_set, simulated.truth)
    with pytest.raises(RunError, match="needs pandas, which is not installed: pip install pandas"):
        found.to_dataframe()


def test_options_are_keywords(project: Path) -> None:
    aligned = align(SET, box_px=48, range_px=6, const_positions=True, held_out_fraction=0)
    particles = load(SET).tomogram("TS_01").particles
    np.testing.assert_array_equal(aligned.results["TS_01"].alignment.positions_px, particles.positions_px)
    assert aligned.verdict is None and "not tested" in repr(aligned)
    assert aligned.sentence() == "Whether the refinement helped was not tested."


def test_progress_is_shown_on_request_in_pythons_words(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align(load(SET), box_px=48, range_px=6, show_progress=True, exclude_tilts={"TS_01": [1]})
    shown = capsys.readouterr()
    assert "TS_02 (2/2)" in shown.out
    assert "exclude_tilts" in shown.err and "--" not in shown.err


def test_a_plan_writes_nothing_and_names_what_is_needed(project: Path) -> None:
    found = plan(load(SET), "planned", box_px=48, range_px=6)
    assert re.fullmatch(r"AlignmentPlan\(2 tomograms, \d+ MB, \d+ s\)", repr(found))
    assert "nothing was written" in found.sentence() and not Path("planned").exists()
    assert found.memory_bytes > 0 and any("device auto" in note for note in found.notes)
    assert "TS_02" in found._repr_html_()


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "box": (lambda: align(SET, box_px=47), r"^box_px=47 is not a valid box size"),
    "range": (lambda: align(SET, box_px=48, range_px=30), r"^range_px=30 does not fit into box_px=48"),
    "small box": (lambda: align(SET, box_px=24, range_px=6), r"^box_px=24: the box is smaller .* box_px="),
    "text for a number": (lambda: align(SET, box_px="48"), "^box_px='48' must be a whole number"),  # type: ignore[arg-type]
    "half a thread": (lambda: align(SET, box_px=48, threads=1.5), "^threads=1.5 must be a whole"),  # type: ignore[arg-type]
    "endless penalty": (
        lambda: align(SET, box_px=48, range_penalty=float("inf")),
        "^range_penalty=inf must be a finite number",
    ),
    "motion as a flag": (lambda: align(SET, box_px=48, motion=True), r"must be MotionSettings\(\.\.\.\)"),  # type: ignore[arg-type]
    "fixed and moving": (
        lambda: align(SET, box_px=48, motion=MotionSettings(), const_positions=True),
        "^motion and const_positions=True exclude each other",
    ),
    "settings made outside": (lambda: DeformationSettings(grid=(1, 4)), r"^grid\[0\]=1 grid\[1\]=4 is not"),
    "no folder": (lambda: align(SET, box_px=48, evaluate=True), "^evaluate needs an output folder"),
    "inputs": (lambda: align(SET, ".", box_px=48), r"^output_folder \. would replace the input tomograms"),
    "others' files": (lambda: align(SET, "other", box_px=48), r"would replace particles.* overwrite=True"),
    "no project": (lambda: align(3, box_px=48), "project=3 is not a project"),  # type: ignore[arg-type]
    "no file": (lambda: load("nowhere.star"), r"^optimisation_set nowhere\.star"),
    "nothing": (
        load,
        "name an optimisation set with optimisation_set, or its parts with particles",
    ),
    "other RELION": (lambda: load(SET, relion_version=3), "^relion_version=3 is unknown: give None, 4 or 5"),
    "maps": (lambda: reconstruct(SET, "maps", box_px=15), "^box_px=15 is not a valid box size"),
    "crop": (lambda: reconstruct(SET, "maps", box_px=48, crop_px=50), "^crop_px=50 .* at most box_px=48"),
    "symmetry": (lambda: reconstruct(SET, "maps", box_px=48, symmetry="Q1"), "^symmetry Q1 is not a valid"),
    "tomograms": (lambda: tune(SET, "tune", box_px=48, tomograms=0), "^tomograms=0 leaves no"),
    "two species": (lambda: tune({"a": SET, "b": SET}, "t", box_px=48), r"tune\(\) takes one species"),  # type: ignore[arg-type]
    "format": (lambda: export(SET, "out", formats="pdf"), "^formats pdf is unknown: give imod"),
    "voxels": (lambda: export(SET, "out", voxel_angstrom=-2.0), r"^voxel_angstrom=-2\.0 must be positive"),
    "threads": (lambda: simulate("sim", threads=0), "^threads=0 is not a valid number of threads"),
    "no results": (lambda: report("tilt_series"), "^tilt_series .*no results"),
    "in memory": (
        lambda: evaluate(align(SET, box_px=48, max_iterations=1, held_out_fraction=0.0), "truth.json"),
        "the run is in memory only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_errors_name_arguments(case: str, project: Path) -> None:
    call, says = REFUSED[case]
    Path("other").mkdir()
    Path("other/particles.star").touch()
    with pytest.raises(InputError, match=says) as caught:
        call()
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: align(SET, boxpx=48), r"align\(\) has no keyword 'boxpx': did you mean 'box_px'\?"),
        (lambda: align(SET, box_px=48, const_position=True), "did you mean 'const_positions'"),
        (lambda: load(SET, half_map_1="a.mrc"), "did you mean 'half_map1'"),
        (lambda: tune(SET, "t", box_px=48, max_partikles=9), "did you mean 'max_particles'"),
        (lambda: simulate("s", tomogram=1), "did you mean 'tomograms'"),
        (lambda: reconstruct(SET, "m", box_px=48, sym="C2"), "did you mean 'symmetry'"),
        (lambda: align(SET, b=48), r"no keyword 'b': did you mean 'box_px'"),
        (lambda: export(SET, "e", qqq=1), r"help\(export\) lists its keywords"),
    ],
)
def test_a_misspelt_keyword_is_answered(call: Callable[[], object], answer: str) -> None:
    with pytest.raises(KeywordError, match=answer) as caught:
        call()
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    ("options", "settings", "elsewhere"),
    [
        (keywords.WindowOptions, WindowSettings, {"box_px", "range_px"}),
        (keywords.WeightOptions, WeightSettings, set()),
        (keywords.FitOptions, FitSettings, set()),
        (keywords.AlignOptions, RunSettings, {"output_folder", "threads", "dry_run"}),
        (SimulateOptions, SimulationSettings, set()),
    ],
)
def test_keywords_are_the_fields_of_the_settings(options: Any, settings: Any, elsewhere: set[str]) -> None:
    stated = {f.name for f in dataclasses.fields(settings)} - elsewhere
    assert stated <= set(options.__optional_keys__)
    if options is not keywords.AlignOptions:
        assert stated == set(options.__optional_keys__)


@pytest.mark.parametrize(
    "name", ["align", "polish", "tune", "select", "reconstruct", "evaluate", "export", "simulate"]
)
def test_every_option_has_its_argument(name: str) -> None:
    """A sentence about any option can be said of Python's argument."""
    assert isinstance(COMMANDS, click.Group)
    command = COMMANDS.get_command(click.Context(COMMANDS), name)
    assert command is not None
    not_in_python = {"help", "aniso", "per_tilt_aniso", "theme", "cluster_profile", "json"}
    not_in_python |= {"config", "quiet", "verbose"}
    for option in command.params:
        assert {o.removeprefix("--") for o in option.opts[:1] if o.startswith("--")} <= {
            *ARGUMENTS,
            *not_in_python,
        }


def test_arguments_are_those_of_functions_and_settings() -> None:
    known: set[str] = set()
    for function in (align, load, plan, reconstruct, tune, select, evaluate, simulate, export):
        known |= {function.__name__, *inspect.signature(function).parameters}
    for options in (
        keywords.AlignOptions,
        keywords.PartOptions,
        keywords.PolishOptions,
        keywords.TuneOptions,
    ):
        known |= set(options.__optional_keys__)
    cluster = (tomopolish.ClusterSettings, tomopolish.SlurmSettings, tomopolish.TlsFiles)
    for settings in (MotionSettings, DeformationSettings, *cluster, *_simulation_settings()):
        known |= {f.name for f in dataclasses.fields(settings)}
    for argument in ARGUMENTS.values():
        name = re.split(r"[=\[(]", argument)[0]
        assert name in known or argument == "the traceback", argument


def _simulation_settings() -> list[Any]:
    made = [getattr(SimulationSettings(), f.name) for f in dataclasses.fields(SimulationSettings)]
    parts = [type(part) for part in made if dataclasses.is_dataclass(part)]
    return [SimulationSettings, *parts, tomopolish.PlantedMotion, tomopolish.PlantedWarp]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> SimulationRun:
    return simulate(
        tmp_path_factory.mktemp("api") / "project",
        seed=11,
        molecule=MoleculeSettings(box_px=48),
        specimen=SpecimenSettings(particles=12),
        acquisition=AcquisitionSettings(image_size_px=(260, 250), tilt_step_degrees=12.0),
        motion=tomopolish.PlantedMotion(velocity_scale=1.2),
    )


def test_a_simulation_is_that_of_the_command(simulated: SimulationRun, tmp_path: Path) -> None:
    options = "--seed 11 --box 48 --particles 12 --image_size 260 250 --tilt_step 12 --motion --s_vel 1.2"
    assert run(["simulate", "--o", str(tmp_path / "shell"), *options.split()]) == 0
    for name in ("particles.star", "tilt_series/TS_01.star", "tilt_series/TS_01.mrcs", "truth.json"):
        written = (simulated.output_folder / name).read_bytes()
        assert written == (tmp_path / "shell" / name).read_bytes()
    assert repr(simulated) == f"SimulationRun(1 tomogram, 12 particles, {simulated.output_folder}/)"
    assert simulated.truth.is_file() and simulated.optimisation_set.is_file()


def test_the_other_functions_do_what_the_commands_do(
    simulated: SimulationRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(simulated.output_folder)

    tuned = tune(load(SET), tmp_path / "tune", box_px=48, range_px=8, distance_scale=500.0, threads=2)
    command = ["tune", "--i", SET, "--b", "48", "--r", "8", "--s_div", "500", "--o", str(tmp_path / "t")]
    assert run([*command, "--j", "2"]) == 0
    said = capsys.readouterr().out
    ours, theirs = (json.loads((tmp_path / f / "tune.json").read_text()) for f in ("tune", "t"))
    assert ours["chosen"] == theirs["chosen"] and "motion=MotionSettings(" in ours["align_command"]
    assert tuned.sentence().startswith("velocity_scale=") and all(t.plain() in said for t in tuned.tables)
    assert tuned.motion is not None
    assert tuned.motion.velocity_scale == pytest.approx(theirs["chosen"]["s_vel"])
    assert repr(tuned).startswith("TuningRun(1 tomogram, velocity_scale=")

    aligned = align(SET, tmp_path / "out", box_px=48, range_px=8, motion=tuned.motion)
    found = evaluate(aligned, simulated.truth)
    assert run(["evaluate", "--i", str(tmp_path / "out"), "--truth", "truth.json", "--json"]) == 0
    assert capsys.readouterr().out.strip() == found.to_json()
    assert found.rms_2d_before_angstrom is not None
    assert found.rms_2d_after_angstrom < found.rms_2d_before_angstrom
    assert f"→ {found.rms_2d_after_angstrom:.3f} Å" in repr(found)

    assert aligned.optimisation_set is not None
    maps = reconstruct(aligned.optimisation_set, tmp_path / "maps", box_px=48, max_dose=40.0)
    command = ["reconstruct", "--i", str(aligned.optimisation_set), "--b", "48", "--max_dose", "40"]
    assert run([*command, "--o", str(tmp_path / "m")]) == 0
    assert maps.sentence().replace("/maps", "/m") in capsys.readouterr().out
    assert maps.merged_map.read_bytes()[1024:] == (tmp_path / "m/merged.mrc").read_bytes()[1024:]

    exported = export(aligned.optimisation_set, tmp_path / "export", formats=["imod", "napari"])
    assert exported.folders["imod"].is_dir() and exported.folders["napari"].is_dir()
    assert repr(exported).startswith("ExportRun(1 tomogram, imod, napari, ")

    before = (tmp_path / "out/report.html").read_text()
    again = report(tmp_path / "out")
    assert again.path.read_text() == before and repr(again) == f"ReportRun({again.path})"

    frames = pytest.importorskip("pandas") and (
        tuned.to_dataframe(),
        tuned.to_dataframe("distances"),
        tuned.to_dataframe("candidates"),
        found.to_dataframe(),
        maps.to_dataframe(),
        exported.to_dataframe(),
    )
    assert [len(frame) for frame in frames] == [1, 2, 2, 1, 25, 1]
    assert frames[2].chosen.sum() == 1
    assert frames[3].rms_2d_after_angstrom[0] == pytest.approx(found.rms_2d_after_angstrom)
    assert frames[4].fsc_corrected[0] == 1.0


def test_functions_stay_functions_when_packages_of_their_names_are_used() -> None:
    from tomopolish.simulate.project import write_project
    from tomopolish.tune.tuning import distance_scales

    assert callable(write_project) and callable(distance_scales)
    assert tomopolish.simulate is simulate and tomopolish.tune is tune


def test_the_package_offers_the_api_and_nothing_it_does_not_have() -> None:
    assert all(hasattr(tomopolish, name) for name in tomopolish.__all__)
    with pytest.raises(AttributeError, match="sharpen"):
        _ = tomopolish.sharpen  # type: ignore[attr-defined]


@pytest.mark.parametrize("tilts", [{"TS_01": "2"}, {"TS_01": [2.5]}, {"TS_01": 3}, ["TS_01"]])
def test_tilt_images_that_are_no_numbers_are_refused(project: Path, tilts: Any) -> None:
    with pytest.raises(InputError, match="exclude_tilts"):
        align(SET, box_px=48, range_px=6, exclude_tilts=tilts)


def test_a_run_is_found_again_from_another_folder(
    simulated: SimulationRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(simulated.output_folder)
    aligned = align(SET, "moved/aligned", box_px=48, range_px=8, report=False)
    expected = evaluate(aligned, simulated.truth)
    monkeypatch.chdir(tmp_path)
    assert evaluate(aligned, simulated.truth).rms_2d_after_angstrom == expected.rms_2d_after_angstrom
    select(aligned, "moved/selected", min_probability=0.1)
    assert (simulated.output_folder / "moved/selected/optimisation_set.star").is_file()
