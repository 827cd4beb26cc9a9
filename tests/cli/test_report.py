"""Every run leaves a report, unless it is told not to or cannot; it can be written again from the results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tomopolish.cli import run

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--o", "out"]


def test_a_run_leaves_a_report_that_can_be_written_again(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = project / "out" / "report.html"
    assert run([*ALIGN, "--it", "1"]) == 0
    assert "Report: out/report.html" in capsys.readouterr().out
    written = report.read_text()
    first_screen = written.split('id="overview"')[0]
    for text in ("TS_01", "TS_02", "tomopolish align --i optimisation_set.star"):
        assert text in written
    listed = first_screen.split('id="warnings"')[1]
    for name in ("TS_01", "TS_02"):
        assert f"{name} had not converged" in listed, "warnings are below the verdict"
    report.unlink()
    assert run(["report", "out"]) == 0
    assert report.read_text() == written
    record = project / "out" / "temp" / "run.json"
    content = json.loads(record.read_text())
    assert [w.split(" had")[0] for w in content["warnings"]] == ["TS_01", "TS_02"]
    record.write_text(json.dumps(content | {"warnings": ["a warning of the run", *content["warnings"]]}))
    assert run(["report", "out"]) == 0
    assert report.read_text().count("a warning of the run") == 1
    assert report.read_text().count("TS_01 had not converged") == written.count("TS_01 had not converged")
    (project / "out" / "temp" / "run.json").unlink()  # a run that did not end has no list of its tomograms
    assert run(["report", "out"]) == 0
    for text in ("TS_01", "TS_02", "out/optimisation_set.star"):
        assert text in report.read_text()

    again = [*ALIGN, "--only_do_unfinished"]
    assert run([*again, "--no_report"]) == 0
    assert not report.exists(), "the report of an earlier run would contradict the results"
    assert "Report: " not in capsys.readouterr().out.split("Refined sets: ")[1]

    monkeypatch.setitem(sys.modules, "plotly", None)
    assert run(again) == 0
    assert not report.exists()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "report" in line]
    assert line == ("warning: report.html was left out: it needs plotly: pip install 'tomopolish[report]'")
    assert run(["report", "out"]) == 1
    assert "pip install" in capsys.readouterr().err


def test_a_folder_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", str(tmp_path)]) == 2
    assert "contains no results" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
