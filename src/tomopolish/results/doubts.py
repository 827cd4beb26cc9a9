"""Premises of the verdict that do not hold: what is wrong, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

INVERTED = "inverted"
MIRRORED = "mirrored"
SAME_HALVES = "same_halves"
UNRELATED_HALVES = "unrelated_halves"
NO_AGREEMENT = "no_agreement"
NO_DETAIL = "no_detail"
WEAK_SIGNAL = "weak_signal"
FALSE_PARTICLES = "false_particles"
WORSE_MAPS = "worse_maps"

SENTENCES = {
    INVERTED: (
        "the contrast of the reference seems inverted: the images agree with its negative. Multiply "
        "both half maps by -1, or give references in which the molecule is bright"
    ),
    MIRRORED: (
        "a mirror image of the reference agrees better with the images. Flip the hand of both half "
        "maps (and of the mask), or check the orientations of the particles"
    ),
    SAME_HALVES: (
        "the two half maps are the same map, so that particle images that were held out are not "
        "independent of the reference. Give the two half maps of a refinement with independent halves"
    ),
    UNRELATED_HALVES: (
        "the two half maps do not resemble each other even at low resolution. Check that both are of "
        "the same structure, in the same orientation and box"
    ),
    NO_AGREEMENT: (
        "particle images that were held out do not agree with the reference anywhere. Check that the "
        "reference is the structure that was picked, and that positions and orientations belong to it"
    ),
    NO_DETAIL: (
        "the images agree with the reference at low resolution only, and not where its FSC promises "
        "signal. Check that it is the right structure, that the orientations belong to it, and its "
        "FSC"
    ),
    WEAK_SIGNAL: (
        "the images hold much less signal than the reference predicts. If the reference is not on the"
        " images' intensity scale, give its factor with --ref_scale; otherwise it is not what the "
        "images show"
    ),
    FALSE_PARTICLES: (
        "most particles show nothing of the reference. Remove false particles (scores.star, "
        "tomopolish select), or check positions and orientations"
    ),
    WORSE_MAPS: (
        "half maps from the refined geometry agree less than those from the input (--evaluate), although "
        "held-out particle images do not say so. Compare the maps, and check that the reference is the "
        "structure that was picked, before you use the result"
    ),
}
"""Kind of doubt → cause and remedy, in the order in which they are stated."""


def causes(doubts: Iterable[str]) -> list[str]:
    """Return the sentences of doubts, the one that explains most first, without full stops."""
    present = set(doubts)
    return [sentence for kind, sentence in SENTENCES.items() if kind in present]


def shared_doubts(doubts: Sequence[Iterable[str]]) -> tuple[str, ...]:
    """Return the doubts of at least half of the tomograms.

    Where at least half have doubts, but not the same ones, all doubts are returned.
    """
    each = [set(kinds) for kinds in doubts if set(kinds)]
    if not each or 2 * len(each) < len(doubts):
        return ()
    present = [kind for kind in SENTENCES if any(kind in kinds for kinds in each)]
    shared = [kind for kind in present if 2 * sum(kind in kinds for kinds in each) >= len(doubts)]
    return tuple(shared or present)
