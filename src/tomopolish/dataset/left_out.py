"""Tilt images that are left out: their names in messages, and checks of --exclude_tilts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tomopolish.dataset.images import INSTEAD_OF_PLACEHOLDERS, MrcImages
from tomopolish.dataset.model import LeftOutTilt, TiltSeries
from tomopolish.dataset.relion.tomograms import TomogramSet
from tomopolish.errors import InputError, RunError
from tomopolish.settings.tilts import TiltSelection
from tomopolish.shapes import Array, Int

MOST_LISTED = 8
"""Maximum number of tilt images, or ranges of them, that a sentence lists by number."""


def numbered(tilts: Sequence[int] | Int[Array, "n"]) -> str:
    """Return tilt images by number from 1, as "tilt images 1–4, 7"; the rest of very many is counted."""
    numbers = sorted(int(tilt) + 1 for tilt in tilts)
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    words = [str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}–{b}" for a, b in ranges[:MOST_LISTED]]
    rest = sum(b - a + 1 for a, b in ranges[MOST_LISTED:])
    noun = "tilt image" if len(numbers) == 1 else "tilt images"
    return f"{noun} {', '.join(words)}" + (f" and {rest} more" if rest else "")


def left_out_sentences(name: str, left_out: Sequence[LeftOutTilt]) -> list[str]:
    """Return which tilt images of a tomogram are left out, one sentence for each reason."""
    by_reason: dict[str, list[int]] = {}
    for image in left_out:
        by_reason.setdefault(image.reason, []).append(image.tilt)
    return [
        f"{numbered(tilts)} of {name} {'is' if len(tilts) == 1 else 'are'} left out: {reason}"
        for reason, tilts in by_reason.items()
    ]


def without_dummies(place: str, tilt_series: TiltSeries) -> TiltSeries:
    """Return a tilt series without images that are placeholders or unreadable, judged by three rows of each.

    `place` is where the tilt series is named, for messages. Raises InputError when no image is left.
    """
    images, left_out = tilt_series.images, list(tilt_series.left_out)
    if not isinstance(images, MrcImages):
        return tilt_series
    for tilt in np.flatnonzero(tilt_series.usable).tolist():
        try:
            reason = images.dummy_reason(tilt)
        except RunError as problem:
            reason = str(problem)
        if reason:
            left_out.append(LeftOutTilt(tilt=tilt, reason=reason))
    if len(left_out) == len(images):
        last = left_out[-1]
        raise InputError(
            f"{place}: none of the tilt images can be used ({images.describe(last.tilt)}: {last.reason}), so "
            f"they may be placeholders; {INSTEAD_OF_PLACEHOLDERS}"
        )
    return replace(tilt_series, left_out=tuple(sorted(left_out, key=lambda image: image.tilt)))


def check_selection(tomograms: TomogramSet, selection: TiltSelection) -> None:
    """Raise InputError where `--exclude_tilts` names a tomogram or a tilt image that is not in the set."""
    for name, numbers in selection.excluded.items():
        option = f"--exclude_tilts {name}:{numbers[-1]}"
        if name not in tomograms:
            raise InputError(
                f"{option}: {tomograms.general.place} lists no tomogram {name!r}; give one of its names "
                f"({', '.join(tomograms.names[:3])}{', …' if len(tomograms.names) > 3 else ''})"
            )
        count = len(tomograms.series(name))
        if numbers[-1] > count:
            raise InputError(f"{option}: {name} has {count} tilt images; give numbers from 1 to {count}")
