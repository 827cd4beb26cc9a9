"""Messages that the page on troubleshooting quotes are messages of the program."""

from __future__ import annotations

import ast
import re

from pages import ROOT


def test_quoted_messages_are_in_the_program() -> None:
    page = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8").partition("\n## Messages\n")[2]
    quoted = re.findall(r"^\| `(.+?)` ", page, re.MULTILINE)
    assert len(quoted) > 20
    messages = _texts()
    patterns = [".*".join(re.escape(part.strip()) for part in words.split("…")) for words in quoted]
    assert [p for p in patterns if not any(re.search(p, message) for message in messages)] == []


def _texts() -> set[str]:
    """Return all strings of the program's source, each value within one as "…"."""
    texts = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                texts.add("".join(map(str, parts)))
    return texts
