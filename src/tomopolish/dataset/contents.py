"""Recognition of a file's kind by its first bytes, for messages about files of the wrong kind."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tomopolish.dataset.cells import is_number
from tomopolish.dataset.opening import open_regular

STAR = "a STAR file"
MRC = "an MRC file (a map or an image stack)"
SAMPLE_BYTES = 4096
"""Number of bytes that are inspected."""

_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\x00": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("Zstandard", "unzstd"),
    b"\x1f\x9d": ("compress", "uncompress"),
}
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Byte order marks of text as PowerShell's ``>`` and some editors of Windows write it."""

_BINARY = {
    b"PK\x03\x04": "a ZIP archive",
    b"\x93NUMPY": "a NumPy array, as CryoSPARC's .cs files are",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"II*\x00": "a TIFF image",
    b"MM\x00*": "a TIFF image",
    b"II+\x00": "a BigTIFF image, as EER movies are",
    b"MM\x00+": "a BigTIFF image",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF": "a PDF document",
    b"IMODV1": "an IMOD model",
    b"\x7fELF": "a program",
}
_TEXT = (
    (re.compile(r"\s*(#[^\n]*\n\s*)*data_\S*\s"), STAR),
    (re.compile(r"\s*(PixelSpacing|ImageFile|DataMode) =|\s*\[(T|ZValue) ="), "SerialEM's .mdoc file"),
    (re.compile(r"# AreTomo Alignment"), "AreTomo's .aln file"),
    (re.compile(r"\s*<(!DOCTYPE )?html", re.IGNORECASE), "a web page"),
    (re.compile(r"\s*<(\?xml|[A-Za-z])"), "an XML file, as Warp's and M's are"),
    (re.compile(r"\s*[{\[]\s*[\"{\[]"), "a JSON file"),
    (re.compile(r"%PDF"), "a PDF document"),
    (re.compile(r"#!"), "a script"),
    (re.compile(r"(species|\w+):\s*\n\s*-"), "a YAML file"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Content:
    """Kind of a file.

    Attributes
    ----------
    description
        Description with its article: "a PNG image".
    remedy
        Remedy that makes it usable, or "".
    """

    description: str
    remedy: str = ""

    @property
    def is_star(self) -> bool:
        """Whether it is a STAR file."""
        return self.description == STAR

    @property
    def is_mrc(self) -> bool:
        """Whether it is an MRC file."""
        return self.description == MRC


def content_of(path: Path) -> Content | None:
    """Return the kind of a regular file by its first bytes; None where it is unknown or unreadable."""
    try:
        with open_regular(path) as stream:
            return recognised(stream.read(SAMPLE_BYTES))
    except (OSError, ValueError):
        return None


def recognised(sample: bytes) -> Content | None:
    """Return the kind of a file that begins with `sample`; None where it is unknown."""
    if not sample:
        return Content(description="an empty file")
    if sample[208:211] == b"MAP":  # the mark of the format; old files have none, and are not recognised
        return Content(description=MRC)
    for beginning, (name, program) in _COMPRESSED.items():
        if sample.startswith(beginning):
            return Content(description=f"a file compressed with {name}", remedy=f"unpack it with {program}")
    if sample.startswith(_UTF_16) and b"\x00" in sample:
        return Content(description="text in UTF-16", remedy="save it again as UTF-8")
    described = (text for beginning, text in _BINARY.items() if sample.startswith(beginning))
    description = next(described, None) or ("" if b"\x00" in sample else _text_kind(sample))
    return Content(description=description) if description else None


def _text_kind(sample: bytes) -> str:
    """Return the kind of a text by its beginning; "" where it is unknown."""
    text = sample.decode("utf-8", errors="replace").removeprefix("\ufeff")
    whole_lines = text.rpartition("\n")[0] if len(sample) == SAMPLE_BYTES else text
    beginning = whole_lines or text
    found = next((name for pattern, name in _TEXT if pattern.match(beginning)), "")
    words = beginning.split()
    if not found and words and all(map(is_number, words)):
        return "a list of numbers, as IMOD's .tlt and .xf files are"
    return found
