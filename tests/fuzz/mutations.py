"""Sound files, and what becomes of them by a few changes that know how such files are made."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import struct
import warnings
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tomopolish.run.store import _DIGEST_BYTES, _digest

Change = tuple[int, int, int, int]
"""Which change (of those listed below), and three numbers that say where, and of what kind."""

CHANGES: st.SearchStrategy[list[Change]] = st.lists(
    st.tuples(st.integers(0, 63), st.integers(0, 999), st.integers(0, 999), st.integers(0, 999)),
    min_size=1,
    max_size=3,
)

_CELLS = """0 -1 1 2 3 nan inf -inf 1e308 -1e308 1e-308 1e999 2147483648 9223372036854775808 1_000 0x1F
1e3 +4 . - TS_01 TS_02 TS_01/1 particles.star stack.mrcs 000001@stack.mrcs 999999@stack.mrcs ../stack.mrcs
stack.mrcs:mrcs / .. ~ $HOME None [1,2,3] [1,2 [] [nan] [0,0,0,1] data_ loop_ _ # ; 0@ 1@ @ _rlnTomoName"""
_LABELS = """_rlnTomoName _rlnTomoTiltSeriesStarFile _rlnTomoParticleName _rlnOriginXAngst _rlnTomoSizeX
_rlnTomoTomogramsFile _rlnOpticsGroup _rlnRandomSubset _rlnTomoDefocusSlope _rlnCtfBfactor _rlnCoordinateX
_rlnTomoProjX _rlnMicrographName _rlnOddZernike _rlnPhaseShift _ _rln"""
_ODD_CELLS = ('""', '"a b"', "'x", '"', "9" * 400, "é", "\udcff", "١٢", "\x00", "\x1b[31m", "x" * 5000)
CELLS = (*_CELLS.split(), *_ODD_CELLS)
LABELS = tuple(_LABELS.split())
LINES = ("loop_", "data_", "data_particles", "data_global", "# version 30001", "#", ";", "", "\t", "1 2 3")
LINE_ENDS = ("\r\n", "\r", "\n\n", "\x0b", "\x85", "\u2028", "")
BYTES = (b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b'"', b"'", b"\n", b"\x1a", b" ", b"\xc3")


def change_star(content: bytes, changes: Sequence[Change]) -> bytes:
    """Apply changes to the text of a STAR file."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    end, cuts = "\n", []
    for kind, where, what, more in changes:
        if kind >= 62:
            end = LINE_ENDS[what % len(LINE_ENDS)]
        elif kind >= 56:
            cuts.append((kind, where, what))
        else:
            _change_line(lines, kind, where, what, more)
    changed = end.join(lines).encode("utf-8", "surrogateescape")
    for kind, where, what in cuts:
        changed = _change_bytes(changed, kind, where, what)
    return changed


def _change_line(lines: list[str], kind: int, where: int, what: int, more: int) -> None:
    """Change a cell, a label, or a whole line."""
    rows = [i for i, line in enumerate(lines) if line and line[0] not in "#_"]
    labels = [i for i, line in enumerate(lines) if line.startswith("_")]
    if kind < 30 and rows:
        _change_cell(lines, rows[where % len(rows)], kind, what, more)
    elif kind < 42 and labels:
        _change_label(lines, labels[where % len(labels)], kind, what)
    else:
        place = where % (len(lines) + 1)
        if kind % 4 == 0:
            lines.insert(place, LINES[what % len(LINES)])
        elif kind % 4 == 1:
            del lines[place : place + 1 + what % 3]
        elif kind % 4 == 2:
            lines[place:place] = lines[place : place + 1 + what % 12]
        else:
            other = what % (len(lines) + 1)
            lines.insert(place, lines.pop(other) if other < len(lines) else "")


def _change_cell(lines: list[str], row: int, kind: int, what: int, more: int) -> None:
    cells = lines[row].split(" ")
    column = more % len(cells)
    if kind < 22:
        cells[column] = CELLS[what % len(CELLS)]
    elif kind < 24:
        cells[column] = cells[what % len(cells)]
    elif kind == 24:
        del cells[column]
    elif kind == 25:
        cells.insert(column, CELLS[what % len(CELLS)])
    elif kind == 26:
        cells[column] = f'"{cells[column]}"'
    elif kind == 27:
        cells[column] += CELLS[what % len(CELLS)]
    else:
        for other in range(row, min(len(lines), row + 12)):
            same = lines[other].split(" ")
            if len(same) == len(cells):
                same[column] = CELLS[what % len(CELLS)]
                lines[other] = " ".join(same)
        return
    lines[row] = " ".join(cells)


def _change_label(lines: list[str], row: int, kind: int, what: int) -> None:
    label = lines[row].split(" ")
    if kind < 36:
        label[0] = LABELS[what % len(LABELS)]
    elif kind < 38:
        label[1:] = [CELLS[what % len(CELLS)]]
    elif kind < 40:
        label[0] += "X"
    else:
        del lines[row]
        return
    lines[row] = " ".join(label)


def _change_bytes(content: bytes, kind: int, where: int, what: int) -> bytes:
    place = where * len(content) // 1000
    inserted = BYTES[what % len(BYTES)]
    if kind == 56:
        return content[:place]
    if kind == 57:
        return content[place:]
    if kind == 58:
        return content + content[place:]
    if kind < 61:
        return content[:place] + inserted + content[place:]
    return content[:place] + inserted + content[place + len(inserted) :]


WORDS = (0, 1, -1, 2, 3, 4, 6, 7, 8, 12, 16, 101, 1024, 2**20, 2**24, 2**31 - 1, -(2**31), 0x7FC00000)
"""Integers, and the patterns of floats that are odd: infinite, none, tiny."""
FIELDS = (0, 4, 8, 12, 28, 32, 36, 40, 44, 48, 64, 68, 72, 88, 92, 152, 156, 208, 212, 220)
"""Where the header's fields begin: sizes, mode, sampling, cell, axes, extended header, IMOD's, stamps."""


def change_mrc(content: bytes, changes: Sequence[Change]) -> bytes:
    """Apply changes to the bytes of an image file."""
    changed = bytearray(content)
    for kind, where, what, more in changes:
        if kind < 44:
            field = FIELDS[where % len(FIELDS)]
            order = "<>"[more % 2] if kind > 40 else "<"
            if field + 4 <= len(changed):
                struct.pack_into(f"{order}i", changed, field, WORDS[what % len(WORDS)])
        elif kind < 48:
            _swap_bytes(changed)
        elif kind < 52 and changed:
            changed[where * len(changed) // 1000] = what % 256
        elif kind < 58 and len(changed) > 1028:
            place = 1024 + 4 * (where % ((len(changed) - 1024) // 4))
            struct.pack_into("<i", changed, place, WORDS[what % len(WORDS)])
        elif kind < 60:
            del changed[where * len(changed) // 1000 :]
        elif kind < 62:
            changed[1024:1024] = bytes(what)
        else:
            changed += bytes(what)
    return bytes(changed)


def _swap_bytes(changed: bytearray) -> None:
    """Turn the header's numbers into the other byte order."""
    for place in range(0, min(224, len(changed) - 3), 4):
        if not 208 <= place < 212:
            changed[place : place + 4] = changed[place : place + 4][::-1]


def change_archive(content: bytes, changes: Sequence[Change]) -> bytes:
    """Apply changes to the bytes of an archive of arrays."""
    changed = bytearray(content)
    for kind, where, what, more in changes:
        place = (1000 * where + more) * len(changed) // 1_000_000
        if kind < 32:
            changed[place : place + 1] = bytes([changed[place] ^ 1 << what % 8]) if changed else b""
        elif kind < 44:
            changed[place : place + 4] = struct.pack("<i", WORDS[what % len(WORDS)])
        elif kind < 52:
            del changed[place : place + 1 + what]
        elif kind < 58:
            changed[place:place] = changed[place : place + what]
        elif kind < 62:
            del changed[place:]
        else:
            changed += bytes(what)
    return bytes(changed)


NUMBERS = (np.nan, np.inf, -np.inf, 1e308, 0.0, -1.0, 2**40)
VALUES: tuple[Any, ...] = (None, True, 0, -1, 10**30, 1.5, "", "text", [], {}, {"array": "array0"})


def change_result(content: bytes, changes: Sequence[Change]) -> bytes:
    """Apply changes to the arrays and the header of a stored result, whose checksum is right again."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    header = json.loads(arrays.pop("header").tobytes())
    for kind, where, what, more in changes:
        name = sorted(arrays)[where % len(arrays)]
        if kind < 24:
            _change_number(arrays, name, NUMBERS[what % len(NUMBERS)], more)
        elif kind < 36:
            arrays[name] = (
                arrays[name][: what % (len(arrays[name]) + 1)] if arrays[name].ndim else arrays[name]
            )
        elif kind < 44:
            with contextlib.suppress(ValueError):  # text that is no number stays text
                arrays[name] = arrays[name].astype(("f4", "i8", "f8", "U3")[what % 4])
        else:
            _change_json(header, where, VALUES[what % len(VALUES)], more)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.comment = bytes(_DIGEST_BYTES)
    digest = _digest(stream)
    return stream.getvalue()[:-_DIGEST_BYTES] + digest


def _change_number(arrays: dict[str, np.ndarray], name: str, number: float, place: int) -> None:
    changed = arrays[name].copy()
    if changed.size:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            changed.flat[place % changed.size] = np.asarray(number).astype(changed.dtype)
    arrays[name] = changed


def _change_json(header: Any, where: int, value: Any, more: int) -> None:
    """Replace something in a tree of tables and lists, or leave it out."""
    places = []
    pending = [header["result"]]
    while pending:
        found = pending.pop()
        keys = found if isinstance(found, dict) else range(len(found))
        places += [(found, key) for key in keys]
        pending += [found[key] for key in keys if isinstance(found[key], dict | list)]
    owner, key = places[(1000 * where + more) % len(places)]
    if more % 5 == 0:
        del owner[key]
    else:
        owner[key] = copy.deepcopy(value)  # else a list that is put into itself is an endless tree
