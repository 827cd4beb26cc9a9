"""Polishing runs in processes of their own, which can be killed in round 2: see `killable_polish.py`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SCRIPT = Path(__file__).with_name("killable_polish.py")
MOST_SECONDS = 120


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a run in the working directory."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextlib.contextmanager
def at_round_2(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A run whose second round is at the second tomogram; it is killed at the end of the block."""
    process = start(*arguments)
    try:
        end = time.monotonic() + MOST_SECONDS
        while not Path("begun").exists():
            assert time.monotonic() < end
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
