"""Pages of a report from templates; names in them are escaped, and nothing is fetched from a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tomopolish.dataset.files import atomic_path, atomic_write
from tomopolish.errors import RunError
from tomopolish.output.motion import motion_words
from tomopolish.output.report.data import RunSummary, TomogramDetails
from tomopolish.output.report.packing import page_json
from tomopolish.output.report.payload import details_payload, overview_payload
from tomopolish.plain_text import safe_to_show
from tomopolish.version import program_version

TEMPLATE = "page.html"
PARTS = (TEMPLATE, "macros.html", "first_screen.html", "overview.html", "tomogram.html", "joint.html")
GENERATOR = "tomopolish report "
"""Start of the entry in a page that names the program and version that wrote it."""

PLOTLY_NAME = "plotly.min.js"
SCRIPTS = ("core.js", "figures.js", "space.js", "overview.js", "joint.js")
MOST_WORST, MOST_WARNINGS = 5, 5
"""Maximum number of tomograms and of warnings on the first screen; further warnings can be unfolded."""
MOST_FLAGS = 100
"""Maximum number of marked particles in a page's list; the number of further particles follows."""

INSTALL = "pip install 'tomopolish[report]'"


def check_installed() -> None:
    """Raise RunError, with the command that installs what is missing, when no report can be made."""
    for module in ("plotly", "jinja2"):
        if find_spec(module) is None:
            raise RunError(f"it needs {module}: {INSTALL}")


def write_plotly(folder: Path) -> None:
    """Write the plotting library beside the pages that share it; raises RunError when that fails."""
    with atomic_write(folder / PLOTLY_NAME) as stream:
        stream.write(_plotly())


@dataclass(frozen=True, kw_only=True)
class PageLinks:
    """Where the page of a tomogram leads: paths relative to it, None at the first and the last page.

    Attributes
    ----------
    place
        Its place in the order of the overview, such as "3 of 40".
    """

    overview: str
    previous: str | None
    following: str | None
    place: str


def write_overview(
    path: Path, run: RunSummary, details: Sequence[TomogramDetails], pages: dict[str, str]
) -> None:
    """Write the report: the overview, and the details of tomograms without a separate page.

    Raises RunError when the file cannot be written.

    Parameters
    ----------
    details
        Tomograms whose details are in this file.
    pages
        Tomogram → its separate page, relative to this page.
    """
    links = {name: _link(target) for name, target in pages.items()}
    links |= {d.name: f"#tomogram-{number}" for number, d in enumerate(details)}
    overview = overview_payload(run, links)
    _write(path, run=run, details=details, links=links, ways=None, plotly=_plotly(), overview=overview)


def write_tomogram(path: Path, details: TomogramDetails, ways: PageLinks) -> None:
    """Write a tomogram's page beside the plotting library; raises RunError when that fails."""
    _write(path, run=None, details=[details], links={}, ways=ways, plotly=None, overview=None)


def _write(path: Path, **content: Any) -> None:
    template = _environment().get_template(TEMPLATE)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace") as stream:
        stream.writelines(
            template.generate(
                **content,
                version=program_version(),
                generator=GENERATOR,
                most_flags=MOST_FLAGS,
                most_worst=MOST_WORST,
                most_warnings=MOST_WARNINGS,
                plotly_name=PLOTLY_NAME,
                style=_asset("style.css"),
                scripts=[_asset(name) for name in SCRIPTS],
                payload=lambda d: page_json(details_payload(d)),
                page_json=page_json,
            )
        )


@lru_cache(maxsize=1)
def _environment() -> Any:
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({name: _asset(name) for name in PARTS}),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    environment.filters["link"] = _link
    environment.filters["motion_words"] = motion_words
    return environment


def _shown(value: Any) -> Any:
    """Return texts made safe to show; markup and other values are returned unchanged."""
    return safe_to_show(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def figure(value: float, digits: int = 3) -> str:
    """Return a number formatted for a table, with `digits` significant digits, mostly without an exponent."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -4 <= magnitude <= 9:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:.{max(0, digits - 1 - magnitude)}f}".replace("-", "−")


def _asset(name: str) -> str:
    return files("tomopolish.output.report").joinpath("assets").joinpath(name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    # Within a page the text must not end its own element.
    return str(get_plotlyjs()).replace("</script", "<\\/script")


def _link(target: str) -> str:
    return quote(target, safe="/.", encoding="utf-8", errors="surrogateescape")
