"""The verdict on evidence: probabilities, lists of tomograms, and the sentence."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.results.tomogram import Evidence, MapComparison
from tomopolish.results.verdict import (
    FALSE_DISCOVERY_RATE,
    Verdict,
    improbability,
    sentence,
    verdict,
)


def made(gain: float, error: float, particles: int = 20, pairs: int = 50) -> Evidence:
    return Evidence(
        particles=particles,
        pairs=pairs,
        gain=gain,
        standard_error=error,
        agreement_before=0.4,
        agreement_after=0.8,
    )


def weighed(**evidence: Evidence) -> Verdict:
    found = verdict(evidence)
    assert found is not None
    return found


def test_a_clear_gain_helped_and_a_clear_loss_did_harm() -> None:
    better, worse = weighed(A=made(100, 10)), weighed(A=made(-100, 10))
    assert better.helped and not better.harmed and better.better == ("A",)
    assert worse.harmed and not worse.helped and worse.worse == ("A",)
    assert better.gain_per_pair == 2 and better.standard_error_per_pair == pytest.approx(0.2)
    assert sentence(better).startswith("The refinement helped: ") and "rose by 2 ± 0.2" in sentence(better)
    assert "from 40 % to 80 %" in sentence(better)
    assert sentence(worse).startswith("The refinement did not help") and "fell by 2 ± 0.2" in sentence(worse)


@pytest.mark.parametrize(("gain", "error"), [(12, 10), (-12, 10), (0, 0), (0, 10)])
def test_what_chance_explains_is_no_evidence(gain: float, error: float) -> None:
    found = weighed(A=made(gain, error))
    assert not found.helped and not found.harmed and found.undecided == ("A",)
    assert sentence(found).startswith("There is no evidence that the refinement helped")


def test_the_chance_is_students() -> None:
    assert improbability(made(2.0, 1.0, particles=11)) == pytest.approx(0.036694, abs=1e-6)
    assert improbability(made(2.0, 1.0, particles=2)) == pytest.approx(0.147584, abs=1e-6)
    assert improbability(made(0.0, 0.0)) == 0.5


def test_the_sentence_names_the_tomograms_that_got_worse() -> None:
    fleet = {f"good{i}": made(100, 10) for i in range(20)} | {f"bad{i}": made(-90, 10) for i in range(7)}
    found = weighed(**fleet, unclear=made(3, 10))
    text = sentence(found)
    assert found.helped
    assert "20 of 28 tomograms improved significantly, 1 undecided" in text
    assert "7 became worse: bad0, bad1, bad2, bad3, bad4 and 2 more" in text


def test_a_fleet_in_which_nothing_happened_lists_hardly_any() -> None:
    """Gains as chance makes them: the false discovery rate bounds how often anything is listed at all."""
    rng = np.random.default_rng(5)
    listed = helped = 0
    for _ in range(100):
        fleet = {}
        for number in range(100):
            gains = rng.standard_normal(20)
            fleet[str(number)] = made(float(gains.sum()), float(np.sqrt(20) * gains.std(ddof=1)))
        found = weighed(**fleet)
        listed += bool(found.better or found.worse)
        helped += found.helped
    assert listed <= 2 * 100 * FALSE_DISCOVERY_RATE
    assert 0 < helped <= 7  # 2.5 are expected


def test_a_few_tomograms_that_gained_are_found_among_many() -> None:
    rng = np.random.default_rng(6)
    fleet = {str(i): made(float(rng.normal(0, 10)), 10) for i in range(200)}
    found = weighed(**fleet, gained=made(80, 10))
    assert found.better == ("gained",) and found.worse == ()


def test_a_tomogram_without_standard_error_is_undecided_and_left_out_of_the_sum() -> None:
    found = weighed(A=made(100, 10), B=made(1e6, np.nan, particles=1))
    assert found.gain_per_pair == 2 and found.undecided == ("B",) and found.tomograms == 2
    assert verdict({"B": made(1e6, np.nan, particles=1)}) is None
    assert verdict({}) is None


def test_without_evidence_the_sentence_says_so_and_maps_speak_for_themselves() -> None:
    curve = np.linspace(1, 0, 10)
    maps = MapComparison(
        frequency_per_angstrom=np.arange(10) / 96,
        before=curve,
        after=curve,
        resolution_before_angstrom={0.143: 26.18, 0.5: 32.0},
        resolution_after_angstrom={0.143: 9.93, 0.5: 13.7},
        masked=True,
    )
    assert sentence(None) == "Whether the refinement helped was not tested."
    assert "9.93 Å (FSC 0.143) after it, 26.18 Å before" in sentence(None, maps)


def curves(loss: np.ndarray | float) -> MapComparison:
    """Half maps with a typical FSC before refinement, and less by `loss` after it."""
    before = 1 / (1 + (np.arange(40) / 18) ** 6)
    after = before - loss
    resolution = {0.143: 20.0, 0.5: 25.0}
    return MapComparison(
        frequency_per_angstrom=np.arange(40) / 400,
        before=before,
        after=after,
        resolution_before_angstrom=resolution,
        resolution_after_angstrom=resolution,
        masked=False,
    )


def test_maps_that_became_worse_leave_a_gain_of_pairs_in_doubt() -> None:
    scatter = 0.03 * np.random.default_rng(8).standard_normal(40)
    gained, lost = {"A": made(100, 10)}, {"A": made(-100, 10)}
    doubted = verdict(gained, curves(0.05 + scatter))
    assert doubted is not None and doubted.outcome == "doubtful"
    said = sentence(doubted, curves(0.05 + scatter))
    assert said.startswith(
        "Whether it helped cannot be judged: half maps from the refined geometry agree less"
    )
    harmed = verdict(lost, curves(0.05 + scatter))
    assert harmed is not None and harmed.outcome == "harmed"


@pytest.mark.parametrize("loss", [-0.05, 0.0, 0.004, "scatter", "beyond"])
def test_maps_that_did_not_clearly_lose_change_no_verdict(loss: float | str) -> None:
    scatter = 0.03 * np.random.default_rng(9).standard_normal(40)
    beyond = np.where(np.arange(40) > 26, 0.3, 0.0)  # shells in which the maps never agreed
    losses = {"scatter": scatter, "beyond": beyond}
    helped = verdict({"A": made(100, 10)}, curves(losses[loss] if isinstance(loss, str) else loss))
    assert helped is not None and helped.outcome == "helped"
