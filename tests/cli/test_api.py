"""The Python API does what the command does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tomopolish
from tomopolish.cli import run
from tomopolish.errors import InputError
from tomopolish.settings.alignment import FitSettings, MotionSettings


def test_results_are_arrays_and_can_be_written(project: Path) -> None:
    loaded = tomopolish.load("optimisation_set.star")
    aligned = tomopolish.align(loaded, box_px=48, range_px=6, threads=2)
    tomogram = loaded.tomogram("TS_01")
    series, particles = tomogram.series, tomogram.particles
    result = aligned.results["TS_01"]
    assert result.alignment.projections_px.shape == series.projections_px.shape
    assert result.alignment.positions_px.shape == particles.positions_px.shape
    assert result.statistics.log_likelihood_gain > 0
    assert not aligned.failures
    assert aligned.verdict is not None and aligned.verdict.helped
    written = aligned.write("from_python")
    assert written == project / "from_python" / "optimisation_set.star"
    assert "TS_02" in aligned.write_report("from_python").read_text()

    run(["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--j", "2", "--o", "from_shell"])
    for name in ("particles.star", "tilt_series/TS_01.star"):
        assert (project / "from_python" / name).read_bytes() == (project / "from_shell" / name).read_bytes()


def test_options_are_settings(project: Path) -> None:
    loaded = tomopolish.load(Path("optimisation_set.star"))
    aligned = tomopolish.align(loaded, box_px=48, range_px=6, fit=FitSettings(const_positions=True))
    particles = loaded.tomogram("TS_01").particles
    np.testing.assert_array_equal(aligned.results["TS_01"].alignment.positions_px, particles.positions_px)


def test_it_is_silent_unless_asked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = tomopolish.load("optimisation_set.star")
    tomopolish.align(loaded, box_px=48, range_px=6)
    assert capsys.readouterr() == ("", "")
    tomopolish.align(loaded, box_px=48, range_px=6, show_progress=True)
    assert "TS_02 (2/2)" in capsys.readouterr().out


def test_what_cannot_work_is_refused(project: Path) -> None:
    loaded = tomopolish.load("optimisation_set.star")
    with pytest.raises(InputError, match="--b 47"):
        tomopolish.align(loaded, box_px=47)
    with pytest.raises(InputError, match="--motion and --const_p"):
        tomopolish.align(loaded, box_px=48, motion=MotionSettings(), fit=FitSettings(const_positions=True))
    with pytest.raises(InputError, match=r"nowhere\.star"):
        tomopolish.load("nowhere.star")


def test_the_package_offers_the_api_and_nothing_it_does_not_have() -> None:
    assert {"load", "align", "AlignedProject", "__version__"} <= set(dir(tomopolish))
    with pytest.raises(AttributeError, match="polish"):
        _ = tomopolish.polish  # type: ignore[attr-defined]
