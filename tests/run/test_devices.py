"""Several devices: as many tomograms at once, and everything else as one after the other."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tomopolish.errors import RunError, RunStopped
from tomopolish.run import local
from tomopolish.run.local import one_after_another, runner_for, several_at_once
from tomopolish.run.reporter import SilentReporter

NAMES = [f"TS_{i}" for i in range(6)]


class Work:
    """Tomograms that each wait until `count` of them are being refined; some fail."""

    def __init__(
        self, count: int, failing: dict[str, Exception] | None = None, *, strict: bool = False
    ) -> None:
        self.settings = SimpleNamespace(run=SimpleNamespace(strict=strict, output_folder=Path("nowhere")))
        self.store = None
        self.prepared = 0
        self.begun: list[str] = []
        self._barrier = threading.Barrier(count, timeout=4)
        self._failing = failing or {}

    def prepare(self) -> str:
        self.prepared += 1
        return "references"

    def compute(self, name: str, prepared: str, progress: Any) -> Any:
        assert prepared == "references"
        self.begun.append(name)
        self._barrier.wait()
        if name in self._failing:
            raise self._failing[name]
        time.sleep(0.3 if self._failing else 0)
        return SimpleNamespace(name=name, statistics=SimpleNamespace(warnings=(f"{name} is odd",)))


def run(work: Any, count: int) -> tuple[Any, SilentReporter]:
    reporter = SilentReporter()
    return several_at_once(work, NAMES, reporter, count=count), reporter


def test_tomograms_run_at_the_same_time_and_come_back_in_order() -> None:
    work = Work(3)
    (results, failures), reporter = run(work, 3)
    assert list(results) == NAMES
    assert [result.name for result in results.values()] == NAMES
    assert failures == {}
    assert work.prepared == 1
    assert sorted(reporter.warnings) == [f"{name} is odd" for name in NAMES]


def test_a_tomogram_that_fails_does_not_stop_the_others() -> None:
    (results, failures), _ = run(Work(2, {"TS_2": ValueError("bad image")}), 2)
    assert list(results) == [name for name in NAMES if name != "TS_2"]
    assert list(failures) == ["TS_2"]
    assert "bad image" in failures["TS_2"]


@pytest.mark.parametrize(
    ("error", "strict", "raised"),
    [(RunStopped("stop"), False, RunStopped), (ValueError("bad"), True, RunError)],
)
def test_an_end_of_the_run_begins_no_other_tomogram(
    error: Exception, strict: bool, raised: type[Exception]
) -> None:
    work = Work(2, {"TS_0": error, "TS_1": error}, strict=strict)
    with pytest.raises(raised):
        run(work, 2)
    assert len(work.begun) < len(NAMES)


def test_nothing_to_do_prepares_nothing() -> None:
    work = Work(1)
    assert several_at_once(work, [], SilentReporter(), count=2) == ({}, {})  # type: ignore[arg-type]
    assert work.prepared == 0


def test_one_device_takes_one_tomogram_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runner_for("cpu").func is one_after_another  # type: ignore[attr-defined]
    monkeypatch.setattr(local, "tomograms_at_once", lambda device: 2)
    runner: Any = runner_for("cuda:0,cuda:1")
    assert runner.func is several_at_once
    assert runner.keywords["count"] == 2
