"""`--evaluate`: half maps before and after a run, on disk, on the screen and in the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.fsc_file import read_curves
from tomopolish.errors import InputError
from tomopolish.run import comparison
from tomopolish.run.comparison import read_comparison
from tomopolish.run.store import ResultsStore

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report", "--o", "out/"]


def test_it_writes_both_curves_and_says_what_the_maps_gained(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*ALIGN, "--evaluate"]) == 0
    shown = capsys.readouterr().out
    found = read_comparison(project / "out")
    assert found is not None and found.masked
    pixel = open_dataset(Path("optimisation_set.star")).pixel_size_angstrom
    for when, curve, resolution in (
        ("before", found.before, found.resolution_before_angstrom),
        ("after", found.after, found.resolution_after_angstrom),
    ):
        curves, stated = read_curves(project / "out" / "evaluation" / f"fsc_{when}.star")
        assert stated == pytest.approx(pixel) and set(curves) >= {"corrected", "unmasked", "masked"}
        np.testing.assert_allclose(curves["corrected"], curve)
        shell = np.flatnonzero(curve[1:] < 0.143)[0]  # the last one above
        assert resolution[0.143] == pytest.approx(1 / found.frequency_per_angstrom[shell])
    before, after = found.resolution_before_angstrom[0.143], found.resolution_after_angstrom[0.143]
    assert after < 0.6 * before
    assert f"{before:.2f} → {after:.2f}" in shown
    assert f"Half maps reach {after:.2f} Å (FSC 0.143) after it, {before:.2f} Å before." in shown


def test_the_maps_before_are_those_of_the_input_and_after_those_of_the_result(project: Path) -> None:
    """The same curves as `tomopolish reconstruct` gives, one set at a time."""
    assert run([*ALIGN, "--evaluate"]) == 0
    for when, source in (("before", "optimisation_set.star"), ("after", "out/optimisation_set.star")):
        assert run(["reconstruct", "--i", source, "--b", "48", "--o", f"maps_{when}"]) == 0
        alone, _ = read_curves(project / f"maps_{when}" / "fsc.star")
        together, _ = read_curves(project / "out" / "evaluation" / f"fsc_{when}.star")
        np.testing.assert_allclose(alone["corrected"], together["corrected"], atol=1e-5)
        for name in ("half1", "half2", "merged"):
            expected = (project / f"maps_{when}" / f"{name}.mrc").read_bytes()
            assert (project / "out" / "evaluation" / f"{name}_{when}.mrc").read_bytes() == expected


def test_a_run_without_it_leaves_no_stale_curves(project: Path) -> None:
    assert run([*ALIGN, "--evaluate"]) == run(ALIGN) == 0
    assert read_comparison(project / "out") is None


def test_a_fault_in_it_does_not_cost_the_results(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def faulty(*_: object, **__: object) -> None:
        raise InputError("mask.mrc: the disk is gone")

    monkeypatch.setattr(comparison, "compare_maps", faulty)
    assert run([*ALIGN, "--evaluate"]) == 0
    captured = capsys.readouterr()
    assert "warning: maps before and after were not compared: mask.mrc: the disk is gone" in captured.err
    assert (project / "out" / "optimisation_set.star").exists()
    assert "The refinement helped" in captured.out


def test_the_closing_tables_show_the_evidence_that_is_stored(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also of tomograms that an earlier run finished."""
    assert run(ALIGN) == 0
    first = capsys.readouterr().out
    assert run([*ALIGN, "--only_do_unfinished"]) == 0
    again = capsys.readouterr().out
    evidence = ResultsStore(folder=project / "out" / "temp").load("TS_01").statistics.evidence
    assert evidence is not None
    row = next(line for line in first.splitlines() if line.startswith("TS_01  ") and "→" in line)
    assert row.split()[1:3] == [f"{evidence.pairs}", f"{evidence.gain_per_pair:.3g}"]
    assert row in again
    sentence = next(line for line in first.splitlines() if line.startswith("The refinement helped: "))
    assert sentence in again
