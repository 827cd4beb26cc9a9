"""Which texts a STAR file can hold as one value, and in which quotes."""

from __future__ import annotations

import re

BLANK = " \t\v\f"
"""White space within a line, as C has it."""

IMPOSSIBLE = re.compile("[\0\n\r\ud800-\udc7f\udd00-\udfff]")
"""Line ends, NUL, and what no file can hold as UTF-8."""


def quote_for(text: str) -> str | None:
    """Return the quote that a text with blanks can stand in, or None where it ends either kind too early."""
    return next((mark for mark in "\"'" if not any(mark + blank in text for blank in BLANK)), None)


def is_possible_value(text: str) -> bool:
    """Whether a STAR file can hold a text as one value."""
    return not IMPOSSIBLE.search(text) and (quote_for(text) is not None or not any(b in text for b in BLANK))
