"""Kernels that must be compiled are announced, once."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

import small_project
from small_project import make_settings
from tomopolish.imaging.kernels import compare as compare_kernels
from tomopolish.run import startup

WAKE = """
import sys
from tomopolish.imaging.kernels import compare as compare_kernels
print(compare_kernels.are_kept())
compare_kernels.wake()
print("numba" in sys.modules)
"""


def test_kernels_are_compiled_in_a_first_process_and_found_in_a_second(tmp_path: Path) -> None:
    """In a folder of their own, and then numba, slow to import, is not imported."""
    told = [
        subprocess.run(
            [sys.executable, "-c", WAKE],
            env={**os.environ, "TOMOPOLISH_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert told == [["False", "True"], ["True", "False"]]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("known_first", [True, False])
def test_a_run_says_that_it_compiles_where_it_does(
    fresh: bool, known_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(32, 4)
    said: list[str] = []
    monkeypatch.setattr(compare_kernels, "are_kept", lambda: not fresh)
    compiles: Future[bool] = Future()
    if known_first:
        startup._kernels(settings, compiles, own_process=False)
        assert not said
        startup.announce_compiling(compiles, said.append)
    else:
        startup.announce_compiling(compiles, said.append)
        assert not said
        startup._kernels(settings, compiles, own_process=False)
    assert said == ([startup.COMPILING] if fresh else [])


def test_a_run_that_is_refused_says_nothing_of_kernels_that_are_not_there(mini: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tomopolish",
            "align",
            "--b",
            "48",
            "--i",
            "no_such.star",
            "--o",
            str(tmp_path / "out"),
        ],
        cwd=mini,
        env={**os.environ, "TOMOPOLISH_CACHE_DIR": str(tmp_path / "kernels")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert "no_such.star" in ended.stderr


NO_SCIPY = """
import sys
from concurrent.futures import Future
from tomopolish.imaging.kernels import compare as compare_kernels
from small_project import make_settings
from tomopolish.run import compile_ahead, startup
compile_ahead.start = lambda settings: None
startup._kernels(make_settings(32, 4), Future(), own_process=True)
print("numba" in sys.modules)
print("scipy.linalg" in sys.modules)
import scipy.linalg
print(scipy.linalg.norm([3, 4]))
"""


def test_numba_is_set_up_without_scipys_linear_algebra_which_is_there_afterwards(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", NO_SCIPY],
        env={
            **os.environ,
            "TOMOPOLISH_CACHE_DIR": str(tmp_path),
            "PYTHONPATH": str(Path(small_project.__file__).parent),
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.split() == ["True", "False", "5.0"]


@pytest.mark.slow
def test_a_run_that_compiles_and_a_later_one_agree_to_the_last_digit(mini: Path, tmp_path: Path) -> None:
    command = [
        "align",
        "--i",
        "optimisation_set.star",
        "--b",
        "48",
        "--r",
        "6",
        "--no_report",
        "--device",
        "cpu",
    ]
    for name in ("first", "second"):
        subprocess.run(
            [sys.executable, "-m", "tomopolish", *command, "--o", str(tmp_path / name)],
            cwd=mini,
            env={**os.environ, "TOMOPOLISH_CACHE_DIR": str(tmp_path / "kernels")},
            capture_output=True,
            check=True,
        )
    # What the process beside the first run compiled has the types that the run met: nothing is there twice.
    compiled = sorted(path.name for path in (tmp_path / "kernels").iterdir())
    kernels = [name.rpartition("_")[0] for name in compiled]
    assert {"correlate_spectra", "score_positions"} <= set(kernels)
    assert len(set(kernels)) == len(kernels)
    for file in ("particles.star", "tilt_series/TS_01.star"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize("fails", [True, False])
def test_the_thread_of_imports_leaves_garbage_collection_as_it_was(fails: bool) -> None:
    def step() -> None:
        assert not gc.isenabled()
        if fails:
            raise ImportError("not here")

    reached: list[bool] = []
    startup._load([step, lambda: reached.append(True)])
    assert gc.isenabled() and reached == [True]
