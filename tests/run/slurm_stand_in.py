"""Commands of Slurm that run a job's script on this machine at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_SBATCH = """#!/bin/bash
set -e
cd {folder}
number=1
while ! mkdir "$number.taken" 2> /dev/null; do number=$((number + 1)); done
cp "${{@: -1}}" "$number.script"
sleep {seconds}
cd {working_directory}
SLURM_JOB_ID=$number setsid bash {folder}/$number.script > {folder}/$number.out 2>&1 < /dev/null &
echo $! > {folder}/$number.pid
echo "Submitted batch job $number"
"""
_SCANCEL = """#!/bin/bash
sleep {seconds}
cd {folder}
case "$1" in
    --name=*) set -- $(grep -lx -e "#SBATCH -J ${{1#--name=}}" *.script | sed 's/[.]script//') ;;
esac
for number in "$@"; do
    echo $number >> {folder}/cancelled
    kill -- -$(cat {folder}/$number.pid 2> /dev/null) 2> /dev/null || true
done
"""
_SQUEUE = """#!/bin/bash
cd {folder}
for job in *.pid; do
    kill -0 -- -$(cat $job) 2> /dev/null && echo ${{job%.pid}}
done
exit 0
"""
_REFUSING = """#!/bin/bash
cd {folder}
echo asked >> submissions
if mkdir refused 2> /dev/null || [ {accepts_rest} = no ]; then
    echo "sbatch: error: invalid partition specified: none" >&2
    exit 1
fi
sleep {seconds}
echo "Submitted batch job 7"
"""


class SlurmStandIn:
    """A folder with the commands, and what became of the jobs."""

    def __init__(
        self, folder: Path, *, refuses: bool = False, accepts_rest: bool = False, seconds: float = 0
    ) -> None:
        """`refuses`: every job, or with `accepts_rest` the first. What it does otherwise takes `seconds`."""
        self.commands, self._jobs = folder / "bin", folder / "jobs"
        for made in (self.commands, self._jobs):
            made.mkdir(parents=True)
        texts = {"sbatch": _REFUSING if refuses else _SBATCH, "scancel": _SCANCEL, "squeue": _SQUEUE}
        for name, text in texts.items():
            path = self.commands / name
            rest, here = "yes" if accepts_rest else "no", Path.cwd()
            path.write_text(
                text.format(folder=self._jobs, working_directory=here, accepts_rest=rest, seconds=seconds)
            )
            path.chmod(0o755)

    @property
    def scripts(self) -> list[str]:
        """The scripts of the jobs."""
        return [path.read_text() for path in sorted(self._jobs.glob("*.script"))]

    @property
    def output(self) -> str:
        """What the jobs printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._jobs.glob("*.out")))

    @property
    def submissions(self) -> int:
        """How often a stand-in that refuses was asked to take a job."""
        return len((self._jobs / "submissions").read_text().split())

    @property
    def cancelled(self) -> list[str]:
        """Numbers of the jobs that were given back."""
        path = self._jobs / "cancelled"
        return sorted(path.read_text().split()) if path.exists() else []

    def being_taken(self) -> int:
        """Number of jobs that are submitted or accepted."""
        return len(list(self._jobs.glob("*.script")))

    def all_ended(self, seconds: float = 20.0) -> bool:
        """Whether the processes of all submitted jobs begin, and end, within a time."""
        end = time.monotonic() + seconds
        while len(self._groups()) < self.being_taken() or any(map(_lives, self._groups())):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def end(self) -> None:
        """End what still runs."""
        for group in self._groups():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def _groups(self) -> list[int]:
        return [int(text) for path in self._jobs.glob("*.pid") if (text := path.read_text())]


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
