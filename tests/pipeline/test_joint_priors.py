"""Widths of the priors of a joint refinement."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tomopolish.imaging.derivatives import BFACTOR, DEFOCUS, SCALE
from tomopolish.pipeline.joint.priors import LARGEST_WIDTHS, ORIENTATIONS, Priors


def test_only_widths_at_their_bound_are_named() -> None:
    usual = Priors()
    assert usual.at_bounds(LARGEST_WIDTHS) == []
    wide = replace(
        usual, widths={**usual.widths, ORIENTATIONS: LARGEST_WIDTHS[ORIENTATIONS], DEFOCUS: 2900.0}
    )
    assert wide.at_bounds([ORIENTATIONS, DEFOCUS, SCALE]) == ["orientations by 6° about each axis"]
    assert wide.at_bounds([DEFOCUS, BFACTOR]) == []


def test_an_unknown_that_is_put_back_stays_at_its_input() -> None:
    back = replace(Priors(means={DEFOCUS: 40.0}), put_back=(DEFOCUS,))
    assert back.precision(DEFOCUS) > 1e9 * Priors().precision(DEFOCUS)
    assert back.mean(DEFOCUS) == 0 and Priors(means={DEFOCUS: 40.0}).mean(DEFOCUS) == pytest.approx(40)


def test_each_species_has_its_own_width_of_turns() -> None:
    owner = np.array([0, 1, 1])
    one, two = np.deg2rad([1.0, 5.0])
    species = Priors(turn_widths=(one, two))
    np.testing.assert_allclose(species.turn_precisions(owner), [one**-2, two**-2, two**-2])
    same = Priors()
    np.testing.assert_array_equal(same.turn_precisions(owner), [same.precision(ORIENTATIONS)] * 3)
    assert species.agree_with(replace(species, turn_widths=(1.01 * one, two)), 0.05)
    assert not species.agree_with(replace(species, turn_widths=(one, 1.2 * two)), 0.05)
    assert not same.agree_with(species, 0.05)
    back = replace(species, put_back=(ORIENTATIONS,))
    assert (back.turn_precisions(owner) > 1e9 * species.turn_precisions(owner)).all()
    wide = replace(species, turn_widths=(one, LARGEST_WIDTHS[ORIENTATIONS]))
    assert wide.at_bounds([ORIENTATIONS]) == ["orientations by 6° about each axis"]
