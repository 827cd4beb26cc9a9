"""The pages themselves: one file or linked pages, hostile names, sizes, missing libraries."""

from __future__ import annotations

import re
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from made_results import make_maps, make_result, with_scores

from tomopolish.dataset.alignment_errors import WEAK_FACTOR
from tomopolish.dataset.scores import SHOWS_NOTHING
from tomopolish.errors import RunError
from tomopolish.output.report import page
from tomopolish.output.report.gather import MOST_PARTICLES
from tomopolish.results.doubts import MIRRORED, SENTENCES
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.commands.report import ALL_IN_ONE, is_page, write_report
from tomopolish.run.folder.guard import Guard
from tomopolish.run.folder.output import own_folder

HOSTILE = (
    "<script>window.hacked = 1</script>",
    '"><img src=x onerror="window.hacked=2">',
    "</script><script>window.hacked=3</script>",
    "../../escape",
    "javascript:window.hacked=4",
    "{{ 7 * 7 }}",
    "TS\udcff\u2028 01",
)


def results(names: list[str] | tuple[str, ...], **options: bool) -> dict[str, TomogramResult]:
    return {name: make_result(i, tilts=3, particles=4, name=name, **options) for i, name in enumerate(names)}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def without_plotly(text: str) -> str:
    return text.replace(page._plotly(), "")


def test_a_few_tomograms_make_one_file(tmp_path: Path) -> None:
    names = [f"TS_{i}" for i in range(ALL_IN_ONE)]
    path = write_report(tmp_path, results(names), {"TS_bad": "no image"})
    assert path == tmp_path / "report.html"
    assert [p.name for p in tmp_path.rglob("*")] == ["report.html"]
    text = text_of(path)
    assert page._plotly() in text
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="', without_plotly(text))
    for name in names:
        (number,) = set(re.findall(rf'<a href="#tomogram-(\d)">{name}</a>', text))
        assert f'<details class="tomogram" id="tomogram-{number}"' in text
        assert re.search(rf'id="tomogram-{number}"[^>]*>\n<summary><h2>{name}</h2>', text)
    assert "TS_bad" in text and "no image" in text
    assert "something is odd" in text


def test_many_tomograms_have_pages_of_their_own(tmp_path: Path) -> None:
    names = [f"TS_{i}" for i in range(ALL_IN_ONE)] + ["a/b", "A/B"]
    text = text_of(write_report(tmp_path, results(names), {}))
    links = re.findall(r'<a href="(report/[^"]+)">', text)
    assert len(set(links)) == len(names)
    assert {str(p.relative_to(tmp_path)) for p in (tmp_path / "report").iterdir()} == {
        "report/plotly.min.js",
        *links,
    }
    assert '<details class="tomogram"' not in text
    for link in links:
        one = text_of(tmp_path / link)
        assert '<script src="plotly.min.js"></script>' in one
        assert '<a href="../report.html">' in one
        assert len(one) < 200_000


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    for folder, names in (("few", HOSTILE), ("many", (*HOSTILE, "a", "b", "c"))):
        out = tmp_path / folder / "out"
        write_report(out, results(names), {HOSTILE[0]: HOSTILE[1]})
        for path in out.rglob("*.html"):
            text = without_plotly(text_of(path))
            assert (
                "<script>window" not in text and "<img" not in text and re.findall(r"\{\{|49$", text) != "49"
            )
            assert not re.search(r'href="(javascript:|\.\./\.\./)', text)
        assert escape(HOSTILE[0]) in text_of(out / "report.html")
        assert "{{ 7 * 7 }}" in text_of(out / "report.html")
        assert {p.parent.name for p in (tmp_path / folder).rglob("*") if p.is_file()} <= {"out", "report"}


def test_the_overview_of_a_thousand_is_small(fleet_report: tuple[Path, list[Path]]) -> None:
    path, pages = fleet_report
    assert len(set(pages)) == 1000
    assert path.stat().st_size < 20e6
    table = text_of(path).split('<table id="tomograms"')[1].split("</table>")[0]
    assert table.count('<tr><th scope="row"><a href="report/TS_') == 1000


