"""Errors as sentences. One that nobody expected asks for a report, and its details go to a file."""

from __future__ import annotations

import contextlib
import platform
import shlex
import sys
import tempfile
import traceback
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tomopolish.dataset.files import atomic_write, file_name_of
from tomopolish.dataset.opening import open_regular
from tomopolish.errors import RunError, TomopolishError
from tomopolish.plain_text import one_line, safe_to_show, uncoloured
from tomopolish.version import __version__

RESUME = "the same command with --only_do_unfinished resumes with the tomograms that are not finished"

ERRORS_FOLDER = "errors"
"""Where the details of internal errors are, in the output folder."""

_TITLE = "Internal error of tomopolish"
_LONGEST = 160
_PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "mrcfile", "dask", "distributed", "cupy")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why something failed; plain text, so that a worker can send it.

    Attributes
    ----------
    sentence
        The reason; of an internal error without what to do about it.
    details
        Of an internal error: its traceback, and the versions of what took part; else None.
    """

    sentence: str
    details: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Describe an error."""
        expected = _expected(error)
        if expected is not None:
            return cls(sentence=expected)
        text = one_line(uncoloured(str(error)))
        shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
        shown = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
        return cls(sentence=f"an internal error of tomopolish ({shown})", details=_details(error))

    def recorded(self, folder: Path | None, name: str) -> str:
        """Return the whole sentence, after writing the details of an internal error to a file.

        Parameters
        ----------
        folder
            The output folder; None, or a folder that is not there: the file goes to the system's folder for
            temporary files.
        name
            What failed: it names the file.
        """
        if self.details is None:
            return self.sentence
        path = _write_details(self.details, folder, name)
        kept = f"the file {path}, which holds the details" if path else "what --debug shows"
        return f"{self.sentence}; please report it to the authors, with {kept}"


def reason(error: BaseException) -> str:
    """Say in one line what went wrong, without keeping details."""
    failure = Failure.of(error)
    if failure.details is None:
        return failure.sentence
    return f"{failure.sentence}; please report it to the authors, with what --debug shows"


def forget(folder: Path, name: str) -> None:
    """Remove the details of an earlier internal error, once what failed has succeeded."""
    path = folder / ERRORS_FOLDER / f"{file_name_of(name)}.txt"
    if _is_ours(path):
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()  # it fails where other files are left


def _expected(error: BaseException) -> str | None:
    """Return the sentence of an error that has one; None where nobody expected it."""
    if isinstance(error, TomopolishError):
        return one_line(str(error))
    if isinstance(error, MemoryError) and type(error).__module__.startswith("cupy"):
        return (
            "the CUDA device is out of memory: use a smaller box (--b), fewer workers on the device, or "
            "--device cpu"
        )
    if isinstance(error, MemoryError):
        return "out of memory: use a smaller box (--b), fewer threads (--j) or a machine with more memory"
    if isinstance(error, OSError) and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
    return None


def _write_details(details: str, folder: Path | None, name: str) -> Path | None:
    """Write a file of details where there is a place for it; returns None where there is none."""
    file_name = f"{file_name_of(name)}.txt"
    if folder is not None and folder.is_dir():
        path = folder / ERRORS_FOLDER / file_name
        with contextlib.suppress(RunError):
            if _is_ours(path) or not path.exists():
                with atomic_write(path) as stream:
                    stream.write(details)
                return path
    with contextlib.suppress(OSError):
        with tempfile.NamedTemporaryFile(
            "w", prefix="tomopolish-", suffix=f"-{file_name}", delete=False, errors="replace"
        ) as temporary:
            temporary.write(details)
        return Path(temporary.name)
    return None


def _is_ours(path: Path) -> bool:
    try:
        with open_regular(path) as stream:
            return bool(stream.read(len(_TITLE)) == _TITLE.encode())
    except OSError:
        return False


def _details(error: BaseException) -> str:
    lines = [
        f"{_TITLE} {__version__}, {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
        f"command: {shlex.join(sys.argv)}",
        f"Python {platform.python_version()}, {platform.platform()}",
        ", ".join(f"{name} {_version(name)}" for name in _PACKAGES if name in sys.modules),
        "",
        "".join(traceback.format_exception(error)),
    ]
    return safe_to_show(uncoloured("\n".join(lines)))


def _version(package: str) -> str:
    return str(getattr(sys.modules[package], "__version__", "of an unknown version"))
