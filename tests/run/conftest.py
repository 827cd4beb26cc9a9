"""A small project to run in, and a count of what is computed."""

from __future__ import annotations

import pytest

from relion_project import project
from tomopolish import pipeline
from tomopolish.run import align as whole_run
from tomopolish.run.work import Stages

__all__ = ["project"]


@pytest.fixture
def blank_logfile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave logfile.pdf empty for tests that do not look at it: to draw it takes longer than to refine."""
    monkeypatch.setattr("tomopolish.run.job_files.write_logfile", lambda path, *_: path.touch())


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
