"""Which round is the best, and when rounds end."""

from __future__ import annotations

import numpy as np
import pytest

from tomopolish.results.held_out import Evidence, MotionTrial
from tomopolish.results.rounds import (
    Round,
    RoundEvidence,
    SpeciesRound,
    best_round,
    gained,
    mean_fsc,
    reason_to_stop,
)
from tomopolish.results.tomogram import TomogramStatistics
from tomopolish.rounds.align import kept_groups


def curve(last: float, shells: int = 33) -> tuple[float, ...]:
    """An FSC that falls below 0.143 about shell `last`."""
    return tuple(1 / (1 + 6 * np.exp((np.arange(shells) - last) / 2)))


def one(number: int, *lasts: float, outcome: str | None = "settled", **changes: object) -> Round:
    """A round whose species' curves fall below 0.143 about these shells."""
    return of_curves(number, *map(curve, lasts), outcome=outcome, **changes)


def of_curves(
    number: int, *curves: tuple[float, ...], outcome: str | None = "settled", **changes: object
) -> Round:
    evidence = None
    if outcome is not None:
        evidence = RoundEvidence(
            outcome=outcome,
            gain_per_pair=1.0,
            standard_error_per_pair=0.5,
            agreement_before=0.5,
            agreement_after=0.6,
        )
    species = tuple(
        SpeciesRound(
            name=f"species{i}",
            optimisation_set=f"round{number:02d}/species{i}/maps/optimisation_set.star",
            fsc=fsc,
            resolution_angstrom=(10.0, 12.0),
            bfactor_angstrom2=0.0,
        )
        for i, fsc in enumerate(curves)
    )
    fields: dict = {"number": number, "species": species, "evidence": evidence}
    return Round(**(fields | changes))


def test_the_best_round_has_the_highest_fsc_and_may_be_the_input() -> None:
    assert best_round([one(0, 10), one(1, 14), one(2, 13)]).number == 1
    assert best_round([one(0, 15), one(1, 14)]).number == 0
    assert best_round([one(0, 15), one(1, 15)]).number == 0


def test_curves_are_averaged_over_the_same_shells() -> None:
    low, high = one(0, 8), one(1, 20)
    alone, together = mean_fsc([low])[0, 0], mean_fsc([low, high])[0, 0]
    assert alone > together
    assert mean_fsc([low, high])[1, 0] > together


def test_the_shells_of_a_species_do_not_depend_on_the_other() -> None:
    low, high = one(0, 8, 20), one(1, 8, 22)
    np.testing.assert_array_equal(mean_fsc([low, high])[:, 0], mean_fsc([one(0, 8), one(1, 8)])[:, 0])


@pytest.mark.parametrize("outcome", ["settled", "open", "harmed", None])
def test_rounds_end_when_neither_fsc_nor_held_out_pairs_gain(outcome: str | None) -> None:
    assert "Neither" in str(reason_to_stop([one(0, 10), one(1, 10, outcome=outcome)], 8))


def test_rounds_continue_while_the_fsc_or_held_out_pairs_gain() -> None:
    assert reason_to_stop([one(0, 10)], 8) is None
    assert reason_to_stop([one(0, 10), one(1, 12)], 8) is None
    assert reason_to_stop([one(0, 10), one(1, 10, outcome="helped")], 8) is None


def test_held_out_gains_alone_do_not_go_on_for_ever() -> None:
    rounds = [one(0, 10), one(1, 12, outcome="helped"), one(2, 12, outcome="helped")]
    assert reason_to_stop(rounds, 8) is None
    assert "FSC did not gain" in str(reason_to_stop([*rounds, one(3, 11, outcome="helped")], 8))


def test_the_number_of_rounds_is_limited() -> None:
    assert "--rounds 2" in str(reason_to_stop([one(0, 10), one(1, 12), one(2, 14)], 2))


def test_what_only_the_references_brought_is_not_the_best() -> None:
    rounds = [one(0, 10), one(1, 16, outcome="open", model_bias=True)]
    assert gained(rounds, 1)
    assert best_round(rounds).number == 0
    assert "--own_references" in str(reason_to_stop(rounds, 8))


def test_half_maps_that_agree_at_no_resolution_neither_gain_nor_win() -> None:
    noise = tuple(np.where(np.arange(33) == 0, 1.0, -0.05))
    less = tuple(np.where(np.arange(33) == 0, 1.0, 0.05))
    rounds = [of_curves(0, noise), of_curves(1, less)]
    assert not gained(rounds, 1)
    assert best_round(rounds).number == 0
    assert "no resolution" in str(reason_to_stop(rounds, 8))


def test_a_gain_of_one_species_does_not_make_up_for_a_clear_loss_of_another() -> None:
    rounds = [one(0, 10, 10), one(1, 14, 9)]
    assert mean_fsc(rounds)[1].mean() > mean_fsc(rounds)[0].mean()
    assert not gained(rounds, 1)
    assert best_round(rounds).number == 0
    assert "Neither" in str(reason_to_stop(rounds, 8))
    assert best_round([*rounds, one(2, 13, 10)]).number == 2


def test_a_species_may_fall_by_little_where_another_gains() -> None:
    rounds = [one(0, 10, 10), one(1, 12, 9.95)]
    assert mean_fsc(rounds)[1, 1] < mean_fsc(rounds)[0, 1]
    assert gained(rounds, 1)
    assert best_round(rounds).number == 1


def test_rounds_continue_while_any_species_gains_enough() -> None:
    rounds = [one(0, 10, 10), one(1, 10.04, 10)]
    rose = mean_fsc(rounds)[1] - mean_fsc(rounds)[0]
    assert rose[0] > 0.002 > rose.mean()
    assert reason_to_stop(rounds, 8) is None


def test_a_species_that_resolves_nothing_ends_the_rounds_by_its_name() -> None:
    noise = tuple(np.where(np.arange(33) == 0, 1.0, 0.0))
    rounds = [one(0, 10, 10), of_curves(1, curve(12), noise)]
    assert best_round(rounds).number == 0
    assert "half maps of species1 of the last round agree at no" in str(reason_to_stop(rounds, 8))


def test_a_round_counts_the_tomograms_in_which_motion_was_kept() -> None:
    def statistics(gain: float | None) -> TomogramStatistics:
        evidence = gain and Evidence(
            particles=9, pairs=60, gain=gain, standard_error=3.0, agreement_before=0.4, agreement_after=0.5
        )
        return TomogramStatistics(
            particles=9,
            visible_pairs=600,
            log_likelihood_gain=1.0,
            rms_shift_angstrom=1.0,
            rms_angle_degrees=0.1,
            rms_position_angstrom=1.0,
            seconds_by_stage={},
            evaluations=1,
            motion=MotionTrial(velocity_scale=0.3, evidence=evidence or None),
        )

    tried = {name: statistics(gain) for name, gain in (("a", 2.0), ("b", -1.0), ("c", None))}
    assert kept_groups(tried) == (("motion", 1),)
