"""Errors as sentences. An unexpected error asks for a report, and its details are written to a file."""

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
from tomopolish.errors import RunError, TomopolishError
from tomopolish.plain_text import one_line, safe_to_show, uncoloured
from tomopolish.run.journal.log_file import has_title
from tomopolish.version import program_version

RESUME = "the same command with --only_do_unfinished resumes with the tomograms that are not finished"

ERRORS_FOLDER = "errors"
"""Folder of the details of internal errors, in the output folder."""

_TITLE = "Internal error of tomopolish"
_LONGEST = 160
_PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "mrcfile", "dask", "distributed", "cupy")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Reason of a failure as plain text, so that a worker can send it.

    Attributes
    ----------
    sentence
        The reason; for an internal error, without the remedy.
    details
        For an internal error: its traceback, and the versions of the program and libraries; else None.
    """

    sentence: str
    details: str | None = None

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """Return the description of an error."""
        expected = _expected(error)
        if expected is not None:
            return cls(sentence=expected)
        text = one_line(uncoloured(str(error)))
        shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
        shown = shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
        return cls(sentence=f"an internal error of tomopolish ({shown})", details=_details(error))

    def recorded(self, folder: Path | None, name: str) -> str:
        """Return the complete sentence, after writing the details of an internal error to a file.

        The file is named after the failed tomogram or task, and is in the output folder or, if that is None
        or missing, in the system's folder for temporary files.
        """
        if self.details is None:
            return self.sentence
        path = _write_details(self.details, folder, name)
        attachment = f"the file {path}, which contains the details" if path else "the output of --debug"
        return f"{self.sentence}; please report it to the authors, with {attachment}"


def reason(error: BaseException) -> str:
    """Return in one line what went wrong, without writing details to a file."""
    failure = Failure.of(error)
    if failure.details is None:
        return failure.sentence
    return f"{failure.sentence}; please report it to the authors, with the output of --debug"


def forget(folder: Path, name: str) -> None:
    """Remove the details of an earlier internal error, after the failed work has succeeded."""
    path = folder / ERRORS_FOLDER / f"{file_name_of(name)}.txt"
    if has_title(path, _TITLE):
        with contextlib.suppress(OSError):
            path.unlink()
            path.parent.rmdir()  # it fails where the folder contains other files


def _expected(error: BaseException) -> str | None:
    """Return the sentence of an expected error; None for an unexpected error."""
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
    """Write a file of details and return its path; None where no folder accepts the file."""
    file_name = f"{file_name_of(name)}.txt"
    if folder is not None and folder.is_dir():
        path = folder / ERRORS_FOLDER / file_name
        with contextlib.suppress(RunError):
            if has_title(path, _TITLE) or not path.exists():
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


def _details(error: BaseException) -> str:
    lines = [
        f"{_TITLE} {program_version()}, {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}",
        f"command: {shlex.join(sys.argv)}",
        f"Python {platform.python_version()}, {platform.platform()}",
        ", ".join(f"{name} {_version(name)}" for name in _PACKAGES if name in sys.modules),
        "",
        "".join(traceback.format_exception(error)),
    ]
    return safe_to_show(uncoloured("\n".join(lines)))


def _version(package: str) -> str:
    return str(getattr(sys.modules[package], "__version__", "of an unknown version"))
