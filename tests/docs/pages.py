"""Commands and Python code in the pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAVIGATION = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
PAGES = (
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in NAVIGATION if (ROOT / "docs" / name).exists()),
)
"""All pages, in the order of the navigation; their commands run in that order."""

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
    """A build of the site, and the messages of the build."""

    folder: Path
    said: str

    @property
    def pages(self) -> dict[str, str]:
        return {
            str(p.relative_to(self.folder)): p.read_text(encoding="utf-8")
            for p in sorted(self.folder.rglob("*.html"))
        }


def blocks() -> list[Block]:
    """Return all fenced blocks of all pages, in order."""
    fenced = []
    for page in PAGES:
        for match in FENCED.finditer(page.read_text(encoding="utf-8")):
            fenced.append(Block(page, match[2], match[3].strip(), match[4]))
    return fenced


def commands() -> dict[str, str]:
    """Return every distinct shell command, without its comment, and the page that has it first."""
    lines: dict[str, str] = {}
    for block in blocks():
        if block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                command = " ".join(line.split(" #")[0].split())
                if command:
                    lines.setdefault(command, block.page.name)
    return lines
