"""Finished tomograms are kept, found again, and refined again when what they depend on has changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from relion_project import write_project_of_two
from tomopolish import pipeline
from tomopolish.cli import run
from tomopolish.dataset.model import Alignment, Deformation
from tomopolish.errors import RunError
from tomopolish.results.tomogram import TomogramResult, TomogramStatistics
from tomopolish.run import align as whole_run
from tomopolish.run.store import DamagedResultError, ResultsStore
from tomopolish.run.work import Stages

_ALIGN = "align --i optimisation_set.star --b 48 --r 6 --no_report --hold_out 0 --o out/"
ALIGN = _ALIGN.split()
SETS = ("tomograms.star", "particles.star", "optimisation_set.star", "tilt_series/TS_01.star")


@pytest.fixture(scope="module")
def output(mini: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves in its output folder."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    write_project_of_two(mini, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(ALIGN) == 0
    return folder / "out"


@pytest.fixture
def finished(project: Path, output: Path) -> Path:
    """The project of `project`, of which a run has ended."""
    shutil.copytree(output, project / "out")
    return project


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


def change_mask(folder: Path) -> None:
    path = folder / "mask.mrc"
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[:1024] + np.frombuffer(content[1024:], np.float32)[::-1].tobytes())


def touch_image(folder: Path) -> None:
    path = folder / "tilt_series/TS_02.mrcs"
    target = path.resolve()
    path.unlink()
    shutil.copy(target, path)


def flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "options", "told", "again"),
    [
        (
            touch_image,
            [],
            "TS_02 will be refined again, because its tilt images changed (tilt_series/TS_02.mrcs)",
            ["TS_02"],
        ),
        (
            lambda folder: None,
            ["--r", "5"],
            "TS_01 will be refined again, because its options changed (--r 6 → 5)",
            ["TS_01", "TS_02"],
        ),
        (
            lambda folder: None,
            ["--no_outliers", "--ref_scale", "1"],
            "its options changed (--ref_scale auto → 1, --no_outliers off → on)",
            ["TS_01", "TS_02"],
        ),
        (change_mask, [], "its references changed (mask.mrc)", ["TS_01", "TS_02"]),
        (lambda folder: None, ["--j", "2"], None, []),
        (
            lambda folder: (folder / "out/temp/TS_01.npz").write_bytes(
                (folder / "out/temp/TS_01.npz").read_bytes()[:900]
            ),
            [],
            None,
            ["TS_01"],
        ),
        (
            lambda folder: flip_bit(folder / "out/temp/TS_01.npz", 5000),
            [],
            None,
            ["TS_01"],
        ),
        (lambda folder: (folder / "out/temp/TS_02.npz").unlink(), [], None, ["TS_02"]),
    ],
    ids=["image", "options", "flags", "mask", "threads", "cut off", "damaged", "missing"],
)
def test_what_changed_is_computed_again(  # type: ignore[no-untyped-def]
    finished: Path, calls: list[str], capsys: pytest.CaptureFixture[str], change, options, told, again
) -> None:
    before = sets(finished / "out")
    change(finished)
    assert run([*ALIGN, *options, "--only_do_unfinished"]) == 0
    out = capsys.readouterr().out
    assert calls == again
    assert told is None or told in out
    assert (sets(finished / "out") == before) == (again != ["TS_01", "TS_02"])
    for name in {"TS_01", "TS_02"} - set(again):
        assert f"{name} (" in out
        assert "finished earlier" in out


def test_moved_particles_are_computed_again(
    finished: Path, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (finished / "particles.star").read_text().splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("TS_02"))
    assert lines.pop(last)
    (finished / "particles.star").write_text("\n".join([*lines, ""]))
    assert run([*ALIGN, "--only_do_unfinished"]) == 0
    assert calls == ["TS_02"]
    assert (
        "TS_02 will be refined again, because its particles changed (particles.star)"
        in capsys.readouterr().out
    )


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


def fingerprint(store: ResultsStore, name: str) -> Mapping[str, str] | None:
    stored = store.read(name)
    return None if stored is None else stored.fingerprint


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
    assert fingerprint(store, name) == {"options": "abc"}
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
    with pytest.raises(DamagedResultError, match=r"TS_01\.npz: the stored result of TS_01 is damaged"):
        store.load("TS_01")
    assert not (tmp_path / "exploded").exists()


def test_a_file_under_another_name_is_not_taken(tmp_path: Path) -> None:
    store = ResultsStore(folder=tmp_path)
    store.save("TS_01", result("TS_01"), {})
    shutil.copy(store.path("TS_01"), store.path("TS_02"))
    with pytest.raises(DamagedResultError, match="it belongs to 'TS_01'"):
        store.read("TS_02")


def test_no_flipped_bit_goes_unnoticed_or_ends_more_than_its_tomogram(tmp_path: Path) -> None:
    store = ResultsStore(folder=tmp_path)
    store.save("TS_01", result("TS_01"), {"options": "abc"})
    store.save("TS_02", result("TS_02"), {"options": "abc"})
    path = store.path("TS_01")
    content = path.read_bytes()
    ends = range(len(content) - 130, len(content))  # the archive's directory, and the checksum
    for place in (*range(0, len(content), 97), *ends):
        flip_bit(path, place)
        with pytest.raises(DamagedResultError, match=r"TS_01\.npz: the stored result of TS_01 is damaged"):
            store.read("TS_01")
        assert "TS_02" in store.names()
        path.write_bytes(content)
    assert store.names() == ["TS_01", "TS_02"]


@pytest.mark.parametrize("kind", ["pipe", "link to itself", "device"])
def test_a_result_that_is_no_regular_file_is_refined_again(
    kind: str, finished: Path, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished / "out/temp/TS_02.npz"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path.name)
    assert run([*ALIGN, "--only_do_unfinished"]) == 0
    assert calls == ["TS_02"] and path.is_file() and not path.is_symlink()
    assert "TS_02.npz: the stored result of TS_02 cannot be read (" in capsys.readouterr().err


def test_a_damaged_result_is_named_and_left_out_of_the_report(
    finished: Path, calls: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flip_bit(finished / "out/temp/TS_02.npz", 700)
    assert run(["report", "out"]) == 1
    shown = capsys.readouterr()
    named = (
        "out/temp/TS_02.npz: the stored result of TS_02 is damaged (its content does not match its checksum)"
    )
    assert f"{named}; tomopolish align with --only_do_unfinished refines it again" in shown.err
    assert "Report: out/report.html" in shown.out
    assert run([*ALIGN, "--only_do_unfinished"]) == 0  # as the message says
    assert f"{named}; the tomogram is refined again" in capsys.readouterr().err
    assert calls == ["TS_02"]
    assert run(["report", "out"]) == 0


def test_images_replaced_while_they_are_refined_cost_their_tomogram_and_no_other(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def replacing(tomogram, *rest):  # type: ignore[no-untyped-def]
        if tomogram.series.name == "TS_02" and not (project / "replaced").exists():
            (project / "replaced").touch()
            touch_image(project)
        return pipeline.align_tomogram(tomogram, *rest)

    stages = Stages(prepare=whole_run.STAGES.prepare, align_tomogram=replacing)
    monkeypatch.setitem(whole_run.run_align.__kwdefaults__, "stages", stages)
    assert run(ALIGN) == 1
    shown = capsys.readouterr()
    assert "TS_02.mrcs changed while the tomogram was refined; --only_do_unfinished refines it" in shown.err
    assert run([*ALIGN, "--only_do_unfinished"]) == 0
    shown = capsys.readouterr()
    assert (
        "TS_02 will be refined again, because its tilt images changed (tilt_series/TS_02.mrcs)" in shown.out
    )
    assert "TS_01 (1/2): finished earlier" in shown.out


def test_a_result_that_another_run_stored_meanwhile_is_not_taken(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ALIGN[:-1], "other", "--r", "5"]) == 0

    def mixing(tomogram, *rest):  # type: ignore[no-untyped-def]
        if tomogram.series.name == "TS_02":  # as a worker does that outlived the run that started it
            shutil.copy(project / "other/temp/TS_01.npz", project / "out/temp")
        return pipeline.align_tomogram(tomogram, *rest)

    stages = Stages(prepare=whole_run.STAGES.prepare, align_tomogram=mixing)
    monkeypatch.setitem(whole_run.run_align.__kwdefaults__, "stages", stages)
    assert run(ALIGN) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(
        "TS_01 failed and keeps its input values: its stored result does not belong to this"
    )
    assert "because its options changed (--r 5 → 6); --only_do_unfinished refines it again" in last


def test_a_report_after_an_interruption_shows_results_of_the_latest_run_only(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(tomogram, *rest):  # type: ignore[no-untyped-def]
        if tomogram.series.name == "TS_02":
            raise KeyboardInterrupt
        return pipeline.align_tomogram(tomogram, *rest)

    stages = Stages(prepare=whole_run.STAGES.prepare, align_tomogram=stopping)
    monkeypatch.setitem(whole_run.run_align.__kwdefaults__, "stages", stages)
    before = sets(finished / "out")
    assert run([*ALIGN, "--r", "5"]) == 130
    assert sets(finished / "out") == before
    assert "--r 5" not in (finished / "out/note.txt").read_text()  # it tells how the sets came about
    assert run(["report", "out"]) == 0
    page = (finished / "out/report.html").read_text()
    assert "This run has not ended" in page and "--r 5" in page
    assert "TS_02" not in page


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
    assert fingerprint(store, "TS_01") == {"options": "old"}
