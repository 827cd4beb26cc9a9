"""The run loop, with a fake computation in place of the real one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_project import make_series
from tomopolish.dataset.model import Alignment, Tomogram
from tomopolish.errors import InputError, RunError
from tomopolish.progress import Progress
from tomopolish.results.tomogram import TomogramResult, TomogramStatistics
from tomopolish.run.local import RunReport, one_after_another, refine, show_closing
from tomopolish.run.reporter import PlainReporter, SilentReporter
from tomopolish.run.work import Stages
from tomopolish.settings.alignment import AlignSettings, InputPaths, RunSettings, WindowSettings


def settings_for(folder: Path) -> AlignSettings:
    return AlignSettings(
        inputs=InputPaths(optimisation_set=Path("optimisation_set.star")),
        windows=WindowSettings(box_px=96),
        run=RunSettings(output_folder=folder),
    )


SETTINGS = settings_for(Path("out"))


class FakeProject:
    """Tomograms whose series and particles are just their names."""

    def __init__(self, names: Sequence[str]) -> None:
        self.tomogram_names = names
        self.loaded: list[str] = []

    def references(self, *, keep: bool = False) -> Any:
        return "references"

    def tomogram(self, name: str) -> Any:
        if name.startswith("unreadable"):
            raise InputError(f"{name}.star: row 3 is bad, correct it")
        self.loaded.append(name)
        series = make_series(np.random.default_rng(0), np.zeros((3, 8, 8)), name=name)
        return Tomogram(series=series, species=())


def result_of(name: str, *sentences: str) -> TomogramResult:
    return TomogramResult(
        alignments=(
            Alignment(
                tomogram=name,
                projections_px=np.zeros((3, 4, 4)),
                rows=np.arange(2),
                positions_px=np.zeros((2, 3)),
            ),
        ),
        statistics=TomogramStatistics(
            particles=2,
            visible_pairs=6,
            log_likelihood_gain=1.0,
            rms_shift_angstrom=1.0,
            rms_angle_degrees=1.0,
            rms_position_angstrom=1.0,
            seconds_by_stage={"windows": 1.0},
            evaluations=3,
            warnings=sentences,
        ),
    )


def stages(failing: dict[str, BaseException] | None = None, *sentences: str) -> Stages[str]:
    def align(tomogram: Any, prepared: str, settings: AlignSettings, progress: Progress) -> TomogramResult:
        series = tomogram.series.name
        assert prepared == "prepared references"
        with progress.stage("windows", total=3) as stage:
            stage.advance(3)
            if failing and series in failing:
                raise failing[series]
        return result_of(series, *sentences)

    return Stages(prepare=lambda references, settings: f"prepared {references}", align_tomogram=align)


def test_every_tomogram_is_refined_in_order() -> None:
    project = FakeProject(["TS_03", "TS_01", "TS_02"])
    report = refine(project, SETTINGS, stages(), SilentReporter())
    assert project.loaded == ["TS_03", "TS_01", "TS_02"]
    assert list(report.results) == ["TS_03", "TS_01", "TS_02"]
    assert {name: r.alignment.tomogram for name, r in report.results.items()} == {
        n: n for n in report.results
    }
    assert report.failures == {}


FAILURES: dict[str, tuple[BaseException, str]] = {
    "known": (RunError("TS_02.mrc: section 3 cannot be read"), "TS_02.mrc: section 3 cannot be read"),
    "unexpected": (
        ZeroDivisionError("division by zero"),
        "an internal error of tomopolish (ZeroDivisionError: division by zero); please report it",
    ),
    "memory": (MemoryError(), "out of memory: use a smaller box"),
    "device memory": (
        type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})(),
        "the CUDA device is out of memory",
    ),
    "disk": (OSError(5, "Input/output error", "TS_02.mrc"), "TS_02.mrc: Input/output error"),
    "several lines": (ValueError("one\ntwo"), "one two"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failing_tomogram_does_not_stop_the_others(case: str, tmp_path: Path) -> None:
    error, sentence = FAILURES[case]
    reporter = SilentReporter()
    settings = replace(SETTINGS, run=replace(SETTINGS.run, output_folder=tmp_path))
    report = refine(FakeProject(["TS_01", "TS_02", "TS_03"]), settings, stages({"TS_02": error}), reporter)
    assert list(report.results) == ["TS_01", "TS_03"]
    assert list(report.failures) == ["TS_02"]
    assert sentence in report.failures["TS_02"]
    assert "\n" not in report.failures["TS_02"]
    assert [warning for warning in reporter.warnings if "TS_02 failed" in warning]


def test_a_tomogram_that_cannot_be_loaded_counts_as_failed() -> None:
    report = refine(FakeProject(["TS_01", "unreadable"]), SETTINGS, stages(), SilentReporter())
    assert list(report.results) == ["TS_01"]
    assert report.failures == {"unreadable": "unreadable.star: row 3 is bad, correct it"}


def test_when_all_fail_the_run_fails() -> None:
    with pytest.raises(RunError, match=r"no tomogram could be refined.*TS_01: disk on fire"):
        refine(
            FakeProject(["TS_01"]), SETTINGS, stages({"TS_01": RunError("disk on fire")}), SilentReporter()
        )


def test_an_interruption_ends_the_run() -> None:
    project = FakeProject(["TS_01", "TS_02"])
    with pytest.raises(KeyboardInterrupt):
        refine(project, SETTINGS, stages({"TS_01": KeyboardInterrupt()}), SilentReporter())
    assert project.loaded == ["TS_01"]


def test_a_traceback_is_shown_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    failing = stages({"TS_01": ValueError("bad")})
    project = FakeProject(["TS_01", "TS_02"])
    refine(project, SETTINGS, failing, SilentReporter())
    assert "Traceback" not in capsys.readouterr().err
    refine(project, SETTINGS, failing, SilentReporter(), runner=partial(one_after_another, debug=True))
    assert "Traceback" in capsys.readouterr().err


def test_warnings_name_their_tomogram_once() -> None:
    reporter = SilentReporter()
    refine(FakeProject(["TS_01"]), SETTINGS, stages(None, "tilt 3 is blind", "TS_01 is odd"), reporter)
    assert reporter.warnings == ["TS_01: tilt 3 is blind", "TS_01 is odd"]


def test_the_closing_lists_figures_then_failures(capsys: pytest.CaptureFixture[str]) -> None:
    report = RunReport(results={"TS_01": result_of("TS_01")}, failures={"TS_02": "disk on fire"})
    show_closing(report, [Path("out/optimisation_set.star")], PlainReporter(sys.stdout))
    lines = capsys.readouterr().out.splitlines()
    assert any("out/optimisation_set.star" in line for line in lines)
    assert lines[-1] == "TS_02 failed and keeps its input values: disk on fire"
    assert not any("flagged" in line for line in lines)


def test_of_many_tomograms_the_closing_shows_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"TS_{n:02}" for n in range(12)]
    results = {name: result_of(name) for name in names}
    for n, name in enumerate(names):
        figures = replace(results[name].statistics, log_likelihood_gain=100.0 - n)
        results[name] = replace(results[name], statistics=figures)
    report = RunReport(results=results, failures={})
    sets, summary = [Path("out/optimisation_set.star")], Path("out/summary.csv")
    show_closing(report, sets, PlainReporter(sys.stdout), summary=summary)
    out = capsys.readouterr().out
    shown = [line.split()[0] for line in out.splitlines() if line.startswith("TS_")]
    assert shown == names[:1:-1]
    assert "Of 12 tomograms, the tables show the 10 to look at first; out/summary.csv has all" in out
    assert "all 12 " in out


def test_the_closing_says_what_is_flagged_and_where_the_reasons_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def closing(flagged: int) -> str:
        result = result_of("TS_01")
        figures = replace(result.statistics, flagged_particles=flagged, flagged_tilts=0)
        report = RunReport(results={"TS_01": replace(result, statistics=figures)}, failures={})
        show_closing(report, [Path("out/optimisation_set.star")], PlainReporter(sys.stdout))
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "scores.star" in line]
        return line

    assert closing(1) == (
        "1 of 2 particles and 0 tilt images are flagged: out/scores.star; tomopolish select writes sets "
        "without them."
    )
    assert closing(0) == "No particle and no tilt image is flagged: out/scores.star."
