"""Memory limits: refused or respected in a sentence, where native libraries would abort or hang."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from small_project import make_series, make_settings
from tomopolish.errors import RunError
from tomopolish.run import limits, needs
from tomopolish.run.limits import MemoryLimit, cgroup_bytes, memory_limits, threads_that_fit

ALIGN = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report", "--device", "cpu"]


def run_within(address_space: int, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program with a limit of address space in bytes."""
    limited = ["sh", "-c", f'ulimit -v {address_space // 1024}; exec "$@"', "sh"]
    return subprocess.run(
        [*limited, sys.executable, "-m", "tomopolish", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_too_little_for_the_libraries_is_refused_before_they_are_imported(mini: Path, tmp_path: Path) -> None:
    ended = run_within(600_000_000, mini, *ALIGN, "--o", str(tmp_path / "out"))
    assert ended.returncode == 2 and not (tmp_path / "out").exists()
    assert ended.stderr == (
        "tomopolish: the limit of address space (ulimit -v) is 0.6 GB, and the libraries alone take 1.25 GB: "
        "raise it, for example by 'ulimit -v unlimited'\n"
    )
    assert run_within(600_000_000, mini, "align", "--help").returncode == 0


def test_no_more_threads_than_fit_are_used(mini: Path, tmp_path: Path) -> None:
    ended = run_within(1_500_000_000, mini, *ALIGN, "--motion", "--j", "16", "--o", str(tmp_path / "out"))
    assert ended.returncode == 0, ended.stderr
    assert "warning: --j 16 is lowered to 2: the limit of address space (ulimit -v)" in ended.stderr
    assert (tmp_path / "out/particles.star").exists()


def test_threads_and_rooms_follow_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "address_space", lambda: None)
    assert threads_that_fit(64) == 64
    assert [limit.name for limit in memory_limits(64) if "ulimit" in limit.name] == []
    monkeypatch.setattr(limits, "address_space", lambda: 2_000_000_000)
    assert threads_that_fit(64) == 6
    assert threads_that_fit(3) == 3
    lowest = memory_limits(3)[0]
    assert lowest.room_bytes == 465_000_000 and "ulimit -v, 2 GB" in lowest.name


def test_a_tomogram_that_cannot_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    series = make_series(rng, np.zeros((4, 40, 50)))
    settings = make_settings(24, 3)
    least = needs.least_bytes(series, 6, settings)
    assert 4 * (6 * 4 * 7**2 + 2000) <= least <= 4 * (6 * 4 * 20**2 + 2000)
    for room, fits in ((least, True), (least - 1, False)):
        limit = MemoryLimit(room_bytes=room, name="the memory of this machine")
        monkeypatch.setattr(needs, "memory_limits", lambda threads, limit=limit: [limit])
        if fits:
            needs.refuse_beyond_memory(series, 6, settings)
        else:
            with pytest.raises(
                RunError, match=r"it needs at least .* GB .* and the memory of this machine is"
            ):
                needs.refuse_beyond_memory(series, 6, settings)


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/jobs/7/step", {"jobs/7/memory.max": "5000", "jobs/memory.max": "max"}, 5000),
        ("0::/jobs/7", {"jobs/memory.max": "900", "jobs/7/memory.max": "5000"}, 900),
        ("0::/", {"memory.max": "7000"}, 7000),
        ("0::/outside/this/container", {"memory.max": "7000"}, 7000),
        (
            "5:cpu:/a\n4:memory:/slurm/job_3\n0::/",
            {"memory/slurm/job_3/memory.limit_in_bytes": "800", "cpu/a/memory.max": "1"},
            800,
        ),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ("0::/", {}, None),
    ],
)
def test_the_lowest_limit_of_all_control_groups_counts(
    groups: str, files: dict[str, str], expected: int | None, tmp_path: Path
) -> None:
    (tmp_path / "self").write_text(groups + "\n")
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert cgroup_bytes(tmp_path / "self", tmp_path / "cgroup") == expected
    assert cgroup_bytes(tmp_path / "none", tmp_path / "cgroup") is None
