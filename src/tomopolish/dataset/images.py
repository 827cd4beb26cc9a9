"""Tilt images in MRC files: one stack per series, or one file (or section) per tilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import LeftOutTilt
from tomopolish.dataset.mrc import MrcFile, read_header
from tomopolish.errors import InputError, RunError
from tomopolish.plain_text import counted
from tomopolish.shapes import Array, Float32

CONSTANT = "the image is constant"
NOT_FINITE = "the image has too few pixels that are finite numbers"
GIVE_STACK = "give the stack that belongs to this table"
INSTEAD_OF_PLACEHOLDERS = (
    "name the real tilt images (WarpTools exports particles with dummy_tiltseries.mrc instead, and sets for "
    "real stacks come from warptomo2relion, of Python's reliontomotools, or from RELION 5)"
)
"""Remedy for placeholders in place of images."""

LEAST_PX = 16
"""Smallest edge of an image that is no placeholder."""

Section = tuple[MrcFile, int]
"""A file and the number of one of its sections, from 0."""


@dataclass(frozen=True, kw_only=True)
class MrcImages:
    """The tilt images of a series (a `TiltImages`), file order; small, and can be pickled.

    Attributes
    ----------
    sections
        File and section of each image; None where it cannot be read.
    unreadable
        Images that cannot be read, and the reasons.
    """

    sections: tuple[Section | None, ...]
    unreadable: tuple[LeftOutTilt, ...] = ()

    @property
    def first_file(self) -> MrcFile:
        """File of the first image that can be read."""
        return next(section[0] for section in self.sections if section is not None)

    @property
    def size_px(self) -> tuple[int, int]:
        """(w, h) of every image."""
        _, h, w = self.first_file.shape
        return w, h

    def __len__(self) -> int:
        return len(self.sections)

    def read(self, tilt: int) -> Float32[Array, "h w"]:
        """Return one tilt image as it is in the file; raises RunError when it cannot be read."""
        w, h = self.size_px
        image = np.empty((h, w), dtype=np.float32)
        self.read_into(tilt, image)
        return image

    def read_into(self, tilt: int, image: Float32[Array, "n w"], row: int = 0) -> None:
        """Read as many rows as `image` has, from `row` on; new memory would take longer than the copy."""
        file, section = self._section(tilt)
        file.read_section_into(section, image, row)

    def dummy_reason(self, tilt: int) -> str | None:
        """Return why a tilt image is a placeholder, judged by three of its rows; None where they vary.

        Raises RunError when they cannot be read.
        """
        file, section = self._section(tilt)
        h = file.shape[1]
        rows = np.stack([file.read_row(section, h * part // 4) for part in (1, 2, 3)])
        finite = rows[np.isfinite(rows)]
        if not finite.size:
            return NOT_FINITE
        return CONSTANT if finite.max() == finite.min() else None

    @property
    def files(self) -> dict[Path, MrcFile]:
        """Header of each file, in the order of the images."""
        return {section[0].path: section[0] for section in self.sections if section is not None}

    @property
    def surplus(self) -> str | None:
        """Return a sentence when files are longer than their headers say, else None."""
        sentences = [sentence for file in self.files.values() if (sentence := file.surplus)]
        if len(sentences) > 1:
            return f"{sentences[0]} (the same is true of {len(sentences) - 1} more files of the series)"
        return sentences[0] if sentences else None

    def changed_files(self) -> tuple[Path, ...]:
        """Return the files that have changed since their headers were read."""
        return tuple(path for path, file in self.files.items() if file.has_changed())

    def describe(self, tilt: int) -> str:
        """Return the name of a tilt image for messages."""
        section = self.sections[tilt]
        return f"row {tilt + 1}" if section is None else f"{section[0].path}, section {section[1] + 1}"

    def _section(self, tilt: int) -> Section:
        section = self.sections[tilt]
        if section is None:
            reason = next(one.reason for one in self.unreadable if one.tilt == tilt)
            raise RunError(f"tilt image {tilt + 1} cannot be read: {reason}")
        return section


def open_stack(
    path: Path, tilts: int, *, named_in: str, named: Sequence[int] = (), remedy: str = GIVE_STACK
) -> MrcImages:
    """Return the images of a stack with one section for each of `tilts` rows, or with those that rows name.

    The image of a row is left out if the stack does not have the section that the row names. Raises
    InputError when the stack cannot be read, or has no section for any row.

    Parameters
    ----------
    named_in
        Place where the stack is named, for messages.
    named
        Sections (from 0) that rows name, in any order; they count where rows and sections differ in number.
    remedy
        Remedy where they differ, and not every row names a section; for messages.
    """
    try:
        file = read_header(path, sections_may_lack=True)
    except InputError as problem:
        raise InputError(f"{named_in}: {problem}") from None
    count, h, w = file.shape
    if tilts not in (count, len(named)):
        hint = ""
        if min(h, w) < LEAST_PX:
            hint, remedy = ", which is a placeholder", INSTEAD_OF_PLACEHOLDERS
        raise InputError(
            f"{named_in}: the tilt series has {counted(tilts, 'row')}, but its stack {file.path} has "
            f"{counted(count, 'section')} of {w} x {h} px{hint}; {remedy}"
        )
    sections = range(tilts) if count == tilts else named
    return _gathered([(file, section) for section in sections], {}, named_in)


def open_micrographs(
    entries: Sequence[tuple[int | None, Path]],
    *,
    named_in: str,
    absent: Mapping[int, str] | None = None,
) -> MrcImages:
    """Return images that are named one by one, as (section or None, file).

    An image that cannot be read, or has another size than most, is unreadable; raises InputError if all are.
    `absent` are rows whose files are known to be missing, with the reason for messages.
    """
    headers: dict[Path, MrcFile | str] = {}
    places: list[Section | None] = []
    faults: dict[int, str] = {}
    for row, (named_section, path) in enumerate(entries):
        if absent and row in absent:
            headers[path] = absent[row]
        if path not in headers:
            try:
                headers[path] = read_header(path, sections_may_lack=True)
            except InputError as problem:
                headers[path] = str(problem)
        file = headers[path]
        if isinstance(file, str):
            faults[row] = file
            places.append(None)
        elif named_section is None and file.shape[0] != 1:
            faults[row] = (
                f"{path} has {file.shape[0]} sections where one image is expected; name the section "
                "(000001@file), or give motion-corrected images"
            )
            places.append(None)
        else:
            places.append((file, named_section or 0))
    return _gathered(places, faults, named_in)


def _gathered(places: Sequence[Section | None], faults: Mapping[int, str], named_in: str) -> MrcImages:
    """Return images without sections that files do not have, and without images of another size than most."""
    faulty = dict(faults)
    sizes = Counter(place[0].shape[1:] for place in places if place is not None)
    usual = sizes.most_common(1)[0][0] if sizes else (0, 0)  # the first of equally frequent sizes
    for tilt, place in enumerate(places):
        if place is not None and (reason := _lacking(*place, usual)):
            faulty[tilt] = reason
    if len(faulty) == len(places):
        row = min(faulty)
        raise InputError(f"{named_in}, row {row + 1}: {faulty[row]}")
    return MrcImages(
        sections=tuple(None if tilt in faulty else place for tilt, place in enumerate(places)),
        unreadable=tuple(LeftOutTilt(tilt=tilt, reason=faulty[tilt]) for tilt in sorted(faulty)),
    )


def _lacking(file: MrcFile, section: int, size: tuple[int, ...]) -> str | None:
    """Return why a section cannot be an image of a series with images of `size` (h, w), or None."""
    if not 0 <= section < file.shape[0]:
        return f"section {section + 1} is named, but {file.path} has {file.shape[0]}; correct the number"
    if section >= file.complete_sections:
        return f"{file.path} is cut off before the end of its section; copy the file again"
    if file.shape[1:] != size:
        return (
            f"{file.path} has {file.shape[2]} x {file.shape[1]} px, but the other images "
            f"{size[1]} x {size[0]}; give all tilt images one size"
        )
    return None
