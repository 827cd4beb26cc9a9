"""Many random files for the STAR and MRC readers.

python benchmarks/fuzz.py --cases 100000

Exits with a traceback, and the smallest bytes that show it, when anything but the clean error comes out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "fuzz"))

from readers import mrc_bytes, star_bytes, survive_mrc, survive_star


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    cases = parser.parse_args().cases
    profile = settings(
        max_examples=cases // 2,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    tried: Counter[str] = Counter()

    @profile
    @given(star_bytes())
    def star(content: bytes) -> None:
        tried[f"star {survive_star(content)}"] += 1

    @profile
    @given(mrc_bytes())
    def mrc(content: bytes) -> None:
        tried[f"mrc {survive_mrc(content)}"] += 1

    start = time.perf_counter()
    star()
    mrc()
    print(f"{tried.total()} cases, {time.perf_counter() - start:.0f} s, no crash")
    for outcome, count in sorted(tried.items()):
        print(f"{outcome}: {count}")


if __name__ == "__main__":
    main()
