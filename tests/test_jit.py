"""Kernels give what Python gives, whatever arrays they take, and are kept where only the caller can write."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import numpy as np
import pytest

import tomopolish
from tomopolish import kernel_cache
from tomopolish.cli import run
from tomopolish.jit import inlined, kernel

PACKAGE = Path(tomopolish.__file__).parent


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is chosen for kernels."""
    monkeypatch.setenv("TOMOPOLISH_CACHE_DIR", str(tmp_path / "cache"))
    kernel_cache.folder.cache_clear()
    yield tmp_path / "cache"
    kernel_cache.folder.cache_clear()


@inlined(error_model="numpy")
def _weighted(value, factor):  # type: ignore[no-untyped-def]
    return value * factor


@kernel(error_model="numpy")
def blend(values, factors, share, out):  # type: ignore[no-untyped-def]
    total = 0.0
    flat, where = values.reshape(-1), out.reshape(-1)
    for i in range(len(flat)):
        where[i] += _weighted(flat[i], factors[i % len(factors)]) * share
        total += where[i]
    return total


def arranged(array: np.ndarray, how: str) -> np.ndarray:
    """The same numbers, in memory in some other way."""
    if how == "transposed":
        return np.ascontiguousarray(array.T).T
    if how == "stepped":
        wide = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
        wide[::2, 1::3] = array
        return wide[::2, 1::3]
    if how == "backwards":
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    return array.copy()


@pytest.mark.parametrize("how", ["contiguous", "transposed", "stepped", "backwards"])
def test_the_layout_of_arrays_changes_nothing_and_compiles_nothing(how: str) -> None:
    rng = np.random.default_rng(5)
    values, factors, before = rng.normal(size=(4, 7)), rng.normal(size=7), rng.normal(size=(4, 7))
    out = arranged(before, how)
    total = blend(arranged(values, how), factors, 0.25, out)
    np.testing.assert_allclose(out, before + values * factors * 0.25, rtol=1e-14)
    assert total == pytest.approx(out.sum())
    assert len(blend.compiled.signatures) == 1


def test_arrays_that_are_read_only_swapped_or_in_a_file_are_taken(tmp_path: Path) -> None:
    values, factors = np.arange(6.0).reshape(2, 3), np.broadcast_to(2.0, (3,))
    stored = np.memmap(tmp_path / "values", dtype=np.float64, mode="w+", shape=(2, 3))
    stored[:] = values
    for same in (values.astype(">f8"), stored, np.frombuffer(values.tobytes()).reshape(2, 3)):
        out = np.zeros((2, 3), np.asarray(same).dtype)
        blend(same, factors, 0.5, out)
        np.testing.assert_array_equal(out, values)
    assert len(blend.compiled.signatures) == 1


