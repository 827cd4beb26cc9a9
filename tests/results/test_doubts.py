"""Verdicts whose premises do not hold, and second rounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tomopolish.results.doubts import FALSE_PARTICLES, INVERTED, NO_AGREEMENT, SENTENCES, shared_doubts
from tomopolish.results.tomogram import Evidence
from tomopolish.results.verdict import sentence, verdict

GAINED = Evidence(
    particles=50,
    pairs=400,
    gain=4000.0,
    standard_error=200.0,
    agreement_before=0.3,
    agreement_after=0.8,
    moved_angstrom=9.0,
    error_angstrom=0.5,
)


@pytest.mark.parametrize("kind", SENTENCES)
def test_a_doubted_gain_is_not_called_a_help(kind: str) -> None:
    weighed = verdict({"TS_01": replace(GAINED, doubts=(kind,))})
    assert weighed is not None and not weighed.helped and not weighed.harmed
    assert sentence(weighed).startswith("Whether it helped cannot be judged: ")
    assert SENTENCES[kind].split(".")[0] in sentence(weighed)


def test_doubts_about_few_of_many_tomograms_do_not_stop_the_verdict() -> None:
    evidence = {f"TS_{n}": GAINED for n in range(5)} | {"TS_9": replace(GAINED, doubts=(INVERTED,))}
    weighed = verdict(evidence)
    assert weighed is not None and weighed.helped
    assert weighed.of_tomogram("TS_9") == "not judged" and "TS_9" not in weighed.better
    assert weighed.of_tomogram("TS_0") == "better" and weighed.of_tomogram("TS_8") == "not tested"
    assert sentence(weighed).endswith("none became worse, 1 cannot be judged: TS_9.")
    assert shared_doubts([(INVERTED,), (INVERTED, NO_AGREEMENT), ()]) == (INVERTED,)
    assert shared_doubts([(INVERTED,), (), ()]) == ()


def test_tomograms_with_doubts_of_different_kinds_make_no_verdict() -> None:
    each = [(INVERTED,), (NO_AGREEMENT,), (FALSE_PARTICLES,)]
    assert set(shared_doubts(each)) == {INVERTED, NO_AGREEMENT, FALSE_PARTICLES}
    weighed = verdict({f"TS_{n}": replace(GAINED, doubts=kinds) for n, kinds in enumerate(each)})
    assert weighed is not None and not weighed.helped


@pytest.mark.parametrize(("moved", "words"), [(0.2, "Nothing is left to gain"), (3.0, "may have done harm")])
def test_a_loss_counts_as_harm_only_where_pairs_moved_beyond_their_errors(moved: float, words: str) -> None:
    """An input that was fitted to the held-out pairs, too, looks better on them than a fit without them."""
    weighed = verdict({"TS_01": replace(GAINED, gain=-900.0, moved_angstrom=moved)})
    assert weighed is not None and weighed.harmed == (moved > 1) and weighed.settled == (moved < 1)
    assert words in sentence(weighed)


def test_a_significant_gain_counts_however_little_moved() -> None:
    weighed = verdict({"TS_01": replace(GAINED, moved_angstrom=0.1)})
    assert weighed is not None and weighed.helped and not weighed.settled
