"""Finished tomograms are kept, found again, and refined again when what they depend on has changed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomopolish import pipeline
from tomopolish.cli import run
from tomopolish.dataset.model import Alignment, Deformation
from tomopolish.errors import RunError
from tomopolish.results.tomogram import TomogramResult, TomogramStatistics
from tomopolish.run import align as whole_run
from tomopolish.run.store import ResultsStore
from tomopolish.run.work import Stages

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--o", "out/"]
SETS = ("tomograms.star", "particles.star", "optimisation_set.star", "tilt_series/TS_01.star")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tomograms that were computed."""
    computed: list[str] = []

    def counting(tomogram, *rest):  # type: ignore[no-untyped-def]
        computed.append(tomogram.series.name)
        return pipeline.align_tomogram(tomogram, *rest)

    stages = Stages(prepare=whole_run.STAGES.prepare, align_tomogram=counting)
    monkeypatch.setitem(whole_run.run_align.__kwdefaults__, "stages", stages)
    return computed


def sets(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in SETS}


def test_a_finished_job_is_not_computed_again(project: Path, calls: list[str]) -> None:
    assert run(ALIGN) == 0
    before = sets(project / "out")
    assert calls == ["TS_01", "TS_02"]
    for name in SETS:
        (project / "out" / name).unlink()
    assert run([*ALIGN, "--only_do_unfinished"]) == 0
    assert calls == ["TS_01", "TS_02"]
    assert sets(project / "out") == before


def test_without_the_option_everything_is_computed_again(project: Path, calls: list[str]) -> None:
    assert run(ALIGN) == run(ALIGN) == 0
    assert calls == ["TS_01", "TS_02"] * 2


def touch_image(folder: Path) -> None:
    path = folder / "tilt_series/TS_02.mrcs"
    target = path.resolve()
    path.unlink()
    shutil.copy(target, path)


@pytest.mark.parametrize(
    ("change", "options", "told", "again"),
    [
        (touch_image, [], "TS_02 is refined again, for these have changed: tilt images", ["TS_02"]),
        (lambda folder: None, ["--r", "5"], "these have changed: options", ["TS_01", "TS_02"]),
        (lambda folder: None, ["--j", "2"], None, []),
        (
            lambda folder: (folder / "out/temp/TS_01.npz").write_bytes(
                (folder / "out/temp/TS_01.npz").read_bytes()[:900]
            ),
            [],
            None,
            ["TS_01"],
        ),
        (lambda folder: (folder / "out/temp/TS_02.npz").unlink(), [], None, ["TS_02"]),
    ],
    ids=["image", "options", "threads", "damaged", "missing"],
)
def test_what_changed_is_computed_again(  # type: ignore[no-untyped-def]
    project: Path, calls: list[str], capsys: pytest.CaptureFixture[str], change, options, told, again
) -> None:
    assert run(ALIGN) == 0
    before = sets(project / "out")
    calls.clear()
    capsys.readouterr()
    change(project)
    assert run([*ALIGN, *options, "--only_do_unfinished"]) == 0
    out = capsys.readouterr().out
    assert calls == again
    assert told is None or told in out
    assert (sets(project / "out") == before) == (options != ["--r", "5"])
    for name in {"TS_01", "TS_02"} - set(again):
        assert f"{name} (" in out
        assert "finished earlier" in out


def test_moved_particles_are_computed_again(
    project: Path, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(ALIGN) == 0
    calls.clear()
    lines = (project / "particles.star").read_text().splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("TS_02"))
    assert lines.pop(last)
    (project / "particles.star").write_text("\n".join([*lines, ""]))
    assert run([*ALIGN, "--only_do_unfinished"]) == 0
    assert calls == ["TS_02"]
    assert "TS_02 is refined again, for these have changed: particles" in capsys.readouterr().out


def result(name: str) -> TomogramResult:
    rng = np.random.default_rng(1)
    alignment = Alignment(
        tomogram=name,
        projections_px=rng.normal(size=(3, 4, 4)),
        rows=np.arange(5, 7),
        positions_px=rng.normal(size=(2, 3)),
        trajectories_px=rng.normal(size=(2, 3, 3)),
        deformation=Deformation(model="spline", grid=(3, 4), coefficients=rng.normal(size=(3, 7))),
        warnings=("odd",),
    )
    statistics = TomogramStatistics(
        particles=2,
        visible_pairs=6,
        log_likelihood_gain=float("nan"),
        rms_shift_angstrom=1.5,
        rms_angle_degrees=0.1,
        rms_position_angstrom=float("inf"),
        seconds_by_stage={"windows": 1.0},
        evaluations=3,
        warnings=("odd",),
    )
    return TomogramResult(alignments=(alignment, alignment), statistics=statistics)


HOSTILE = [
    "/etc/passwd",
    "../../out",
    "..",
    ".",
    "a\nb",
    "x" * 5000,
    "CON",
    "a b",
    "é" * 200,
    "a/../../b",
    "\udcff",
]


@pytest.mark.parametrize("name", ["TS_01", *HOSTILE])
def test_results_survive_the_disk_under_any_name(tmp_path: Path, name: str) -> None:
    store = ResultsStore(folder=tmp_path / "out" / "temp")
    stored = result(name)
    store.save(name, stored, {"options": "abc"})
    loaded = store.load(name)
    assert repr(loaded) == repr(stored)
    assert loaded.statistics.seconds_by_stage == {"windows": 1.0}
    assert store.fingerprint(name) == {"options": "abc"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.parent for path in files] == [store.folder]


def test_hostile_names_have_files_of_their_own(tmp_path: Path) -> None:
    store = ResultsStore(folder=tmp_path)
    assert len({store.path(name) for name in [*HOSTILE, "a_b", "TS_01"]}) == len(HOSTILE) + 2


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    store = ResultsStore(folder=tmp_path)

    class Bomb:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return os.mkdir, (str(tmp_path / "exploded"),)

    np.savez(store.path("TS_01"), header=np.array([Bomb()], dtype=object))
    assert store.fingerprint("TS_01") is None
    with pytest.raises(RunError, match="cannot be read"):
        store.load("TS_01")
    assert not (tmp_path / "exploded").exists()


def test_a_file_under_another_name_is_not_taken(tmp_path: Path) -> None:
    store = ResultsStore(folder=tmp_path)
    store.save("TS_01", result("TS_01"), {})
    shutil.copy(store.path("TS_01"), store.path("TS_02"))
    assert store.fingerprint("TS_02") is None


def test_a_result_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultsStore(folder=tmp_path)
    store.save("TS_01", result("TS_01"), {"options": "old"})

    def full(stream, **arrays):  # type: ignore[no-untyped-def]
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tomopolish.run.store._savez", full)
    with pytest.raises(RunError, match="No space left"):
        store.save("TS_01", replace(result("TS_01")), {"options": "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["TS_01.npz"]
    assert store.fingerprint("TS_01") == {"options": "old"}
