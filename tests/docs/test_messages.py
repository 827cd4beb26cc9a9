"""Messages that the page on troubleshooting quotes are the program's; doubts and warnings have entries."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import ROOT

from tomopolish.results.doubts import SENTENCES

FAQ = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
MESSAGES = FAQ.partition("\n## Messages\n")[2]
QUOTED = [
    words
    for cell in re.findall(r"^\| (`.+?) \|", MESSAGES, re.MULTILINE)
    for words in re.findall("`(.+?)`", cell)
]
CHECKS = ("dataset/check.py", "dataset/series_checks.py", "pipeline/result.py")
"""Modules all of whose warnings have an entry."""


def pattern(words: str) -> str:
    return ".*".join(re.escape(part.strip()) for part in words.split("…"))


def test_quoted_messages_are_in_the_program() -> None:
    assert len(QUOTED) > 60
    messages = {text for path in (ROOT / "src").rglob("*.py") for text in texts(path)}
    assert [
        words for words in QUOTED if not any(re.search(pattern(words), message) for message in messages)
    ] == []


@pytest.mark.parametrize("kind", SENTENCES)
def test_every_doubt_has_its_row_in_both_pages(kind: str) -> None:
    says = re.split(r"[.:;,(]", SENTENCES[kind])[0].strip()
    evidence = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    for page in (FAQ, evidence):
        assert re.search(rf"^\| {re.escape(says)} \|", page, re.MULTILINE), says


def test_every_kind_of_verdict_has_a_section() -> None:
    tree = ast.parse((ROOT / "src/tomopolish/results/verdict.py").read_text(encoding="utf-8"))
    said = {
        re.split(r"[:,]", text)[0]
        for text in _strings(tree)
        if re.match(r"(The refinement did|There is no evidence|Whether it helped|Nothing is left)", text)
    }
    assert len(said) == 4
    for words in said:
        assert re.search(rf"^### {re.escape(words)}", FAQ, re.MULTILINE), words


@pytest.mark.parametrize("module", CHECKS)
def test_every_warning_of_the_checks_has_an_entry(module: str) -> None:
    """A warning is a text that joins a list, or is in a list that is returned, in a function on warnings."""
    said = list(warnings(ROOT / "src" / "tomopolish" / module))
    assert said
    missing = [text for text in said if not any(re.search(pattern(words), text) for words in QUOTED)]
    assert not missing, f"describe in docs/faq.md: {missing}"


def texts(path: Path) -> set[str]:
    """Return all strings of a module, each value within one as "…"."""
    return set(_strings(ast.parse(path.read_text(encoding="utf-8"))))


def warnings(path: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(function, ast.FunctionDef) and re.search(
            r"warning|check_|_edge|exposure", function.name
        ):
            for node in ast.walk(function):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == "append"
                ):
                    yield from filter(_is_sentence, _strings(node))
                elif isinstance(node, ast.Return | ast.AugAssign) and isinstance(node.value, ast.List):
                    yield from filter(_is_sentence, _strings(node.value))


def _is_sentence(text: str) -> bool:
    return text.count(" ") > 3


def _strings(tree: ast.AST) -> Iterator[str]:
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value
