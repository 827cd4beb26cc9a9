"""What stands in the pages: their commands and their Python."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

FENCED = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    attributes: str
    text: str


@dataclass(frozen=True)
class Site:
    """A build of the site, and what was said while it was built."""

    folder: Path
    said: str

    @property
    def pages(self) -> dict[str, str]:
        return {p.name: p.read_text(encoding="utf-8") for p in sorted(self.folder.glob("*.html"))}


def blocks() -> list[Block]:
    """All fenced blocks of all pages, in order."""
    found = []
    for page in PAGES:
        for match in FENCED.finditer(page.read_text(encoding="utf-8")):
            found.append(Block(page, match[2], match[3].strip(), match[4]))
    return found


def commands() -> dict[str, str]:
    """Every distinct shell line, without its comment, and the page where it stands first."""
    found: dict[str, str] = {}
    for block in blocks():
        if block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                command = " ".join(line.split(" #")[0].split())
                if command:
                    found.setdefault(command, block.page.name)
    return found
