"""Widths of the priors of a joint refinement."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tomopolish.imaging.derivatives import BFACTOR, DEFOCUS, SCALE
from tomopolish.pipeline.joint_priors import LARGEST_WIDTHS, ORIENTATIONS, Priors


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
