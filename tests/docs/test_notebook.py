"""The example notebook runs from its first to its last cell, and every plot shows what it says."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from pages import ROOT

import tomopolish
from tomopolish import AlignmentRun

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
PLOTS = [name for name in dir(AlignmentRun) if name.startswith("plot_")]


def cells() -> list[dict[str, Any]]:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    return [cell for cell in content["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def shown(small_project: Path) -> tuple[dict[str, Any], list[Any]]:
    """The names after the last cell, and what each cell shows: the value of its last expression."""
    pytest.importorskip("pandas", reason="pandas is not installed")
    names: dict[str, Any] = {}
    values = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(small_project)
        for cell in cells():
            assert cell["outputs"] == [] and cell["execution_count"] is None
            body = ast.parse("".join(cell["source"])).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, type_ignores=[]), str(NOTEBOOK), "exec"), names)
            if isinstance(last, ast.Expr):
                values.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names))
    return names, values


def test_every_cell_runs_and_shows_a_table_or_a_figure(shown: tuple[dict[str, Any], list[Any]]) -> None:
    names, values = shown
    figures = [value for value in values if isinstance(value, Figure)]
    assert len(figures) == 6
    for figure in figures:
        figure.draw_without_rendering()
        assert all(axes.has_data() for axes in figure.axes)
    text = "".join("".join(cell["source"]) for cell in cells())
    assert all(f"run.{name}(" in text for name in PLOTS)
    page = names["run"]._repr_html_()
    assert "<table>" in page and "TS_01" in page


def test_plots_say_what_is_missing(shown: tuple[dict[str, Any], list[Any]]) -> None:
    run = shown[0]["run"]
    with pytest.raises(tomopolish.InputError, match="tomogram='TS_9' was not refined: give one of TS_01, TS"):
        run.plot_tilts("TS_9")
    bare = AlignmentRun(project=run.project, results=run.results, failures={}, verdict=None)
    with pytest.raises(tomopolish.InputError, match="evaluate=True"):
        bare.plot_maps()
    for name in ("plot_tomograms", "plot_image"):
        getattr(bare, name)().draw_without_rendering()


def test_warnings_are_shown_below_the_sentence(shown: tuple[dict[str, Any], list[Any]]) -> None:
    run = shown[0]["run"]
    warned = AlignmentRun(
        project=run.project, results=run.results, failures={}, verdict=run.verdict, warnings=("a < b",)
    )
    assert "<li>a &lt; b</li>" in warned._repr_html_()
    assert (
        "Warnings"
        not in AlignmentRun(
            project=run.project, results=run.results, failures={}, verdict=run.verdict
        )._repr_html_()
    )
