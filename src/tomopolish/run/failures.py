"""Sentences for errors that no layer below has put into words."""

from __future__ import annotations

from tomopolish.errors import TomopolishError


def reason(error: BaseException) -> str:
    """Say in one line what went wrong."""
    if isinstance(error, TomopolishError):
        return _one_line(str(error))
    if isinstance(error, MemoryError) and type(error).__module__.startswith("cupy"):
        return (
            "the CUDA device is out of memory: use a smaller box (--b), fewer workers on the device, or "
            "--device cpu"
        )
    if isinstance(error, MemoryError):
        return "out of memory: use a smaller box (--b), fewer threads (--j) or a machine with more memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return _one_line(f"unexpected {type(error).__name__}: {error} (--debug shows where)")


def _one_line(text: str) -> str:
    return " ".join(text.split())
