"""Checksums of input files: of all of a table or map, and of samples of tilt images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from tomopolish.dataset.files import shown_path
from tomopolish.dataset.opening import open_regular

PART_BYTES = 1 << 20
WHOLE_BYTES = 1 << 31
"""Larger files are sampled."""

SAMPLE_BYTES, SAMPLES = 4096, 4
"""Size and number of the samples of a file, from its first bytes (an image's header) to its last."""

MOST_SAMPLED = 2000
"""Maximum number of image files of which bytes are read; of the others, size and time are recorded."""


def table_checksums(paths: Iterable[Path], working_directory: Path) -> list[dict[str, Any]]:
    """Return path, size and SHA-256 of each file; a file that cannot be read has the reason instead."""
    return [_described(path, working_directory, is_sampled=False) for path in dict.fromkeys(paths)]


def image_checksums(paths: Iterable[Path], working_directory: Path) -> dict[str, Any]:
    """Return number, size and a checksum of image files, and a row for each of the first `MOST_SAMPLED`.

    The checksum is over path, size, time of change and, of these files, samples.
    """
    state, count, size, rows = hashlib.sha256(), 0, 0, []
    images = iter(dict.fromkeys(paths))
    for path in islice(images, MOST_SAMPLED):
        row = _described(path, working_directory, is_sampled=True)
        rows.append(row)
        count, size = count + 1, size + int(row.get("bytes", 0))
        state.update(repr(sorted(row.items())).encode("utf-8", "surrogateescape"))
    for path, known in _stated(images):
        count, size = count + 1, size + (known.st_size if known else 0)
        stamp = (known.st_size, known.st_mtime_ns) if known else None
        state.update(f"{shown_path(path, working_directory)} {stamp}".encode("utf-8", "surrogateescape"))
    return {"number": count, "bytes": size, "sha256": state.hexdigest(), "files": rows}


def _stated(paths: Iterable[Path]) -> Iterator[tuple[Path, os.stat_result | None]]:
    for path in paths:
        try:
            yield path, path.stat()
        except (OSError, ValueError):
            yield path, None


def _described(path: Path, working_directory: Path, *, is_sampled: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"path": shown_path(path, working_directory)}
    try:
        with open_regular(path) as stream:
            state = os.fstat(stream.fileno())
            is_sampled = is_sampled or state.st_size > WHOLE_BYTES
            row["bytes"] = state.st_size
            if is_sampled:
                changed = datetime.fromtimestamp(state.st_mtime).astimezone()
                row["changed"] = changed.isoformat(timespec="seconds")
            row["sha256_of_samples" if is_sampled else "sha256"] = _digest(
                _samples(stream, state.st_size) if is_sampled else _parts(stream)
            )
    except (OSError, ValueError, OverflowError) as problem:
        row["unreadable"] = getattr(problem, "strerror", None) or str(problem)
    return row


def _digest(parts: Iterable[bytes]) -> str:
    state = hashlib.sha256()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def _parts(stream: BinaryIO) -> Iterator[bytes]:
    while part := stream.read(PART_BYTES):
        yield part


def _samples(stream: BinaryIO, size: int) -> Iterator[bytes]:
    last = max(0, size - SAMPLE_BYTES)
    for place in sorted({last * n // (SAMPLES - 1) for n in range(SAMPLES)}):
        stream.seek(place)
        yield stream.read(SAMPLE_BYTES)
