"""The documentation builds without a warning, loads nothing from elsewhere, and names every option."""

from __future__ import annotations

import html
import re

import click
import pytest
from pages import PAGES, ROOT, Site

from chromium import Page, chromium
from tomopolish.cli import COMMANDS, SUMMARIES

SEARCH = """
new Promise((resolve, reject) => {
  const field = document.querySelector("[data-md-component=search-query]")
  field.focus()
  field.value = "agreement"
  field.dispatchEvent(new KeyboardEvent("keyup"))
  field.dispatchEvent(new InputEvent("input", { bubbles: true }))
  const look = setInterval(() => {
    const links = [...document.querySelectorAll(".md-search-result__item a")].map(link => link.href)
    if (links.length) { clearInterval(look); resolve(links) }
  }, 50)
  setTimeout(() => reject(new Error("nothing was found")), 20000)
})
"""


def test_it_builds_without_a_warning(site: Site) -> None:
    assert "WARNING -" not in site.said
    assert {"index.html", "options.html", "changelog.html", "guide.html"} <= set(site.pages)


def test_pages_load_nothing_from_elsewhere(site: Site) -> None:
    loading = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=[\"']?(?:https?:)?//", re.IGNORECASE)
    linked = re.compile(r"<link[^>]*\shref=[\"']?(?:https?:)?//[^>]*>", re.IGNORECASE)
    for name, page in site.pages.items():
        assert not loading.search(page), name
        assert not [link for link in linked.findall(page) if "canonical" not in link], name
    for sheet in site.folder.rglob("*.css"):
        assert not re.search(r"(url\([\"']?|@import [\"'])(https?:)?//", sheet.read_text(encoding="utf-8")), (
            sheet
        )


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_option_is_in_the_reference(site: Site, name: str) -> None:
    assert isinstance(COMMANDS, click.Group)
    command = COMMANDS.get_command(click.Context(COMMANDS), name)
    assert command is not None
    page = site.pages["options.html"]
    (section,) = [p for p in page.split("<h2 ") if p.startswith(f'id="tomopolish-{name}"')]
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", "", section)).split())
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for option in parameter.opts:
                assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), option
            assert " ".join((parameter.help or "").split()) in text, parameter.opts


def test_equations_are_drawn_without_scripts(site: Site) -> None:
    page = site.pages["method.html"]
    assert page.count("<math") > 30
    assert "$`" not in page and "EQUATION0" not in page
    assert "mathjax" not in page.lower() and "katex" not in page.lower()


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("name", ["index.html", "dev/contributing.html"])
def test_search_works_from_a_folder(site: Site, name: str) -> None:
    with Page() as page:
        page.open(site.folder / name)
        assert any(link.startswith((site.folder / "glossary.html").as_uri()) for link in page.run(SEARCH))
        assert not page.console
        assert all(url.startswith(("file:", "data:", "blob:", "about:")) for url in page.requests)


def test_terms_of_the_glossary_are_sorted_and_used() -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
    terms = re.findall(r"^\| ([^|]+?) \| .+ \|$", pages.pop("glossary.md"), re.MULTILINE)[2:]
    assert len(terms) > 60
    assert terms == sorted(terms, key=str.lower)
    code = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    text = " ".join([*pages.values(), *code]).lower()
    for names in terms:
        for name in names.split(" (")[0].split(", "):
            assert re.search(rf"\b{re.escape(name.lower())}", text), name
