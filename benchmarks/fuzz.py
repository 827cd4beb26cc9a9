"""Many damaged files for the readers, and whole runs with them.

python benchmarks/fuzz.py --cases 100000 --runs 5000

Most cases are the files of a sound project with up to three changes that know how such files are made, used
as a run uses them: opened, checked, loaded, read, written and read again. One in ten is made up. One in ten
is a stored result. A run refines the project with one of its files changed, by various options, and must end
in sets that can be read and hold no number that is none, or in a sentence.
When anything else comes out, it is shown at the end: by the place in the code, with the shortest changes that
led there and a traceback; the exit status is 1 then.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fuzz"))

from mutations import CHANGES, Change, change_archive, change_mrc, change_result, change_star
from readers import mrc_bytes, star_bytes, survive_mrc, survive_result, survive_star
from sound_project import IMAGES, STARS, SoundProject
from whole_run import FILES, OPTIONS, WholeRuns

MOST_BYTES = 6 * 2**30
"""Of address space, of which libraries take more than one; a case that needs more is a fault."""

MOST_SECONDS = 120.0
"""Of one case; where one that takes longer spends its time is shown while it lasts."""

AT_A_TIME = 5000
"""Cases that one search of Hypothesis tries: it remembers all that it has tried, and slows down."""


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Counts of what became of cases, and the faults: place in the code → shortest case and its traceback."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, tuple[str, str]] = field(default_factory=dict)

    def count(self, outcome: str) -> None:
        """Count one case that ended as it should."""
        self.counts[outcome] += 1

    def note(self, case: str, error: Exception) -> None:
        """Note a fault, unless a shorter case has led to the same place; the search continues."""
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{type(error).__name__} in {Path(frames[-1].filename).name}, line {frames[-1].lineno}"
        if len(case) < len(self.faults.get(place, (case + " ", ""))[0]):
            self.faults[place] = (case, "".join(traceback.format_exception(error)))
        self.count(f"FAULT: {place}")


def search(
    cases: int,
    number: int,
    strategies: dict[str, st.SearchStrategy],
    try_one: Callable[..., str],
    outcomes: Outcomes,
) -> None:
    """Try so many cases, in searches of their own; `try_one` returns how one ended."""

    def noted(**case: Any) -> None:
        faulthandler.dump_traceback_later(MOST_SECONDS, repeat=True)
        try:
            outcomes.count(try_one(**case))
        except Exception as error:
            outcomes.note(f"{try_one.__name__}{case}", error)
        finally:
            faulthandler.cancel_dump_traceback_later()

    for start in range(0, cases, AT_A_TIME):
        profile = settings(
            max_examples=min(AT_A_TIME, cases - start),
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        seed(number + start)(profile(given(**strategies)(noted)))()


def search_files(cases: int, number: int, project: SoundProject, outcomes: Outcomes) -> None:
    """Try the readers on changed and made-up files."""

    def changed_star(name: str, changes: list[Change]) -> str:
        content = change_star(project.contents[name], changes)
        return f"changed STAR file: {project.survive(name, content)}"

    def changed_image(name: str, changes: list[Change]) -> str:
        content = change_mrc(project.contents[name], changes)
        return f"changed MRC file: {project.survive(name, content)}"

    def star(content: bytes) -> str:
        return f"made-up STAR file, accepted by {survive_star(content).count('+')} readers"

    def mrc(content: bytes) -> str:
        return f"made-up MRC file, accepted by {survive_mrc(content).count('+')} readers"

    stars = {"name": st.sampled_from(STARS), "changes": CHANGES}
    images = {"name": st.sampled_from(IMAGES), "changes": CHANGES}
    search(cases * 55 // 100, number, stars, changed_star, outcomes)
    search(cases * 25 // 100, number + 1, images, changed_image, outcomes)
    search(cases // 20, number + 2, {"content": star_bytes()}, star, outcomes)
    search(cases // 20, number + 3, {"content": mrc_bytes()}, mrc, outcomes)


def search_runs(cases: int, runs: int, number: int, refined: WholeRuns, outcomes: Outcomes) -> None:
    """Try stored results, and whole runs."""

    def result(changes: list[Change], corrected: bool) -> str:
        change = change_result if corrected else change_archive
        return f"changed result: {survive_result(change(refined.result, changes))}"

    def whole_run(name: str, changes: list[Change], options: tuple[str, ...]) -> str:
        return f"whole run: {refined.survive(name, changes, options)}"

    results = {"changes": CHANGES, "corrected": st.booleans()}
    search(cases // 10, number + 4, results, result, outcomes)
    whole = {"name": st.sampled_from(FILES), "changes": CHANGES, "options": st.sampled_from(OPTIONS)}
    search(runs, number + 5, whole, whole_run, outcomes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="files")
    parser.add_argument("--runs", type=int, default=5_000, help="whole runs")
    parser.add_argument("--seed", type=int, default=0, help="other cases than those of another number")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    outcomes = Outcomes()
    start, number = time.process_time(), 10_000_000 * arguments.seed
    with tempfile.TemporaryDirectory() as folder:
        search_files(arguments.cases, number, SoundProject(Path(folder) / "project"), outcomes)
        refined = WholeRuns(Path(folder) / "runs")
        search_runs(arguments.cases, arguments.runs, number, refined, outcomes)
    for outcome, count in sorted(outcomes.counts.items()):
        print(f"{outcome}: {count}")
    for place, (case, text) in outcomes.faults.items():
        print(f"\n{place}: {case}\n{text}")
    seconds = time.process_time() - start
    print(f"{outcomes.counts.total()} cases, {seconds:.0f} s of one core, {len(outcomes.faults)} faults")
    sys.exit(bool(outcomes.faults))


if __name__ == "__main__":
    main()
