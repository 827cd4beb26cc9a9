"""In a browser: nothing is logged, nothing is fetched, every figure is drawn and follows its controls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from made_results import make_maps, make_result, with_scores
from test_pages import HOSTILE, results

from chromium import Page, chromium
from tomopolish.dataset.scores import SHOWS_NOTHING
from tomopolish.run.commands.report import write_report

if chromium() is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)

STATES = "report.drawAll().then(() => report.figures().map((f) => [f.dataset.kind, f.dataset.state]))"
KINDS = {"shifts", "angles", "agreement", "vectors", "space", "windows", "objective"}
MOVING = make_result(1, motion=True, warp=True)
SCORED = with_scores(make_result(2), {3: (SHOWS_NOTHING, 0.02)})


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with Page() as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """The browser; whatever a test does in it, nothing may be logged, or asked of a network."""
    browser.console.clear()
    browser.requests.clear()
    yield browser
    assert browser.console == []
    assert browser.requests
    assert not [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))]


def test_every_figure_is_drawn_and_follows_its_controls(page: Page, tmp_path: Path) -> None:
    blind = make_result(3, tilts=1, particles=1, seen=0.0)
    everything = {"TS_1": MOVING, "TS_2": SCORED, "TS_4": blind}
    page.open(write_report(tmp_path, everything, {"TS_3": "no images"}, make_maps()))
    followed = page.run(
        """new Promise((done) => {
          document.querySelectorAll("#tomograms a")[1].click();  // opens the second tomogram, and goes there
          const figure = document.querySelector("#tomogram-1 figure");
          const look = () => (figure.dataset.state === "drawn" ? done(true) : setTimeout(look, 50));
          setTimeout(() => { figure.scrollIntoView(); look(); }, 50);
          setTimeout(() => done(false), 20000);
        })"""
    )
    assert followed, "figures are drawn when they come into view"
    states = page.run(STATES)
    assert {state for _, state in states} == {"drawn"}
    assert {kind for kind, _ in states} == KINDS | {"warp", "scores", "gains", "changes", "fsc"}
    drawn = page.run(
        "report.figures().map((f) => f.querySelectorAll('.canvas .main-svg').length > 0"
        " && f.querySelector('.canvas').getBoundingClientRect().height > 100)"
    )
    assert all(drawn)
    canvases = "Array.from(document.querySelectorAll('.canvas'))"
    assert all(page.run(f"{canvases}.map((c) => c.getAttribute('aria-label'))"))
    buttons = page.run("Array.from(document.querySelectorAll('.modebar-btn')).map((b) => b.dataset.title)")
    assert "Download plot as a PNG" in buttons
    assert not [title for title in buttons if "share" in title.lower()]
    moved = page.run(
        """(() => {
          const found = {};
          for (const kind of ["vectors", "space", "warp", "windows"]) {
            const figure = document.querySelector(`figure[data-kind=${kind}]`);
            const shown = () => JSON.stringify(figure.querySelector(".canvas").data.map((t) => [t.x, t.z]));
            figure.querySelectorAll("input[type=range]").forEach((input, i) => {
              const before = shown();
              input.value = Number(input.value) + 2;
              input.dispatchEvent(new Event("input"));
              found[`${kind} ${i}`] = shown() !== before && input.getAttribute("aria-valuetext") !== null;
            });
          }
          return found;
        })()"""
    )
    sliders = ["vectors 0", "vectors 1", "space 0", "warp 0", "warp 1", "windows 0"]
    assert moved == dict.fromkeys(sliders, True)


def test_on_paper_and_unexaggerated_figures_are_right(page: Page, tmp_path: Path) -> None:
    page.open(write_report(tmp_path, {"TS": MOVING}, {}))
    page.run(STATES)
    during = page.run(
        """(() => {
          window.dispatchEvent(new Event("beforeprint"));
          const svgs = report.figures().map((f) => f.querySelector(".main-svg"));
          const widths = svgs.map((svg) => svg.getBoundingClientRect().width);
          const photographs = Array.from(document.querySelectorAll(".photograph")).map((i) => i.src.length);
          window.dispatchEvent(new Event("afterprint"));
          return [widths, photographs, document.querySelectorAll(".photograph").length];
        })()"""
    )
    assert max(during[0]) <= 700
    assert len(during[1]) == 1
    assert during[1][0] > 5000
    assert during[2] == 0
    assert page.pdf().startswith(b"%PDF")
    shown = page.run(
        """(() => {
          const figure = document.querySelector("figure[data-kind=vectors]");
          const times = figure.querySelectorAll("input[type=range]")[1];
          times.value = 0;  // no exaggeration
          times.dispatchEvent(new Event("input"));
          return figure.querySelector(".canvas").data[0].x;
        })()"""
    )
    record = MOVING.record
    assert record is not None
    first = record.given.pre_exposure.argmin()
    M, X = record.given.projections_px[first], record.given.positions_px[record.visible[first]]
    assert shown[0::3] == pytest.approx(X @ M[0, :3] + M[0, 3], abs=0.05)


def test_names_never_become_code_or_markup(page: Page, tmp_path: Path) -> None:
    names = ['<a href="https://x.y">z</a>', HOSTILE[0] + HOSTILE[1], HOSTILE[2] + HOSTILE[3]]
    write_report(tmp_path, results(names, motion=True), {HOSTILE[1]: HOSTILE[0]})
    page.open(tmp_path / "report.html")
    assert {state for _, state in page.run(STATES)} == {"drawn"}
    assert page.run("window.hacked") is None
    assert page.run("Array.from(document.querySelectorAll('details h2')).map((h) => h.textContent)") == names
    label = page.run(
        """(() => {
          const canvas = document.querySelector("figure[data-kind=vectors] .canvas");
          Plotly.Fx.hover(canvas, [{ curveNumber: 0, pointNumber: 0 }]);
          return canvas.querySelector(".hoverlayer").textContent;
        })()"""
    )
    assert names[0] in label
    assert page.run("document.querySelectorAll('img, .canvas a').length") == 0


def test_a_page_of_its_own_is_drawn_and_leads_back(page: Page, tmp_path: Path) -> None:
    write_report(tmp_path, results([f"TS {i}" for i in range(9)]), {})
    page.open(tmp_path / "report.html")
    page.follow("#tomograms a")
    assert {(k, s) for k, s in page.run(STATES)} == {(kind, "drawn") for kind in KINDS}
    page.follow("nav a")
    rows = "Array.from(document.querySelectorAll('#tomograms tbody tr'))"
    assert page.run(f"{rows}.length") == 9
    column, click = f"{rows}.map((r) => r.cells[6].textContent)", "thead button')[6].click()"
    page.run(f"document.querySelectorAll('#tomograms {click}")
    values = [float(v) for v in page.run(column)]
    assert values == sorted(values)
    page.run(f"document.querySelectorAll('#tomograms {click}")
    assert [float(v) for v in page.run(column)] == values[::-1]
    page.run("document.getElementById('filter').value = 's 4'")
    page.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
    assert page.run(f"{rows}.filter((r) => !r.hidden).map((r) => r.cells[0].textContent)") == ["TS 4"]


@pytest.mark.alone
def test_the_overview_of_a_thousand_opens_in_two_seconds(
    page: Page, fleet_report: tuple[Path, list[Path]]
) -> None:
    """At least once in a few times, because other work may keep the processor busy."""
    assert any(page.open(fleet_report[0]) < 2.0 for _ in range(5))
    assert {state for _, state in page.run(STATES)} == {"drawn"}
