"""Evaluation of dirty projects: errors of the good particles, and how well scores tell good from bad."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulation_cases import varied

from tomopolish.cli import run
from tomopolish.dataset.relion.scores import read_scores
from tomopolish.errors import InputError
from tomopolish.physics.geometry import rotation_from_vector
from tomopolish.simulate.evaluate import evaluate_geometry, input_geometry
from tomopolish.simulate.flags import particle_counts, tilt_counts
from tomopolish.simulate.parts import (
    DirtSettings,
    SimulatedTomogram,
    SimulationSettings,
    Truth,
    simulate_tomogram,
    write_project,
)
from tomopolish.simulate.truth import PickKind

DIRT = DirtSettings(false_particles=0.4, misoriented=0.2, picked_twice=0.3, blank_images=1, covered_images=1)


@pytest.fixture(scope="module")
def settings(small: SimulationSettings) -> SimulationSettings:
    return replace(varied(small, "specimen", particles=10, min_distance_px=22.0), dirt=DIRT)


@pytest.fixture(scope="module")
def tomogram(settings: SimulationSettings) -> SimulatedTomogram:
    return simulate_tomogram(settings)


@pytest.fixture(scope="module")
def truth(tomogram: SimulatedTomogram) -> Truth:
    return tomogram.truth


def _of_kind(truth: Truth, kind: PickKind) -> np.ndarray:
    return np.flatnonzero([k is kind for k in truth.particle_kinds])


def _cells(truth: Truth, probability: np.ndarray, flagged: np.ndarray) -> dict[str, tuple[float, bool]]:
    assert truth.particle_names is not None
    return {
        name: (float(p), bool(f))
        for name, p, f in zip(truth.particle_names, probability, flagged, strict=True)
    }


def test_bad_particles_and_images_are_left_out_of_the_good_errors(truth: Truth) -> None:
    exact = input_geometry(truth)
    assert exact is not None
    exact = replace(exact, projections_px=truth.projections_px, positions_px=truth.positions_px.copy())
    wrong = exact.positions_px.copy()
    wrong[~truth.good_particles] += 7.0
    projections = exact.projections_px.copy()
    projections[~truth.good_tilts, 0, 3] += 5.0
    spoilt = replace(exact, projections_px=projections, positions_px=wrong)
    evaluation = evaluate_geometry(truth, spoilt, input_geometry(truth))
    assert evaluation.good_after is not None and evaluation.good_before is not None
    assert evaluation.good_after.rms_2d_angstrom == pytest.approx(0, abs=1e-9)
    assert (
        evaluation.good_after.visible_pairs == truth.visible[truth.good_particles][:, truth.good_tilts].sum()
    )
    assert evaluation.after.rms_2d_angstrom > 10
    assert evaluation.good_before.rms_2d_angstrom > 1
    # Where nothing is bad, nothing is said of the good.
    clean = replace(truth, particle_kinds=(), tilt_kinds=(), originals=None)
    assert evaluate_geometry(clean, spoilt, None).good_after is None


def test_the_net_rotation_of_the_good_ones_is_that_of_the_good_images(truth: Truth) -> None:
    exact = input_geometry(truth)
    assert exact is not None
    turned = truth.projections_px.copy()
    turn = rotation_from_vector(np.array([0.3, 0.2, 0.1]))
    turned[~truth.good_tilts, :3, :3] = turn @ turned[~truth.good_tilts, :3, :3]
    evaluation = evaluate_geometry(truth, replace(exact, projections_px=turned), None)
    assert evaluation.good_after is not None
    assert evaluation.good_after.net_rotation_degrees == pytest.approx(0, abs=1e-5)
    assert evaluation.after.net_rotation_degrees > 0.1


def test_recall_false_alarms_and_calibration_are_counted(truth: Truth) -> None:
    bad = [*_of_kind(truth, PickKind.FALSE), *_of_kind(truth, PickKind.MISORIENTED)]
    good, again = _of_kind(truth, PickKind.GOOD), _of_kind(truth, PickKind.DUPLICATE)
    assert truth.originals is not None
    first = truth.originals[again]
    single = np.setdiff1d(good, first)
    flagged, probability = np.zeros(17, dtype=bool), np.full(17, 0.97)
    probability[bad] = 0.02
    probability[bad[:2]], probability[single[0]] = 0.55, 0.58
    flagged[bad[1:]] = True  # one is missed
    flagged[single[0]] = True  # a false alarm
    flagged[again[0]] = flagged[first[1]] = True  # either pick will do
    counts = particle_counts(truth, _cells(truth, probability, flagged))
    assert (counts.bad, counts.bad_flagged, counts.good, counts.good_flagged) == (6, 5, 8, 1)
    assert counts.recall == pytest.approx(5 / 6) and counts.false_alarms == pytest.approx(1 / 8)
    assert (counts.duplicates, counts.duplicates_flagged) == (3, 2)
    assert counts.bin_counts == (4, 0, 0, 0, 0, 3, 0, 0, 0, 7)
    assert counts.bin_good == (0, 0, 0, 0, 0, 1, 0, 0, 0, 7)
    flagged[again[1]] = True  # both picks of one particle: one too many
    assert particle_counts(truth, _cells(truth, probability, flagged)).good_flagged == 2
    doubled = counts + counts
    assert doubled.bad == 12 and doubled.bin_counts[0] == 8 and doubled.recall == counts.recall


def test_blank_and_covered_images_are_the_bad_ones(truth: Truth) -> None:
    flagged = ~truth.good_tilts
    flagged[np.flatnonzero(truth.good_tilts)[:2]] = True
    counts = tilt_counts(truth, np.where(truth.good_tilts, 0.99, 1e-4), flagged)
    assert (counts.bad, counts.bad_flagged, counts.good, counts.good_flagged) == (2, 2, 9, 2)
    assert counts.bin_good[9] == counts.bin_counts[9] == 9 and counts.bin_counts[0] == 2


def test_evaluate_prints_good_errors_flags_and_calibration(
    settings: SimulationSettings, truth: Truth, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path, settings)
    names = truth.particle_names or ()
    rows = [
        f"TS_01 {n} {0.9 * g + 0.05:.2f} {1 - g}" for n, g in zip(names, truth.good_particles, strict=True)
    ]
    tilts = [f"TS_01 {0.9 * g + 0.05:.2f} {1 - g}" for g in truth.good_tilts]
    head = "_rlnTomoName\n{}_tomopolishProbability\n_tomopolishFlagged\n"
    (tmp_path / "scores.star").write_text(
        f"data_particles\nloop_\n{head.format('_rlnTomoParticleName' + chr(10))}" + "\n".join(rows)
        + f"\n\ndata_tilt_images\nloop_\n{head.format('')}" + "\n".join(tilts) + "\n"
    )  # fmt: skip
    options = ["evaluate", "--truth", str(tmp_path / "truth.json"), "--i", str(tmp_path)]
    assert run(options) == 0
    output = " ".join(capsys.readouterr().out.split())
    for words in (
        "Of the good particles, in the good tilt images",
        "6 of 6 (100.0 %)",
        "0 of 8 (0.0 %)",
        "0.9 to 1.0 8 of 8 (100.0 %) 9 of 9 (100.0 %)",
        "Good particles in good tilt images: RMS 2D error",
    ):
        assert words in output
    assert run([*options, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["flags"]["particles"]["recall"] == 1 and content["flags"]["tilt_images"]["bad"] == 2
    assert content["tomograms"]["TS_01"]["good_after"]["visible_pairs"] < content["visible_pairs"]
    assert 0 < content["good_rms_2d_after_angstrom"] != content["rms_2d_after_angstrom"]


def test_malformed_scores_are_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.star").write_text("data_particles\nloop_\n_rlnTomoName\nTS_01\n")
    with pytest.raises(InputError, match="tomopolishProbability"):
        read_scores(tmp_path / "scores.star")
