"""The words for motion that was tried: which trajectories a tomogram's particles have afterwards."""

from __future__ import annotations

from tomopolish.output.motion import motion_outcome, motion_table, motion_words
from tomopolish.results.tomogram import Evidence, MotionTrial


def _trial(gain: float | None, *, input_moves: bool) -> MotionTrial:
    if gain is None:
        return MotionTrial(input_moves=input_moves)
    evidence = Evidence(
        particles=10, pairs=40, gain=gain, standard_error=3.0, agreement_before=0.4, agreement_after=0.5
    )
    return MotionTrial(velocity_scale=0.3, distance_scale=4000.0, evidence=evidence, input_moves=input_moves)


def test_trajectories_of_the_input_are_not_called_no_motion() -> None:
    stay = _trial(-8.0, input_moves=True)
    assert motion_outcome(stay) == "input's"
    assert motion_words(stay).startswith("the input's trajectories stay; held-out pairs did not gain")
    unseen = _trial(None, input_moves=True)
    assert motion_words(unseen).startswith("the input's trajectories stay; the images show none beyond them")
    assert [row[1] for row in motion_table({"TS_01": stay, "TS_02": unseen}).rows] == ["input's"] * 2


def test_motion_is_kept_where_held_out_pairs_gain() -> None:
    for input_moves in (False, True):
        assert motion_outcome(_trial(5.0, input_moves=input_moves)) == "kept"
    assert motion_outcome(_trial(-8.0, input_moves=False)) == "none"
    assert motion_words(_trial(None, input_moves=False)).startswith("no motion; the images show none that")
