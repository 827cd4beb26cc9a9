"""How much a command shows: messages and warnings; less with ``--quiet``, more with ``--verbose``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_level: ContextVar[int] = ContextVar("level", default=logging.INFO)


@contextmanager
def showing(level: int) -> Iterator[None]:
    """Show messages of a level of `logging`, and above, within the block."""
    token = _level.set(level)
    try:
        yield
    finally:
        _level.reset(token)


def shows(level: int) -> bool:
    """Return whether messages of a level are shown."""
    return level >= _level.get()