def test_its_page_of_documentation_states_the_limits_that_hold() -> None:
    text = " ".join((Path(__file__).parents[3] / "docs" / "report.md").read_text(encoding="utf-8").split())
    assert f"With up to {ALL_IN_ONE} tomograms, everything is in that one file" in text
    assert f"The figures show at most {MOST_PARTICLES:,} particles of a tomogram" in text
    assert f"(standard error {WEAK_FACTOR:g} times the median's or more)" in text


def doubted(result: TomogramResult, *doubts: str) -> TomogramResult:
    evidence = result.statistics.evidence
    assert evidence is not None
    figures = replace(result.statistics, evidence=replace(evidence, doubts=doubts))
    return replace(result, statistics=figures)


def test_a_run_that_cannot_be_judged_is_amber_with_cause_and_remedy(tmp_path: Path) -> None:
    made = results(["TS_0", "TS_1", "TS_2", "TS_3", "TS_4"])
    some = {**made, "TS_1": doubted(made["TS_1"], MIRRORED)}
    text = text_of(write_report(tmp_path, some, {}))
    assert 'class="verdict helped">The refinement helped' in text
    assert ", 1 cannot be judged: TS_1." in text
    assert '<td class="not-judged">not judged</td>' in text
    assert '<span class="badge not-judged">not judged</span>' in text
    for part in SENTENCES[MIRRORED].split(". "):
        assert text.count(part) == 1
    all_of_them = {name: doubted(result, MIRRORED) for name, result in made.items()}
    text = text_of(write_report(tmp_path, all_of_them, {}))
    assert 'class="verdict doubtful">Whether it helped cannot be judged: a mirror' in text
    assert "improved significantly" not in text and 'class="verdict helped"' not in text


def test_flags_of_the_scores_are_counted_and_listed(tmp_path: Path) -> None:
    (result,) = results(["TS"]).values()
    text = text_of(write_report(tmp_path, {"TS": with_scores(result, {1: (SHOWS_NOTHING, 0.03)})}, {}))
    assert f"<td>{SHOWS_NOTHING}</td><td>0.030</td>" in text
    assert 'data-kind="scores"' in text
    assert "<td>4</td><td>1</td>" in text
    unscored = text_of(write_report(tmp_path, {"TS": result}, {}))
    assert "<td>4</td><td>–</td>" in unscored and 'data-kind="scores"' not in unscored


def test_pages_of_an_earlier_report_go_and_other_files_stay(tmp_path: Path) -> None:
    def write(count: int) -> None:
        with (
            own_folder(Guard(folder=tmp_path, shown="out", command="align"), ["align"]) as out,
            out.new_files(obsolete=is_page) as new,
        ):
            write_report(new, results([f"TS_{i}" for i in range(count)]), {})

    write(ALL_IN_ONE + 1)
    mine = tmp_path / "report" / "notes.html"
    mine.write_text("<html>my own</html>")
    write(1)
    assert {p.name for p in tmp_path.rglob("*.html")} == {"report.html", "notes.html"}


@pytest.mark.parametrize("library", ["plotly", "jinja2"])
def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(RunError, match=f"it needs {library}: pip install"):
        write_report(tmp_path, results(["TS"]), {})
    assert not list(tmp_path.iterdir())


def test_without_evidence_the_report_says_what_its_figure_is_worth(tmp_path: Path) -> None:
    (result,) = results(["TS"]).values()
    plain = {"TS": replace(result, statistics=replace(result.statistics, evidence=None))}
    text = text_of(write_report(tmp_path, plain, {}))
    assert "Whether the refinement helped was not tested." in text
    assert "which a fit to noise also achieves" in text
    compared = text_of(write_report(tmp_path, plain, {}, make_maps()))
    assert "Half maps reach 8.00 Å" in compared
    assert "refinement, masked: 0.143 at 12.0 Å before, 8.00 Å after." in compared
    helped = text_of(write_report(tmp_path, results([f"TS_{i}" for i in range(5)]), {}))
    assert 'class="verdict helped">The refinement helped' in helped
