"""Digests of a tomogram's inputs and settings: whether an earlier result is still valid, and if not, why.

Tables are compared by their contents as read; images, which are large, by path, size and modification time.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tomopolish.dataset.images import MrcImages
from tomopolish.dataset.model import TiltSeries, Tomogram
from tomopolish.settings.alignment import AlignSettings
from tomopolish.version import program_version

Fingerprint = Mapping[str, str]
"""Digest of each part of the inputs and settings that a result depends on."""

_NO_INFLUENCE = ("run", "inputs")
"""Fields of the settings that do not change a result; contents of the inputs have separate digests."""

VERSION, OPTIONS, REFERENCES = "program's version", "options", "references"
SERIES, IMAGES, PARTICLES = "tilt series", "tilt images", "particles"
"""Names of the parts of a fingerprint; the references are half maps, mask and FSC."""


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...


def common_fingerprint(settings: AlignSettings, references: Any) -> Fingerprint:
    """Return the digests that all tomograms of a run share."""
    options = [getattr(settings, f.name) for f in dataclasses.fields(settings) if f.name not in _NO_INFLUENCE]
    return {
        VERSION: program_version(),
        OPTIONS: digest(options),
        REFERENCES: digest(references),
    }


def tomogram_fingerprint(common: Fingerprint, tomogram: Tomogram) -> Fingerprint:
    """Return the digests of all that one tomogram's result depends on."""
    series = tomogram.series
    geometry = {f.name: getattr(series, f.name) for f in dataclasses.fields(series) if f.name != "images"}
    return {
        **common,
        SERIES: digest(geometry),
        IMAGES: digest(_image_identities(series)),
        PARTICLES: digest(tomogram.species),
    }


def differences(old: Fingerprint, new: Fingerprint) -> list[str]:
    """Return the names of the parts in which two fingerprints differ."""
    return [part for part in dict.fromkeys([*new, *old]) if old.get(part) != new.get(part)]


def changed_images(series: TiltSeries) -> tuple[Path, ...]:
    """Return the files of tilt images that have changed since the tilt series was loaded."""
    images = getattr(series, "images", None)
    return images.changed_files() if isinstance(images, MrcImages) else ()


def digest(value: Any) -> str:
    """Return the digest of a value, array or dataclass, or of sequences and mappings of them.

    Raises TypeError for a value of another kind.
    """
    state = hashlib.blake2b(digest_size=16)
    _feed(state, value)
    return state.hexdigest()


def _feed(state: _Hash, value: Any) -> None:
    if isinstance(value, np.ndarray):
        state.update(f"array {value.dtype.str} {value.shape} ".encode())
        if value.size:  # the array's own memory, not a copy: references are large
            state.update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, MrcImages):
        _feed(state, _section_identities(value))
    elif dataclasses.is_dataclass(value):
        state.update(f"{type(value).__name__} ".encode())
        _feed(state, {f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    elif isinstance(value, Mapping):
        _feed(state, [item for pair in value.items() for item in pair])
    elif isinstance(value, list | tuple):
        state.update(f"sequence {len(value)} ".encode())
        for item in value:
            _feed(state, item)
    elif value is None or isinstance(value, bool | int | float | str | Path | np.generic | Enum):
        text = str(value) if isinstance(value, Path | np.generic) else repr(value)
        state.update(f"{type(value).__name__} {len(text)} {text}".encode("utf-8", "surrogateescape"))
    else:
        raise TypeError(f"a {type(value).__name__} cannot be digested")


def _image_identities(series: TiltSeries) -> list[Any]:
    if isinstance(series.images, MrcImages):
        return _section_identities(series.images)
    return [series.images.read(tilt) for tilt in range(len(series))]


def _section_identities(images: MrcImages) -> list[Any]:
    """Return the identities of files when their headers were read, before their images were read."""
    files = {file.path: file for file, _ in filter(None, images.sections)}
    known = {path: (str(path.resolve()), *file.state[:2]) for path, file in files.items()}
    return [place and (place[1], *known[place[0].path]) for place in images.sections]
