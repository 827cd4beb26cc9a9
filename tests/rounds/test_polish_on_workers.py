"""Rounds of two species on workers: the same files and figures as in one process, to the last bit."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from two_species import write_two_species

from tomopolish.cli import run
from tomopolish.dataset.star import read_star
from workers_marks import ON_FORKED_WORKERS

pytest.importorskip("distributed")
pytestmark = ON_FORKED_WORKERS
OPTIONS = "--i species.yaml --r 5 --rounds 1 --no_joint --hold_out 0 --no_report --j 2"


@pytest.mark.slow
def test_rounds_on_workers_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_two_species(tmp_path)
    assert run(["polish", *OPTIONS.split(), "--o", "here"]) == 0
    assert run(["polish", *OPTIONS.split(), "--workers", "2", "--o", "there"]) == 0
    assert capsys.readouterr().out.count("Workers are reached") == 1, "the same workers do all steps"
    here, there = (
        {path.relative_to(name): path for path in Path(name).rglob("*") if path.is_file()}
        for name in ("here", "there")
    )
    assert here.keys() == there.keys()
    maps = [name for name in here if name.suffix == ".mrc"]
    assert len(maps) == 2 * (5 + 5 + 2)  # of each species: of both rounds, and of the best
    for name in maps:
        with mrcfile.open(here[name]) as one, mrcfile.open(there[name]) as other:
            np.testing.assert_array_equal(other.data, one.data)
    tables = [read_star(Path(name) / "rounds.star").table("rounds") for name in ("here", "there")]
    for label in ("tomopolishMeanFsc", "tomopolishShiftChangeAngst"):
        np.testing.assert_array_equal(tables[1].floats(label), tables[0].floats(label))
