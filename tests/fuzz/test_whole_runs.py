"""Whole runs with changed files; `benchmarks/fuzz.py` tries many more of them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import CHANGES, Change
from whole_run import FILES, OPTIONS, RESULT, WholeRuns


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> WholeRuns:
    return WholeRuns(tmp_path_factory.mktemp("runs") / "project")


def test_whole_runs_survive_changed_files(runs: WholeRuns) -> None:
    met: Counter[str] = Counter()

    @settings(max_examples=30)
    @given(st.sampled_from(FILES), CHANGES, st.sampled_from(OPTIONS))
    def search(name: str, changes: list[Change], options: tuple[str, ...]) -> None:
        met[runs.survive(name, changes, options)] += 1

    search()
    assert met["status 0"] > 2 and met["status 2"] > 5


def test_a_run_resumes_from_a_sound_result_and_repeats_a_damaged_one(runs: WholeRuns) -> None:
    assert runs.survive(RESULT, [], ()) == "status 0"
    assert runs.survive(RESULT, [(0, 500, 3, 0)], ()) == "status 0"
    assert runs.survive(RESULT, [(60, 900, 0, 0)], ()) == "status 0"
