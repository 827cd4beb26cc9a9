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
SCORED = with_scores(make_result(2), FALSE)
WITH_ALL = with_joint(with_scores(MOVING, FALSE))


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """The browser, which one page after the other is opened in."""
    with Page() as page:
        yield page
        assert page.requests


@pytest.fixture(autouse=True)
def nothing_is_logged_or_fetched(page: Page) -> Iterator[None]:
    """Whatever a test does in the browser, nothing may be logged, or asked of a network."""
    page.console.clear()
    yield
    assert page.console == []
    assert not [url for url in page.requests if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture(scope="module")
def drawn(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page on a narrow screen, all figures of which have been drawn."""
    folder = tmp_path_factory.mktemp("drawn")
    page.resize(500, 900)
    page.open(write_report(folder, {"TS_1": WITH_ALL}, {"TS_2": "no images"}, make_maps()))
    page.run(STATES)
    return page


def check_figures(page: Page, kinds: set[str]) -> None:
    """Draw all figures of a page; check their kinds, that they show something, and are described."""
    states = page.run(STATES)
    assert {state for _, state in states} == {"drawn"}
    assert {kind for kind, _ in states} == kinds
    have_plots = page.run(
        "report.figures().map((f) => f.querySelectorAll('.canvas .main-svg').length > 0"
        " && f.querySelector('.canvas').getBoundingClientRect().height > 100)"
    )
    assert all(have_plots)
    canvases = "Array.from(document.querySelectorAll('.canvas'))"
    assert all(page.run(f"{canvases}.map((c) => c.getAttribute('aria-label'))"))


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


def test_titles_stay_apart_on_narrow_screens(drawn: Page) -> None:
    assert drawn.run(OVERLAPS) == []
    assert drawn.run("document.documentElement.scrollWidth") <= 500
    drawn.resize(1200, 900)


def test_every_figure_is_drawn_and_follows_its_controls(drawn: Page) -> None:
    drawn.resize(1200, 900)
    check_figures(drawn, KINDS | {"warp", "scores", "optics", "turns", "fsc", "slices"})
    buttons = drawn.run("Array.from(document.querySelectorAll('.modebar-btn')).map((b) => b.dataset.title)")
    assert "Download plot as a PNG" in buttons
    assert not [title for title in buttons if "share" in title.lower()]
    moved = drawn.run(
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
          const [tilt, times] = figure.querySelectorAll("input[type=range]");
          tilt.value = 0;  // the first by exposure
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


def test_a_page_prints_completely_wherever_its_reader_has_been(page: Page, tmp_path: Path) -> None:
    page.open(write_report(tmp_path, {"TS_1": SCORED, "TS_2": WITH_ALL}, {}))
    page.run(
        """window.addEventListener("beforeprint", () => {
          const svgs = report.figures().map((f) => f.querySelector(".main-svg"));
          const widths = svgs.map((svg) => svg.getBoundingClientRect().width);
          const photographs = Array.from(document.querySelectorAll(".photograph"));
          const inks = photographs.map((canvas) => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((v, i) => i % 4 === 3 && v > 0).length;
          });
          const closed = document.querySelectorAll("details.tomogram:not([open])").length;
          window.during = [widths, inks, closed];
        })"""
    )
    pdf = page.pdf()  # nothing has been seen, and the second tomogram is folded
    assert max(int(count) for count in re.findall(rb"/Count (\d+)", pdf)) > 8
    assert pdf.count(b"/Subtype /Image") >= 6, "windows and 3D of both tomograms"
    during = page.run("window.during")
    after = page.run(
        "['.photograph', 'details.tomogram:not([open])'].map((s) => document.querySelectorAll(s).length)"
    )
    assert min(during[0]) > 600 and max(during[0]) <= 700
    assert len(during[1]) == 2 and min(during[1]) > 1000, "each 3D figure is an image with something on it"
    assert [during[2], *after] == [0, 0, 1]


def test_names_never_become_code_or_markup(page: Page, tmp_path: Path) -> None:
    names = ['<a href="https://x.y">z</a>', "".join(HOSTILE[:4])]
    made = results(names, motion=True)
    made[names[1]] = make_result(3, tilts=1, particles=1, seen=0.0, name=names[1])  # nothing is visible in it
    page.open(write_report(tmp_path, made, {HOSTILE[1]: HOSTILE[0]}))
    check_figures(page, KINDS | {"agreements", "gains", "changes"})
    assert page.run("window.hacked") is None
    assert sorted(
        page.run("Array.from(document.querySelectorAll('details h2')).map((h) => h.textContent)")
    ) == sorted(names)
    label = page.run(
        """(() => {
          const canvas = Array.from(document.querySelectorAll("figure[data-kind=vectors] .canvas"))
            .find((c) => c.data[0].text[0]?.includes("href"));
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


@pytest.fixture(scope="module")
def eight(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A page with eight tomograms."""
    folder = tmp_path_factory.mktemp("eight")
    page.open(write_report(folder, results([f"TS {i}" for i in range(8)]), {}))
    return page


def test_figures_are_drawn_when_they_come_into_view(eight: Page) -> None:
    assert eight.run(
        """new Promise((done) => {
          document.querySelectorAll("#tomograms a")[1].click();  // opens the second tomogram, and goes there
          const figure = document.querySelector("#tomogram-1 figure");
          const look = () => (figure.dataset.state === "drawn" ? done(true) : setTimeout(look, 50));
          setTimeout(() => { figure.scrollIntoView(); look(); }, 50);
          setTimeout(() => done(false), 20000);
        })"""
    )


def test_the_overview_sorts_filters_and_its_points_lead_to_tomograms(eight: Page) -> None:
    column = f"{ROWS}.map((r) => r.cells[6].textContent)"
    eight.click("#tomograms thead th:nth-child(7) button")
    values = [float(v.split(" ")[0]) for v in eight.run(column)]
    assert values == sorted(values)
    eight.click("#tomograms thead th:nth-child(7) button")
    assert [float(v.split(" ")[0]) for v in eight.run(column)] == values[::-1]
    eight.run("document.getElementById('filter').value = 's 4'")
    eight.run("document.getElementById('filter').dispatchEvent(new Event('input'))")
    assert eight.run(f"{ROWS}.filter((r) => !r.hidden).map((r) => r.cells[0].textContent)") == ["TS 4"]
    place = eight.run(
        """(async () => {
          const figure = document.querySelector("figure[data-kind=agreements]");
          await report.draw(figure);
          figure.scrollIntoView();
          const point = figure.querySelectorAll(".scatterlayer .trace")[1].querySelectorAll("path.point")[2];
          const box = point.getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        })()"""
    )
    eight.click_at(*place)
    assert eight.run("location.hash") == "#tomogram-2"


def judged(result: TomogramResult, agreement: float) -> TomogramResult:
    """The same, better beyond doubt, with another agreement afterwards."""
    evidence = result.statistics.evidence
    assert evidence is not None
    evidence = replace(evidence, gain=400.0, agreement_after=agreement)
    return replace(result, statistics=replace(result.statistics, evidence=evidence))


@pytest.mark.alone
def test_the_overview_of_a_thousand_opens_in_two_seconds(
    page: Page, fleet_report: tuple[Path, list[Path]]
) -> None:
    """At least once in a few times, because other work may keep the processor busy."""
    assert any(page.open(fleet_report[0]) < 2.0 for _ in range(5))
    assert {state for _, state in page.run(STATES)} == {"drawn"}
