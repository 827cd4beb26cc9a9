"""Tilt images that are left out on request."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tomopolish.errors import InputError
from tomopolish.settings.refuse import refuse

_NUMBERS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")


@dataclass(frozen=True, kw_only=True)
class TiltSelection:
    """Tilt images to leave out on request; unusable images are left out as well.

    Attributes
    ----------
    excluded
        `--exclude_tilts`: tomogram → numbers of images, from 1, in the order of its rows.
    max_tilt_angle_degrees
        `--max_tilt_angle`: largest tilt to either side; None: any.
    max_dose
        `--max_dose`: largest exposure before an image, e⁻/Å²; None: any.
    """

    excluded: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    max_tilt_angle_degrees: float | None = None
    max_dose: float | None = None

    def __post_init__(self) -> None:
        for name, numbers in self.excluded.items():
            refuse(
                not numbers or min(numbers) < 1,
                f"--exclude_tilts {name}: give numbers of tilt images, from 1, in the order of the rows",
            )
        angle, dose = self.max_tilt_angle_degrees, self.max_dose
        refuse(
            angle is not None and not 0 <= angle <= 180,
            f"--max_tilt_angle {angle} must lie between 0 and 180 degrees; give such an angle, or -1 for any",
        )
        refuse(
            dose is not None and not dose >= 0,
            f"--max_dose {dose} must not be negative; give an exposure in e⁻/Å², or -1 for any",
        )

    def __bool__(self) -> bool:
        """Return whether any image may be left out on request."""
        return bool(self.excluded) or self.max_tilt_angle_degrees is not None or self.max_dose is not None


def excluded_tilts(values: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return tomogram → numbers of images, ascending, of values of `--exclude_tilts`.

    Values are as ``TS_01:1,2,40`` or ``TS_01:3-7``, and tomograms may be repeated. Raises InputError when a
    value has another form.
    """
    excluded: dict[str, set[int]] = {}
    for value in values:
        name, colon, listing = value.rpartition(":")
        name = name.strip()
        parts = [_NUMBERS.fullmatch(part.strip()) for part in listing.split(",")]
        if not colon or not name or not all(parts):
            raise InputError(
                f"--exclude_tilts {value}: give a tomogram and numbers of its tilt images, as TS_01:1,2,40 "
                "or TS_01:3-7"
            )
        for match in filter(None, parts):
            first = int(match[1])
            last = first if match[2] is None else int(match[2])
            if last < first:
                raise InputError(
                    f"--exclude_tilts {value}: {match[0]} ends before it begins; give {last}-{first}"
                )
            excluded.setdefault(name, set()).update(range(first, last + 1))
    return {name: tuple(sorted(numbers)) for name, numbers in excluded.items()}
