"""Many damaged files for the readers, and whole runs with them.

python benchmarks/fuzz.py --cases 100000 --runs 5000

Most cases are the files of a sound project with up to three changes that know how such files are made, used
as a run uses them: opened, checked, loaded, read, written and read again. One in ten is made up. One in ten
is a stored result. A run refines the project with one of its files changed, by various options, and must end
in sets that can be read and hold no number that is none, or in a sentence.
Exits with a traceback, and the smallest changes that show it, when anything else comes out.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fuzz"))

from mutations import CHANGES, Change, change_archive, change_mrc, change_star
from readers import mrc_bytes, star_bytes, survive_mrc, survive_result, survive_star
from sound_project import IMAGES, STARS, SoundProject
from whole_run import FILES, OPTIONS, WholeRuns

AT_A_TIME = 5000
"""Cases that one search of Hypothesis tries: it remembers all that it has tried, and slows down."""


def search(cases: int, number: int, strategies: dict[str, st.SearchStrategy], try_one: Callable) -> None:
    """Try so many cases, in searches of their own."""
    for start in range(0, cases, AT_A_TIME):
        profile = settings(
            max_examples=min(AT_A_TIME, cases - start),
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        seed(number + start)(profile(given(**strategies)(try_one)))()


def search_files(cases: int, number: int, project: SoundProject, tried: Counter[str]) -> None:
    """Try the readers on changed and made-up files."""

    def changed_star(name: str, changes: list[Change]) -> None:
        content = change_star(project.contents[name], changes)
        tried[f"changed STAR file: {project.survive(name, content)}"] += 1

    def changed_image(name: str, changes: list[Change]) -> None:
        content = change_mrc(project.contents[name], changes)
        tried[f"changed MRC file: {project.survive(name, content)}"] += 1

    def star(content: bytes) -> None:
        tried[f"made-up STAR file, accepted by {survive_star(content).count('+')} readers"] += 1

    def mrc(content: bytes) -> None:
        tried[f"made-up MRC file, accepted by {survive_mrc(content).count('+')} readers"] += 1

    stars = {"name": st.sampled_from(STARS), "changes": CHANGES}
    images = {"name": st.sampled_from(IMAGES), "changes": CHANGES}
    search(cases * 55 // 100, number, stars, changed_star)
    search(cases * 25 // 100, number + 1, images, changed_image)
    search(cases // 20, number + 2, {"content": star_bytes()}, star)
    search(cases // 20, number + 3, {"content": mrc_bytes()}, mrc)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="files")
    parser.add_argument("--runs", type=int, default=5_000, help="whole runs")
    parser.add_argument("--seed", type=int, default=0, help="other cases than those of another number")
    arguments = parser.parse_args()
    cases, number = arguments.cases, 10_000_000 * arguments.seed
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        search_files(cases, number, SoundProject(Path(folder) / "project"), tried)
        runs = WholeRuns(Path(folder) / "runs")

        def result(changes: list[Change]) -> None:
            tried[f"changed result: {survive_result(change_archive(runs.result, changes))}"] += 1

        def whole_run(name: str, changes: list[Change], options: tuple[str, ...]) -> None:
            tried[f"whole run: {runs.survive(name, changes, options)}"] += 1

        search(cases // 10, number + 4, {"changes": CHANGES}, result)
        print(f"{tried.total()} files, {time.process_time() - start:.0f} s of one core, no crash", flush=True)
        start = time.process_time()
        whole = {"name": st.sampled_from(FILES), "changes": CHANGES, "options": st.sampled_from(OPTIONS)}
        search(arguments.runs, number + 5, whole, whole_run)
        print(f"{arguments.runs} runs, {time.process_time() - start:.0f} s of one core, no fault")
    for outcome, count in sorted(tried.items()):
        print(f"{outcome}: {count}")


if __name__ == "__main__":
    main()
