"""Rounds on workers: the same maps, but for rounding."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tomopolish.cli import run
from workers_marks import ON_WORKERS

pytest.importorskip("distributed")
pytestmark = ON_WORKERS
TINY = ["--rounds", "1", "--no_joint", "--hold_out", "0", "--no_report", "--j", "2"]
OPTIONS = ["--i", "optimisation_set.star", "--b", "48", "--r", "6", *TINY]


@pytest.mark.slow
def test_maps_on_workers_are_those_of_one_process(project: Path) -> None:
    assert run(["polish", *OPTIONS, "--o", "here"]) == 0
    assert run(["polish", *OPTIONS, "--workers", "2", "--o", "there"]) == 0
    for name in ("round00/maps/half1.mrc", "round01/maps/half2.mrc", "round01/maps/merged.mrc"):
        with mrcfile.open(Path("here") / name) as one, mrcfile.open(Path("there") / name) as other:
            np.testing.assert_allclose(other.data, one.data, atol=1e-4 * float(np.abs(one.data).max()))
