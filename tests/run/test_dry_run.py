"""A dry run is the run minus computing: it refuses what the run refuses, and says what the run would need."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from small_project import make_series, make_settings
from star_edits import drop_column, set_column
from tomopolish.cli import run
from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.project import Dataset
from tomopolish.run import needs, plan
from tomopolish.run.limits import MemoryLimit
from tomopolish.run.needs import free_bytes, memory_bytes, size_in_words, stored_bytes
from tomopolish.settings.alignment import MotionSettings

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report"]


def two_faults() -> None:
    set_column("tilt_series/TS_01.star", "TS_01", "rlnTomoYTilt", "steep")
    drop_column("tilt_series/TS_02.star", "TS_02", "rlnDefocusU", "rlnDefocusV")


@dataclass(frozen=True)
class Refusal:
    """The user's options, the damage to the project, and parts of the message."""

    says: str
    options: str = ""
    change: Callable[[], object] = lambda: None


REFUSALS = {
    "no set": Refusal("nowhere.star", "--i nowhere.star"),
    "wrong particles": Refusal("tomogram set", "--p tomograms.star"),
    "no dose for motion": Refusal(
        "--motion scales with the dose",
        "--motion",
        lambda: [
            set_column("tomograms.star", "global", "rlnTomoImportFractionalDose", "0"),
            set_column("tilt_series/TS_01.star", "TS_01", "rlnMicrographPreExposure", "0"),
            set_column("tilt_series/TS_02.star", "TS_02", "rlnMicrographPreExposure", "0"),
        ],
    ),
    "no frequency left": Refusal("leaves no frequency", "--freq_cutoff 900"),
    "range beyond the box": Refusal("--r 40", "--r 40"),
    "output in use": Refusal("is in use", "--o held"),
    "output below a file": Refusal("--o fsc.star/out", "--o fsc.star/out"),
    "output over the input": Refusal("--o .", "--o ."),
    "no such device": Refusal("--device cuda:7", "--device cuda:7"),
    "no such tilt image": Refusal("--exclude_tilts TS_01:99", "--exclude_tilts TS_01:99"),
    "two faulty tomograms": Refusal("rlnDefocusU", "", two_faults),
    "strict": Refusal(
        "rlnTomoYTilt", "--strict",
        lambda: set_column("tilt_series/TS_01.star", "TS_01", "rlnTomoYTilt", "steep"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_dry_run_refuses_what_the_run_refuses(
    case: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = REFUSALS[case]
    refusal.change()
    options = [*ALIGN, "--o", "out", *refusal.options.split()]
    (project / "held/.tomopolish").mkdir(parents=True)
    with FileLock(project / "held/.tomopolish/lock"):
        found = {}
        for dry_run in (["--dry_run"], []):
            status = run([*options, *dry_run])
            found[bool(dry_run)] = status, capsys.readouterr().err.splitlines()[-1]
    assert found[True][0] == found[False][0] == 2
    assert refusal.says in found[True][1]
    if case != "strict":  # where the run ends at the first fault, the dry run names them all
        assert found[True] == found[False]


def test_all_faulty_tomograms_are_listed_and_set_the_status(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_faults()
    assert run([*ALIGN, "--o", "out", "--dry_run"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert "Tomograms that cannot be refined: 2" in lines
    assert [line for line in lines if line.startswith("  TS_01: ") and "rlnTomoYTilt" in line]
    assert [line for line in lines if line.startswith("  TS_02: ") and "rlnDefocusU and rlnDefocusV" in line]


def test_a_tomogram_that_would_fail_sets_the_status_of_the_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drop_column("tilt_series/TS_02.star", "TS_02", "rlnMicrographPreExposure")
    assert run([*ALIGN, "--o", "out", "--dry_run"]) == 1
    said = capsys.readouterr().out
    assert "  TS_02: " in said
    assert "1 tomogram, 66 visible pairs" in said and "and 1 that cannot be refined" in said
    assert run([*ALIGN, "--o", "out"]) == 1


def test_what_would_be_used_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ALIGN, "--o", "out", "--j", "3", "--motion", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "Å with full weight, none beyond" in said and "from the FSC of fsc.star" in said
    assert "Mask: mask.mrc" in said
    assert "Processors: CPU, 3 threads (--device auto" in said
    assert "Memory: about " in said and " is " in said
    assert "in out; " in said and " are free" in said
    drop_column("optimisation_set.star", "", "rlnTomoReferenceFscFile", "rlnTomoReferenceMaskFile")
    assert run([*ALIGN, "--o", "out", "--freq_cutoff", "24", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "since no FSC is given (--fsc) and --freq_cutoff 24" in said
    assert "Resolution: 24.0 Å" in said
    assert "Mask: none (--mask)" in said


@pytest.mark.parametrize("command", ["align", "polish"])
def test_each_tomogram_is_read_once(command: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, load = [], Dataset.load

    def counted(dataset: Dataset, name: str, **options: Any) -> Any:
        names.append(name)
        return load(dataset, name, **options)

    monkeypatch.setattr(Dataset, "load", counted)
    assert run([command, *ALIGN[1:], "--o", "out", "--dry_run"]) == 0
    assert names == ["TS_01", "TS_02"]


def test_finished_tomograms_are_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*ALIGN, "--o", "out", "--only_do_unfinished", "--dry_run"]
    assert run(options) == 0
    assert "Finished earlier, and not refined again: 0 tomograms" in capsys.readouterr().out
    assert run([*ALIGN, "--o", "out"]) == 0
    (project / "out/temp/TS_02.npz").unlink()
    assert run(options) == 0
    assert "not refined again: 1 tomogram: TS_01" in capsys.readouterr().out


def test_too_little_disk_or_memory_is_warned_of(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage("."))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5000, 5000))
    limit = MemoryLimit(room_bytes=4_096_000, name="the memory of this machine")
    monkeypatch.setattr(plan, "memory_limits", lambda threads: [limit])
    assert run([*ALIGN, "--o", "out", "--dry_run"]) == 0
    warnings = capsys.readouterr().err
    assert "of disk space are needed, but 0.0 MB are free" in warnings
    assert "of memory are needed, and the memory of this machine is 4.1 MB" in warnings


@pytest.mark.parametrize("command", ["align", "polish"])
def test_tomograms_beyond_the_memory_cannot_be_refined(
    command: str, project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = MemoryLimit(room_bytes=100_000, name="the memory limit of this job")
    monkeypatch.setattr(needs, "memory_limits", lambda threads: [limit])
    monkeypatch.setattr("tomopolish.run.inputs.refuse_maps_beyond_memory", lambda *_: None)
    assert run([command, *ALIGN[1:], "--o", "out", "--dry_run"]) == 1
    said = capsys.readouterr().out
    assert "Tomograms that cannot be refined: 2" in said
    assert "  TS_02: it needs at least 0.000" in said and "and the memory limit of this job is" in said
    if command == "align":
        assert run([*ALIGN, "--o", "out"]) == 1


@pytest.mark.parametrize("options", [[], ["--dry_run"]])
def test_maps_beyond_the_memory_are_refused_before_they_are_read(
    options: list[str], project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = MemoryLimit(room_bytes=2_000_000, name="the memory of this machine")
    monkeypatch.setattr(needs, "memory_limits", lambda threads: [limit])
    monkeypatch.setattr("tomopolish.dataset.project.read_references", lambda *_: pytest.fail("was read"))
    assert run([*ALIGN, "--o", "out", *options]) == 2
    said = capsys.readouterr().err
    assert "ref_half1.mrc: reading maps of 48^3 px takes 0.00221 GB of memory, and the memory of this" in said
    assert "crop the maps and the mask" in said
    assert not Path("out").exists()


def tilt_series_of_31() -> TiltSeries:
    return make_series(np.random.default_rng(0), np.zeros((31, 64, 64)))


def test_smooth_motion_takes_memory_with_the_square_of_the_particles() -> None:
    settings, series = make_settings(48, 1), tilt_series_of_31()
    moving = replace(settings, motion=MotionSettings(squared_exponential=True))
    static, motion = (memory_bytes(series, 100_000, s, (48,)) for s in (settings, moving))
    assert static < 10e9 and motion > 80e9
    assert needs.least_bytes(series, 100_000, moving) > 80e9
    few = replace(moving, motion=MotionSettings(max_deformations=50))
    assert static < memory_bytes(series, 100_000, few, (48,)) < motion


def test_motion_that_neighbours_predict_takes_memory_with_the_number_of_particles() -> None:
    settings, series = make_settings(48, 1), tilt_series_of_31()
    moving = replace(settings, motion=MotionSettings())
    by_number = [
        memory_bytes(series, number, moving, (48,)) - memory_bytes(series, number, settings, (48,))
        for number in (10_000, 20_000)
    ]
    assert by_number[1] == pytest.approx(2 * by_number[0], rel=0.01)
    assert needs.least_bytes(series, 100_000, moving) < 10e9


@pytest.mark.parametrize("options", [[], ["--motion", "--diag"]])
def test_the_disk_space_is_estimated_well(options: list[str], project: Path) -> None:
    assert run([*ALIGN, "--o", "out", *options]) == 0
    written = [path for path in (project / "out").rglob("*") if path.suffix in (".npz", ".ply", ".mrc")]
    written += list((project / "out").glob("motion.star"))
    taken = sum(path.stat().st_size for path in written)
    settings = make_settings(48, 6)
    if options:
        settings = replace(settings, motion=MotionSettings(), run=replace(settings.run, diagnostics=True))
    series = make_series(np.random.default_rng(0), np.zeros((11, 64, 64)))
    estimate = 2 * stored_bytes(series, 6, settings, (48,))
    assert 0.5 * taken < estimate < 2 * taken


def test_free_space_is_that_of_the_nearest_folder(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not/there/yet") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_sizes_read_as_people_write_them() -> None:
    assert [size_in_words(n) for n in (2.5e5, 3.21e7, 6.54e9, 1.2e12)] == [
        "0.2 MB",
        "32.1 MB",
        "6.54 GB",
        "1.2 TB",
    ]
