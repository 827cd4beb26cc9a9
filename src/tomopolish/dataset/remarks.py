"""Remarks: assumptions on reading a data set, given once for all tomograms they apply to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tomopolish.plain_text import first_names

_MOST_NAMES = 3
_AMOUNT = "{amount}"


@dataclass(frozen=True, kw_only=True)
class Remark:
    """An assumption on one tomogram, or a value that looks wrong but is not used.

    Attributes
    ----------
    sentence
        The same for all tomograms that it applies to; ``{amount}`` stands for `amount`.
    amount
        An amount; for many tomograms, the largest is given.
    """

    sentence: str
    amount: float = 0.0


class Remarks:
    """Collects remarks, so that a set with a thousand tomograms gets one sentence for each kind."""

    def __init__(self) -> None:
        self._tomograms: dict[str, list[str]] = {}
        self._amounts: dict[str, float] = {}

    def add(self, tomogram: str, remarks: Iterable[Remark]) -> None:
        """Add the remarks on one tomogram."""
        for remark in remarks:
            self._tomograms.setdefault(remark.sentence, []).append(tomogram)
            largest = max(self._amounts.get(remark.sentence, 0.0), remark.amount)
            self._amounts[remark.sentence] = largest

    def sentences(self) -> list[str]:
        """Return one sentence for each kind of remark, naming the first tomograms."""
        return [
            f"tomogram{'' if len(tomograms) == 1 else 's'} {first_names(tomograms, _MOST_NAMES)}: "
            f"{sentence.replace(_AMOUNT, f'{self._amounts[sentence]:.3g}')}"
            for sentence, tomograms in self._tomograms.items()
        ]
