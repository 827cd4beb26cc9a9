"""Text that is safe to show: text from files cannot move a cursor, hide text or reverse its direction."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SEQUENCES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[ -/]+[0-~]|[@-Z\\-_])?")


def safe_to_show(text: str) -> str:
    r"""Return a text in which invisible characters, except line ends and tabs, are replaced by escapes.

    Replaced are control characters (including those that begin a terminal's escape sequences), characters
    that reverse the direction of the text, blanks other than the space, and bytes that are not text:
    ``\x1b``, ``\u202e``, ``\xff``.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)


def one_line(text: str) -> str:
    """Return a text on a single line that is safe to show."""
    return safe_to_show(" ".join(text.split()))


def uncoloured(text: str) -> str:
    """Return a text that a library has written for terminals without its escape sequences."""
    return _SEQUENCES.sub("", text)


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, as Python reads it
        number -= 0xDC00
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def listed(words: Sequence[str], conjunction: str = "and") -> str:
    """Return words joined as in a sentence: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def first_names(names: Sequence[str], most: int = 8) -> str:
    """Return the first of many names, and the number of the rest: a, b and 7 more."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it must be."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
