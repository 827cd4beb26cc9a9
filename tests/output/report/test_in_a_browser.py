"""In a browser: nothing is logged, nothing is fetched, every figure is drawn and follows its controls."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from made_results import make_maps, make_result, with_joint, with_scores
from test_pages import HOSTILE, results

from chromium import Page, chromium
from tomopolish.dataset.scores import SHOWS_NOTHING
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.commands.report import write_report

if chromium() is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)

STATES = "report.drawAll().then(() => report.figures().map((f) => [f.dataset.kind, f.dataset.state]))"
KINDS = {"shells", "agreement", "depth", "image", "slab", "vectors", "space", "shifts", "angles"}
KINDS |= {"windows", "objective"}
MOVING = make_result(1, motion=True, warp=True)
FALSE = {3: (SHOWS_NOTHING, 0.02)}
SCORED = with_joint(with_scores(make_result(2), FALSE))


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
    assert {kind for kind, _ in states} == KINDS | {
        "warp",
        "scores",
        "optics",
        "turns",
        "agreements",
        "gains",
        "changes",
        "fsc",
        "slices",
    }
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


def test_a_page_prints_completely_wherever_its_reader_has_been(page: Page, tmp_path: Path) -> None:
    page.open(write_report(tmp_path, {"TS_1": SCORED, "TS_2": MOVING}, {}))
    pdf = page.pdf()  # nothing has been seen, and the second tomogram is folded
    assert max(int(count) for count in re.findall(rb"/Count (\d+)", pdf)) > 8
    assert pdf.count(b"/Subtype /Image") >= 6, "windows and 3D of both tomograms"
    during = page.run(
        """(() => {
          window.dispatchEvent(new Event("beforeprint"));
          const svgs = report.figures().map((f) => f.querySelector(".main-svg"));
          const widths = svgs.map((svg) => svg.getBoundingClientRect().width);
          const photographs = Array.from(document.querySelectorAll(".photograph"));
          const inks = photographs.map((canvas) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((v, i) => i % 4 === 3 && v > 0).length;
          });
          const closed = () => document.querySelectorAll("details.tomogram:not([open])").length;
          const then = closed();
          window.dispatchEvent(new Event("afterprint"));
          return [widths, inks, then, document.querySelectorAll(".photograph").length, closed()];
        })()"""
    )
    assert min(during[0]) > 600 and max(during[0]) <= 700
    assert len(during[1]) == 2 and min(during[1]) > 1000, "each 3D figure is an image with something on it"
    assert during[2:] == [0, 0, 1]


OVERLAPS = """(() => {
  const titles = ".xtitle, .ytitle, .annotation-text, .legend, .colorbar .cbtitle";
  const place = (t) => [t.textContent, t.getBoundingClientRect()];
  const boxes = (f) => Array.from(f.querySelectorAll(titles)).map(place).filter(([, b]) => b.width);
  const before = (a, b) => a.right <= b.left + 1 || a.bottom <= b.top + 1;
  const apart = (a, b) => before(a, b) || before(b, a);
  const found = [];
  for (const figure of report.figures()) {
    const all = boxes(figure), edge = figure.getBoundingClientRect();
    all.forEach(([text, box], i) => {
      const inside = box.left > edge.left - 1 && box.right < edge.right + 1;
      if (!inside) found.push([figure.dataset.kind, text, "is cut"]);
      all.slice(0, i).forEach(([more, b]) => {
        if (!apart(box, b)) found.push([figure.dataset.kind, text, more]);
      });
    });
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def drawn(browser: Page, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page on a narrow screen, all figures of which have been drawn."""
    path = write_report(tmp_path_factory.mktemp("drawn"), {"TS": with_scores(MOVING, FALSE)}, {}, make_maps())
    browser.resize(500, 900)
    browser.open(path)
    browser.run(STATES)
    return browser


def test_titles_stay_apart_on_narrow_screens(drawn: Page) -> None:
    assert drawn.run(OVERLAPS) == []
    assert drawn.run("document.documentElement.scrollWidth") <= 500
    drawn.resize(1200, 900)


def test_counts_have_integers_for_ticks(drawn: Page) -> None:
    for kind, axis in (("scores", "y"), ("objective", "x")):
        ticks = drawn.run(
            f"Array.from(document.querySelectorAll('figure[data-kind={kind}] .{axis}tick text'))"
            ".map((t) => t.textContent)"
        )
        assert len(ticks) > 2
        assert [int(tick) for tick in ticks] == sorted({int(tick) for tick in ticks})


PAPER = """(() => {
  const papers = new Set(report.figures().map((f) => f.querySelector(".canvas")._fullLayout.paper_bgcolor));
  return [getComputedStyle(document.body).backgroundColor, ...papers];
})()"""
LATER = "new Promise((done) => setTimeout(done, 300))"
LIGHT, DARK = ["rgb(255, 255, 255)", "#fff"], ["rgb(23, 25, 28)", "#17191c"]


def test_figures_follow_the_readers_choice_of_dark_pages_and_print_light(drawn: Page) -> None:
    try:
        drawn.dark(True)
        drawn.run(LATER)
        assert drawn.run(PAPER) == DARK
        drawn.run("window.dispatchEvent(new Event('beforeprint'))")
        assert drawn.run(PAPER) == LIGHT
        drawn.run("window.dispatchEvent(new Event('afterprint'))")
        assert drawn.run(PAPER) == DARK
    finally:
        drawn.dark(False)
    drawn.run(LATER)
    assert drawn.run(PAPER) == LIGHT


def test_an_image_without_exaggeration_has_the_particles_places(drawn: Page) -> None:
    shown = drawn.run(
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
    assert sorted(
        page.run("Array.from(document.querySelectorAll('details h2')).map((h) => h.textContent)")
    ) == sorted(names)
    label = page.run(
        """(() => {
          const canvas = Array.from(document.querySelectorAll("figure[data-kind=vectors] .canvas"))
            .find((c) => c.data[0].text[0].includes("href"));
          Plotly.Fx.hover(canvas, [{ curveNumber: 0, pointNumber: 0 }]);
          return canvas.querySelector(".hoverlayer").textContent;
        })()"""
    )
    assert names[0] in label
    assert page.run("document.querySelectorAll('img, .canvas a').length") == 0


ROWS = "Array.from(document.querySelectorAll('#tomograms tbody tr'))"


def test_pages_of_their_own_lead_back_and_on(page: Page, tmp_path: Path) -> None:
    made = {name: judged(result, 0.8) for name, result in results([f"TS {i}" for i in range(9)]).items()}
    made["TS 6"], made["TS 3"] = judged(made["TS 6"], 0.2), judged(made["TS 3"], 0.3)
    write_report(tmp_path, made, {})
    page.open(tmp_path / "report.html")
    names = page.run(f"{ROWS}.map((r) => r.cells[0].textContent)")
    assert names[:2] == ["TS 6", "TS 3"], "the worst first"
    assert page.run("Array.from(document.querySelectorAll('.card .badge')).length") == 5
    page.follow("#tomograms tbody tr:nth-child(2) td:nth-child(5)")  # a row leads to its tomogram
    title = "document.querySelector('details h2').textContent"
    assert page.run(title) == "TS 3"
    page.follow("nav a[rel=prev]")
    assert page.run(title) == "TS 6"
    assert page.run("document.querySelector('nav a[rel=prev]')") is None
    page.follow("nav a[rel=next]")
    assert page.run(title) == "TS 3"
    assert {(k, s) for k, s in page.run(STATES)} == {(kind, "drawn") for kind in KINDS}
    page.follow("nav a")
    assert page.run(f"{ROWS}.length") == 9


def test_the_overview_sorts_filters_and_its_points_lead_to_tomograms(page: Page, tmp_path: Path) -> None:
    page.open(write_report(tmp_path, results([f"TS {i}" for i in range(8)]), {}))
    column = f"{ROWS}.map((r) => r.cells[6].textContent)"
    page.click("#tomograms thead th:nth-child(7) button")
    values = [float(v.split(" ")[0]) for v in page.run(column)]
    assert values == sorted(values)
    page.click("#tomograms thead th:nth-child(7) button")
    assert [float(v.split(" ")[0]) for v in page.run(column)] == values[::-1]
    page.run("document.getElementById('filter').value = 's 4'")
    page.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
    assert page.run(f"{ROWS}.filter((r) => !r.hidden).map((r) => r.cells[0].textContent)") == ["TS 4"]
    place = page.run(
        """(async () => {
          const figure = document.querySelector("figure[data-kind=agreements]");
          await report.draw(figure);
          figure.scrollIntoView();
          const point = figure.querySelectorAll(".scatterlayer .trace")[1].querySelectorAll("path.point")[2];
          const box = point.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        })()"""
    )
    page.click_at(*place)
    assert page.run("location.hash") == "#tomogram-2"


def judged(result: TomogramResult, agreement: float) -> TomogramResult:
    """The same, better beyond doubt, with another agreement afterwards."""
    evidence = result.statistics.evidence
    assert evidence is not None
    evidence = replace(evidence, gain=400.0, agreement_after=agreement)
    return replace(result, statistics=replace(result.statistics, evidence=evidence))


def test_rows_of_a_picture_go_upwards_as_the_axis_beside_it(drawn: Page) -> None:
    corners = drawn.run(
        """new Promise((done) => {
          const picture = new Image();
          picture.onload = () => {
            const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
            context.drawImage(picture, 0, 0);
            const grey = (x, y) => context.getImageData(x, y, 1, 1).data[0];
            done([grey(0, 0), grey(1, 0), grey(0, 1), grey(1, 1)]);
          };
          picture.src = report.picture({ shape: [2, 2], u8: btoa(String.fromCharCode(10, 20, 30, 40)) });
        })"""
    )
    assert corners == [30, 40, 10, 20]


@pytest.mark.alone
def test_the_overview_of_a_thousand_opens_in_two_seconds(
    page: Page, fleet_report: tuple[Path, list[Path]]
) -> None:
    """At least once in a few times, because other work may keep the processor busy."""
    assert any(page.open(fleet_report[0]) < 2.0 for _ in range(5))
    assert {state for _, state in page.run(STATES)} == {"drawn"}
