"""Finished tomograms on disk: one file each, complete or not there, with what its result depends on."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.files import atomic_path, file_name_of
from tomopolish.dataset.opening import open_regular
from tomopolish.errors import RunError
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.codec import decode, encode
from tomopolish.run.fingerprint import Fingerprint

Array = np.ndarray

FOLDER_NAME = "temp"
"""Where results of single tomograms are kept, in the output folder."""

_HEADER = "header"
_savez: Any = np.savez  # its annotations take the names of arrays for its own options
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, RecursionError)


@dataclass(frozen=True, kw_only=True)
class ResultsStore:
    """A folder of finished tomograms; several processes may write into it at once."""

    folder: Path

    def path(self, name: str) -> Path:
        """Return a tomogram's file; names that are no safe file names are told apart by a digest."""
        return self.folder / f"{file_name_of(name)}.npz"

    def save(self, name: str, result: TomogramResult, fingerprint: Fingerprint) -> None:
        """Write a tomogram's result; raises RunError when that is impossible, and leaves nothing behind."""
        arrays: dict[str, Array] = {}
        content = encode(result, arrays)
        text = json.dumps({"tomogram": name, "fingerprint": dict(fingerprint), "result": content})
        arrays[_HEADER] = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        with atomic_path(self.path(name)) as temporary, temporary.open("wb") as stream:
            _savez(stream, **arrays)

    def load(self, name: str) -> TomogramResult:
        """Read a tomogram's result; raises RunError when there is none, or it is damaged."""
        try:
            with open_regular(self.path(name)) as stream, np.load(stream, allow_pickle=False) as file:
                result = decode(self._header(file, name)["result"], file)
        except _UNREADABLE as problem:
            raise RunError(
                f"{self.path(name)}: the result of {name} cannot be read ({problem}); run it again"
            ) from problem
        if not isinstance(result, TomogramResult):
            raise RunError(f"{self.path(name)}: this is no result of a tomogram; run it again")
        return result

    def fingerprint(self, name: str) -> Fingerprint | None:
        """Read what a tomogram's result depends on; None where there is no result, or it is damaged."""
        try:
            self.load(name)
            with open_regular(self.path(name)) as stream, np.load(stream, allow_pickle=False) as file:
                found = self._header(file, name)["fingerprint"]
        except (*_UNREADABLE, RunError):
            return None
        return found if isinstance(found, dict) else None

    def names(self) -> list[str]:
        """Return the tomograms whose results are here and can be read, sorted."""
        found = []
        for path in self.folder.glob("*.npz"):
            try:
                with open_regular(path) as stream, np.load(stream, allow_pickle=False) as file:
                    name = str(json.loads(bytes(file[_HEADER]).decode("utf-8", "surrogatepass"))["tomogram"])
                self.load(name)
            except (*_UNREADABLE, RunError):
                continue
            found.append(name)
        return sorted(found)

    def _header(self, file: Any, name: str) -> dict[str, Any]:
        header: dict[str, Any] = json.loads(bytes(file[_HEADER]).decode("utf-8", "surrogatepass"))
        if header["tomogram"] != name:
            raise ValueError(f"it belongs to {header['tomogram']!r}")
        return header


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredResults(Mapping[str, TomogramResult]):
    """Results that are read from disk when one is asked for: thousands need not be held.

    The last one is, because whoever goes through the tomograms often looks at the same one several times.
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
