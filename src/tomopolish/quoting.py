"""Texts that a STAR file can hold as one value, and their quotes."""

from __future__ import annotations

import re

BLANK = " \t\v\f"
"""White space within a line, as in C."""

IMPOSSIBLE = re.compile("[\0\n\r\ud800-\udc7f\udd00-\udfff]")
"""Line ends, NUL, and characters that UTF-8 cannot encode."""


def quote_for(text: str) -> str | None:
    """Return the quote for a text with blanks, or None where either kind would end too early."""
    return next((mark for mark in "\"'" if not any(mark + blank in text for blank in BLANK)), None)


def is_possible_value(text: str) -> bool:
    """Return whether a STAR file can hold a text as one value."""
    return not IMPOSSIBLE.search(text) and (quote_for(text) is not None or not any(b in text for b in BLANK))
