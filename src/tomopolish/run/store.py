"""Finished tomograms on disk: one complete file each, with a fingerprint of its inputs and settings."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tomopolish.dataset.files import atomic_path, atomic_write, file_name_of
from tomopolish.dataset.opening import open_regular, read_json
from tomopolish.errors import RunError
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.basis import Basis
from tomopolish.run.codec import decode_result, encode
from tomopolish.run.fingerprint import Fingerprint
from tomopolish.shapes import Array

FOLDER_NAME = "temp"
"""Folder of the results of single tomograms, in the output folder."""

RUN_NAME = "run.json"
"""Record of the latest run, beside the results of single tomograms."""

_HEADER = "header"
_DIGEST_BYTES = 32
"""A file ends with the digest, in hexadecimal digits, of its preceding bytes: a ZIP archive's comment."""

_savez: Any = np.savez  # its annotations take the names of arrays for its own options


class DamagedResultError(RunError):
    """A stored result is damaged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredResult:
    """A finished tomogram, with the fingerprint of its inputs and settings, and what that stands for."""

    result: TomogramResult
    fingerprint: Fingerprint
    basis: Basis = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ResultsStore:
    """A folder of finished tomograms; several processes may write into it at once."""

    folder: Path

    def path(self, name: str) -> Path:
        """Return the path of a tomogram's file; a name that is not a safe file name gets a digest."""
        return self.folder / f"{file_name_of(name)}.npz"

    def save(
        self, name: str, result: TomogramResult, fingerprint: Fingerprint, basis: Basis | None = None
    ) -> None:
        """Write a tomogram's result; raises RunError when that fails, and then leaves no file."""
        arrays: dict[str, Array] = {}
        content = encode(result, arrays)
        header = {"tomogram": name, "fingerprint": dict(fingerprint), "basis": basis or {}, "result": content}
        text = json.dumps(header)
        arrays[_HEADER] = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        with atomic_path(self.path(name), durable=True) as temporary:
            with temporary.open("wb") as stream:
                _savez(stream, **arrays)
            with zipfile.ZipFile(temporary, "a") as archive:
                archive.comment = bytes(_DIGEST_BYTES)
            with temporary.open("r+b") as stream:
                digest = _digest(stream)
                stream.seek(-_DIGEST_BYTES, 2)
                stream.write(digest)

    def read(self, name: str) -> StoredResult | None:
        """Return a stored result; None if there is none. Raises DamagedResultError, which names the file."""
        path = self.path(name)
        try:
            with open_regular(path) as stream:
                return _read(stream, name)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise DamagedResultError(
                f"{path}: the stored result of {name} cannot be read ({problem.strerror or problem})"
            ) from problem
        except Exception as problem:  # a damaged file can raise any error in the libraries
            raise DamagedResultError(
                f"{path}: the stored result of {name} is damaged ({problem or type(problem).__name__})"
            ) from problem

    def load(self, name: str) -> TomogramResult:
        """Return a tomogram's result; raises RunError when there is none, or it is damaged."""
        stored = self.read(name)
        if stored is None:
            raise RunError(f"{self.path(name)}: the stored result of {name} is missing; run align again")
        return stored.result

    def names(self) -> list[str]:
        """Return the tomograms that have a stored result, damaged or not, sorted."""
        found = {path: _name_in(path) for path in self.folder.glob("*.npz")}
        return sorted(name for path, name in found.items() if self.path(name) == path)

    def start_run(self, note: Sequence[str]) -> None:
        """Replace the record of the earlier run by this run's note; raises RunError when that fails."""
        self._write_run({"note": list(note)})

    def add_to_run(self, **parts: Any) -> None:
        """Add parts, as values of JSON, to the record of the run; raises RunError when that fails."""
        self._write_run({**self.run(), **parts})

    def run(self) -> dict[str, Any]:
        """Return the record of the latest run; empty where there is none, or it is damaged."""
        try:
            content = read_json(self.folder / RUN_NAME)
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write_run(self, content: Mapping[str, Any]) -> None:
        with atomic_write(self.folder / RUN_NAME) as stream:
            json.dump(content, stream)


def _read(stream: BinaryIO, name: str) -> StoredResult:
    """Return a result; raises ValueError, or any error of the libraries, where the file is damaged."""
    digest = _digest(stream)
    if stream.read() != digest:
        raise ValueError("its content does not match its checksum")
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as file:
        header: dict[str, Any] = json.loads(bytes(file[_HEADER]).decode("utf-8", "surrogatepass"))
        if header["tomogram"] != name:
            raise ValueError(f"it belongs to {header['tomogram']!r}")
        result, fingerprint = decode_result(header["result"], file), header["fingerprint"]
        basis = header.get("basis", {})
    if not all(isinstance(part, dict) for part in (fingerprint, basis, *dict(basis).values())):
        raise ValueError("it contains something else")
    return StoredResult(result=result, fingerprint=fingerprint, basis=basis)


def _name_in(path: Path) -> str:
    """Return the name of the tomogram whose result a file contains; the file's stem if it is unreadable."""
    try:
        with open_regular(path) as stream, np.load(stream, allow_pickle=False) as file:
            return str(json.loads(bytes(file[_HEADER]).decode("utf-8", "surrogatepass"))["tomogram"])
    except Exception:  # a damaged file can raise any error in the libraries
        return path.stem


def _digest(stream: BinaryIO) -> bytes:
    """Return the digest of a file up to its end, where the digest is stored; leaves the stream there."""
    left = stream.seek(0, 2) - _DIGEST_BYTES
    stream.seek(0)
    state = hashlib.blake2b(digest_size=_DIGEST_BYTES // 2)
    while left > 0 and (part := stream.read(min(left, 2**20))):
        state.update(part)
        left -= len(part)
    return state.hexdigest().encode("ascii")


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredResults(Mapping[str, TomogramResult]):
    """Results that are read from disk on access, so that thousands need no memory.

    The last result is cached, because loops over tomograms often access the same result several times.
    """

    store: ResultsStore
    names: Sequence[str]
    _last: dict[str, TomogramResult] = field(default_factory=dict, init=False, repr=False)

    def __getitem__(self, name: str) -> TomogramResult:
        if name not in self.names:
            raise KeyError(name)
        found = self._last.get(name)
        if found is None:
            self._last.clear()  # before the next is read: one at a time
            found = self._last[name] = self.store.load(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
