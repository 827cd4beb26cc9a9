"""`--diag` leaves the summed windows and the weights that RELION's users know, in RELION's layout."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np

from tomopolish.cli import run

WEIGHT, WINDOWS = "diag_TS_01_frq_weight.mrc", "CCsum_TS_01.mrc"


def test_diag_writes_what_relion_writes(mini: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(mini)
    options = [
        "align",
        "--i",
        "optimisation_set.star",
        "--b",
        "48",
        "--r",
        "6",
        "--diag",
        "--o",
        str(tmp_path),
    ]
    assert run(options) == 0
    reference = mini / "relion" / "shift_by_particles"
    found, theirs = (mrcfile.read(folder / WEIGHT) for folder in (tmp_path, reference))
    np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-6)
    found, theirs = (mrcfile.read(folder / WINDOWS) for folder in (tmp_path, reference))
    assert found.shape == theirs.shape
    # RELION drops half of the frequencies along x and loses windows (docs/dev/conventions.md), so only nearly
    # the same
    assert np.corrcoef(found.ravel(), theirs.ravel())[0, 1] > 0.98
    assert not found[:, :3].any() and not found[:, :, -3:].any()
    with mrcfile.open(tmp_path / WINDOWS) as file:
        assert float(file.voxel_size.x) == 4.0
