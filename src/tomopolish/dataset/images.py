"""Tilt images in MRC files: one stack per series, or one file (or section) per tilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.mrc import MrcFile, read_header
from tomopolish.errors import InputError, RunError
from tomopolish.shapes import Float32

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class MrcImages:
    """The tilt images of a series (a `TiltImages`), file order; small, and fit for pickling."""

    sections: tuple[tuple[MrcFile, int], ...]

    @property
    def size_px(self) -> tuple[int, int]:
        """(w, h) of every image."""
        _, h, w = self.sections[0][0].shape
        return w, h

    def __len__(self) -> int:
        return len(self.sections)

    def read(self, tilt: int) -> Float32[Array, "h w"]:
        """Read one tilt image; raises RunError when it cannot be read, or is not made of finite numbers."""
        w, h = self.size_px
        image = np.empty((h, w), dtype=np.float32)
        self.read_into(tilt, image)
        return image

    def read_into(self, tilt: int, image: Float32[Array, "n w"], row: int = 0) -> None:
        """As `read`, into memory that is there already: fresh pages take longer than the copy.

        Parameters
        ----------
        image
            Receives as many rows as it has, from `row` on.
        """
        file, section = self.sections[tilt]
        if not file.read_section_into(section, image, row):
            raise RunError(f"{self.describe(tilt)} holds values that are not finite; make the image again")

    def is_dummy(self, tilt: int) -> bool:
        """Whether a tilt image is a placeholder: constant, or without finite values, in three of its rows."""
        file, section = self.sections[tilt]
        h = file.shape[1]
        rows = np.stack([file.read_row(section, h * part // 4) for part in (1, 2, 3)])
        finite = rows[np.isfinite(rows)]
        return finite.size == 0 or bool(finite.max() == finite.min())

    @property
    def surplus(self) -> str | None:
        """A sentence when files are longer than their headers say, else None."""
        files = {file.path: file for file, _ in self.sections}
        sentences = [sentence for file in files.values() if (sentence := file.surplus)]
        if len(sentences) > 1:
            return f"{sentences[0]} (and so it is with {len(sentences) - 1} more files of the series)"
        return sentences[0] if sentences else None

    def describe(self, tilt: int) -> str:
        """Name a tilt image for messages."""
        file, section = self.sections[tilt]
        return f"{file.path}, section {section + 1}"


def open_stack(path: Path, tilts: int, *, named_in: str) -> MrcImages:
    """Images of a stack that must have one section for each of `tilts` rows; raises InputError.

    `named_in` says where the stack is named, for messages.
    """
    file = header_named_in(path, named_in)
    if file.shape[0] != tilts:
        hint = " and looks like a placeholder" if is_placeholder_size(file) else ""
        raise InputError(
            f"{named_in}: the tilt series has {tilts} rows, but its stack {file.path} has "
            f"{file.shape[0]} section{'' if file.shape[0] == 1 else 's'} of "
            f"{file.shape[2]} x {file.shape[1]} px{hint}; "
            "give the stack that belongs to this table"
        )
    return MrcImages(sections=tuple((file, section) for section in range(tilts)))


def open_micrographs(entries: Sequence[tuple[int | None, Path]], *, named_in: str) -> MrcImages:
    """Images named one by one, as (section or None, file); raises InputError naming the row."""
    headers: dict[Path, MrcFile] = {}
    sections: list[tuple[MrcFile, int]] = []
    for row, (named_section, path) in enumerate(entries):
        place = f"{named_in}, row {row + 1}"
        if path not in headers:
            headers[path] = header_named_in(path, place)
        file, section = headers[path], named_section or 0
        if not 0 <= section < file.shape[0]:
            raise InputError(
                f"{place}: section {section + 1} is named, but {path} has {file.shape[0]}; correct the number"
            )
        if named_section is None and file.shape[0] != 1:
            raise InputError(
                f"{place}: {path} has {file.shape[0]} sections where one image is expected; name the section "
                "(000001@file), or give motion-corrected images"
            )
        sections.append((file, section))
        if file.shape[1:] != sections[0][0].shape[1:]:
            first, this = sections[0][0].shape, file.shape
            raise InputError(
                f"{place}: {path} has {this[2]} x {this[1]} px, but the first image {first[2]} x {first[1]}; "
                "give all tilt images one size"
            )
    return MrcImages(sections=tuple(sections))


def header_named_in(path: Path, place: str) -> MrcFile:
    """Header of a file; an InputError says where the file is named."""
    try:
        return read_header(path)
    except InputError as problem:
        raise InputError(f"{place}: {problem}") from None


def is_placeholder_size(file: MrcFile) -> bool:
    """Whether images are too small to be images."""
    return min(file.shape[1:]) < 16