def test_a_kernel_first_called_by_many_threads_is_compiled_once() -> None:
    @kernel()
    def twice(value):  # type: ignore[no-untyped-def]
        return 2 * value

    results: list[int] = []
    threads = [threading.Thread(target=lambda n=n: results.append(twice(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(0, 16, 2))
    assert sum(twice.compiled.stats.cache_misses.values()) <= 1


def test_a_kernel_that_cannot_be_kept_runs_all_the_same(base: Path) -> None:
    @kernel()
    def thrice(value):  # type: ignore[no-untyped-def]
        return 3 * value

    kept, _ = kernel_cache.folder()
    assert kept is not None
    for path in kept.iterdir():
        path.rmdir()
        path.write_text("in the way")  # as a full disk, it has numba raise OSError
    assert thrice(2) == 6 and thrice(3) == 9


KEPT = """
import logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from tomopolish.jit import kernel

@kernel(fastmath=True)
def add(value, more):
    return value + more

print(add(1.5, 2.0), sum(add.compiled.stats.cache_hits.values()))
"""


def start_kept(tmp_path: Path) -> subprocess.Popen[str]:
    if not (tmp_path / "script.py").exists():  # older versions of numba look at a file's time
        (tmp_path / "script.py").write_text(KEPT)
    env = {**os.environ, "TOMOPOLISH_CACHE_DIR": str(tmp_path / "cache")}
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py")], env=env, stdout=subprocess.PIPE, text=True
    )


def test_processes_share_kept_kernels_and_survive_damaged_ones(tmp_path: Path) -> None:
    together = [start_kept(tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in together]
    assert sorted(text.splitlines()[-1] for text in said) == ["3.5 0", "3.5 1"]
    assert sum(text.count("Compiling kernels") for text in said) == 1
    damaged = list((tmp_path / "cache").rglob("script.add*.nb[ci]"))
    assert len(damaged) == 2
    for path in damaged:
        path.write_bytes(path.read_bytes()[:40])
    for expected in ("3.5 0", "3.5 0", "3.5 1"):  # the folder is made anew, and then found
        assert start_kept(tmp_path).communicate(timeout=120)[0].splitlines()[-1] == expected


def test_the_folder_is_the_chosen_one_or_numbas_or_the_users(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path / "numbas"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "users"))
    assert kernel_cache.chosen_folder() == base
    monkeypatch.delenv("TOMOPOLISH_CACHE_DIR")
    assert kernel_cache.chosen_folder() == tmp_path / "numbas" / "tomopolish"
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    assert kernel_cache.chosen_folder() == tmp_path / "users" / "tomopolish"


def test_a_new_folder_is_open_to_the_caller_alone(base: Path) -> None:
    kept, fault = kernel_cache.folder()
    assert kept is not None and not fault
    assert kept.parent == base and kept.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("mode", "of", "fault"),
    [
        (0o777, "base", "write to"),
        (0o775, "base", "write to"),
        (0o775, "kept", "write to"),
        (0o750, "kept", "enter"),
        (0o777, "above", "write to"),
    ],
)
def test_a_folder_that_others_can_write_to_is_not_used(base: Path, mode: int, of: str, fault: str) -> None:
    kept, _ = kernel_cache.folder()
    assert kept is not None
    {"base": base, "kept": kept, "above": base.parent}[of].chmod(mode)
    kernel_cache.folder.cache_clear()
    unused, reason = kernel_cache.folder()
    base.parent.chmod(0o700)
    assert unused is None and fault in reason and str(base.parent) in reason


def test_a_folder_of_another_user_is_not_used(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: base.stat().st_uid + 1)
    unused, reason = kernel_cache.folder()
    assert unused is None and "another user" in reason


def test_a_process_waits_once_for_another_one_that_was_stopped(
    base: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel_cache, "SECONDS_UNTIL_WORDS", 0.1)
    monkeypatch.setattr(kernel_cache, "LONGEST_WAIT_S", 1.0)
    for name in ("_has_spoken", "_waits_no_more"):
        monkeypatch.setattr(kernel_cache, name, threading.Event())
    kept, _ = kernel_cache.folder()
    assert kept is not None
    with caplog.at_level("INFO"), filelock.FileLock(kept / "lock"):
        start = time.monotonic()
        for _ in range(5):
            with kernel_cache.alone():
                pass
        assert 1.0 <= time.monotonic() - start < 3.0
    assert [record.message for record in caplog.records] == [
        "Waiting for another process that compiles kernels, for up to 1 s"
    ]


def test_where_no_folder_can_be_made_nothing_is_kept(base: Path) -> None:
    base.write_text("in the way")
    unused, reason = kernel_cache.folder()
    assert unused is None and str(base) in reason

    @kernel()
    def minus(value):  # type: ignore[no-untyped-def]
        return -value

    assert minus(3) == -3


def test_only_old_folders_of_ours_are_removed(base: Path) -> None:
    names = ["kernels-0123456789abcdef", "kernels-fedcba9876543210", "kernels-mine", "other"]
    for name in names:
        (base / name).mkdir(parents=True)
        (base / name / "file").write_text("content")
        if name != names[1]:
            os.utime(base / name, (0, 0))
    base.chmod(0o700)
    kept, _ = kernel_cache.folder()
    assert kept is not None
    assert sorted(path.name for path in base.iterdir()) == sorted([*names[1:], kept.name])


def test_all_that_is_inlined_is_in_the_folders_name() -> None:
    """Numba does not see a change in it: its file must be one whose content changes the folder's name."""
    for path in PACKAGE.rglob("*.py"):
        if "import inlined" in path.read_text() or "inlined(" in path.read_text():
            name = str(path.relative_to(PACKAGE))
            assert "kernels" in name or name == "jit.py"


RUN = """
import gc, sys
from tomopolish.cli import run
from tomopolish.jit import Kernel

status = run(sys.argv[1:])
kernels = [thing for thing in gc.get_objects() if isinstance(thing, Kernel)]
print("compiled for several types:", [k.__name__ for k in kernels if len(k.compiled.signatures) > 1])
print("called:", *(k.__name__ for k in kernels if k.compiled.signatures))
sys.exit(status)
"""
NOT_KEPT = ("_smallest", "add_power", "eliminate_points")
ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report", "--device", "cpu"]


@pytest.mark.slow
def test_a_first_run_compiles_each_kernel_once_says_so_and_agrees_with_later_runs(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some kernels are compiled anew: all of them would take half a minute."""
    monkeypatch.chdir(mini)
    status = run([*ALIGN, "--o", str(tmp_path / "before")])  # compiles what no test has called so far
    assert status == 0
    suites, _ = kernel_cache.folder()
    if suites is not None:
        with kernel_cache.alone():
            shutil.copytree(suites, tmp_path / "kernels" / suites.name)
        (tmp_path / "kernels").chmod(0o700)
        shutil.rmtree(tmp_path / "kernels" / suites.name / "compiled")  # what says that kernels are there
        for path in [p for name in NOT_KEPT for p in (tmp_path / "kernels").rglob(f"*.{name}-*.nb[ci]")]:
            path.unlink()
    codes = set((tmp_path / "kernels").rglob("*.nbc"))
    said = [
        subprocess.run(
            [sys.executable, "-c", RUN, *ALIGN, "--o", str(tmp_path / name)],
            env={**os.environ, "TOMOPOLISH_CACHE_DIR": str(tmp_path / "kernels")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in ("first", "second")
    ]
    assert [text.count("Compiling kernels") for text in said] == [1, 0]
    for text in said:
        assert "compiled for several types: []" in text, "data decided on the types of a kernel"
        assert {*NOT_KEPT[1:], "box_spectra"} <= set(text.partition("called:")[2].split())
    called = ["_smallest" in text.partition("called:")[2].split() for text in said]
    assert called == [True, False], "it is announced at once that kernels are compiled, but where none is"
    added = {
        path.name.split("-")[0].split(".")[-1]
        for path in (tmp_path / "kernels").rglob("*.nbc")
        if path not in codes
    }
    assert added == set(NOT_KEPT) or suites is None
    for file in ("particles.star", "tilt_series/TS_01.star"):
        first, second = ((tmp_path / name / file).read_text().split() for name in ("first", "second"))
        for a, b in zip(first, second, strict=True):
            assert a == b or abs(float(a) - float(b)) < 1e-4


def test_a_run_that_is_refused_does_not_speak_of_compiling(mini: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tomopolish",
            "align",
            "--b",
            "48",
            "--i",
            "no.star",
            "--o",
            str(tmp_path / "o"),
        ],
        cwd=mini,
        env={**os.environ, "TOMOPOLISH_CACHE_DIR": str(tmp_path / "kernels")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2 and ended.stdout == "" and "no.star" in ended.stderr
