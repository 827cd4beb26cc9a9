"""Many damaged files for the STAR and MRC readers.

python benchmarks/fuzz.py --cases 100000

Most are the files of a sound project with up to three changes that know how such files are made, used as a
run uses them: opened, checked, loaded, read, written and read again. One in ten is made up.
Exits with a traceback, and the smallest changes that show it, when anything but the clean error comes out.
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

from mutations import CHANGES, Change, change_mrc, change_star
from readers import mrc_bytes, star_bytes, survive_mrc, survive_star
from sound_project import IMAGES, STARS, SoundProject

AT_A_TIME = 5000
"""Cases that one search of Hypothesis tries: it remembers all that it has tried, and slows down."""


def search(cases: int, number: int, strategies: dict[str, st.SearchStrategy], try_one: Callable) -> None:
    """Try so many cases, in searches of their own."""
    for start in range(0, cases, AT_A_TIME):
        profile = settings(
            max_examples=min(AT_A_TIME, cases - start),
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        seed(number + start)(profile(given(**strategies)(try_one)))()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="other cases than those of another number")
    arguments = parser.parse_args()
    cases, number = arguments.cases, 10_000_000 * arguments.seed
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        project = SoundProject(Path(folder) / "project")

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

        start = time.perf_counter()
        stars = {"name": st.sampled_from(STARS), "changes": CHANGES}
        images = {"name": st.sampled_from(IMAGES), "changes": CHANGES}
        search(cases * 6 // 10, number, stars, changed_star)
        search(cases * 3 // 10, number + 1, images, changed_image)
        search(cases // 20, number + 2, {"content": star_bytes()}, star)
        search(cases // 20, number + 3, {"content": mrc_bytes()}, mrc)
    print(f"{tried.total()} cases, {time.perf_counter() - start:.0f} s, no crash")
    for outcome, count in sorted(tried.items()):
        print(f"{outcome}: {count}")


if __name__ == "__main__":
    main()
