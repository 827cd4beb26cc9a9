"""Processes that are asked to end, at any moment and whatever they are doing: real processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BEGIN = """
import hashlib, os, signal, sys, time
from tomopolish.run import signals
signals.SECONDS_TO_END = 1.0
def last_act(asked):
    print("last act", asked.number, flush=True)
def ready():
    print("ready", flush=True)
with signals.ending_in_order(last_act, own_process=True) as ending:
    try:
        with ending.raising():
"""
END = """
    except KeyboardInterrupt as error:
        print("in order", flush=True)
        status = error.status
sys.exit(status)
"""
NATIVE = """
            ready()
            hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # does not come back to Python for minutes
"""
SWALLOWS = """
            ready()
            try:
                time.sleep(60)
            except BaseException:
                pass
            signals.raise_if_asked_to_end()
            time.sleep(60)
"""
PYTHON = """
            ready()
            time.sleep(60)
"""
SLOW_END = """
            try:
                ready()
                time.sleep(60)
            finally:
                with signals.ending_may_take(3):
                    time.sleep(1.5)
"""
IN_THE_LAST_MOMENT = """
            import atexit
            atexit.register(lambda: (ready(), time.sleep(60)))
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(60)
"""


def start(body: str) -> subprocess.Popen[str]:
    """Start a process that waits for signals, and return it once it is ready for them."""
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + body + END],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    while "ready" not in process.stdout.readline():
        assert process.poll() is None
    time.sleep(0.3)  # it goes from its last line of output to what it does next
    return process


@pytest.mark.parametrize(
    ("body", "lines", "error"),
    [
        (PYTHON, ["in order"], ""),
        (SWALLOWS, ["in order"], ""),
        (SLOW_END, ["in order"], ""),
        (NATIVE, ["last act 15"], "terminated, but its work did not stop within 1 s: ended at once\n"),
    ],
    ids=["python", "swallows", "slow end", "native"],
)
def test_a_process_ends_soon_after_it_is_asked_to(body: str, lines: list[str], error: str) -> None:
    process = start(body)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=20)
    assert process.returncode == 143
    assert out.splitlines() == lines
    assert errors == (f"tomopolish: {error}" if error else "")


def test_a_second_request_ends_a_process_at_once_but_not_one_that_came_twice() -> None:
    process = start(NATIVE.replace("ready()", "signals.SECONDS_TO_END = ending.seconds_to_end = 60; ready()"))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # as from the terminal and from a wrapper
    time.sleep(0.8)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "asked again" in errors and "last act 2" in out


def test_a_process_that_hangs_while_the_interpreter_ends_is_ended() -> None:
    process = start(IN_THE_LAST_MOMENT)
    process.communicate(timeout=20)
    assert process.returncode in (129, -signal.SIGALRM)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(PYTHON)
    finally:
        signal.signal(signal.SIGHUP, before)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


def test_signals_while_a_run_starts_end_it(mini: Path, tmp_path: Path) -> None:
    draw = random.Random(11)
    command = ["align", "--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report", "--o"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) * 2:
        process = subprocess.Popen(
            [sys.executable, "-m", "tomopolish", *command, str(tmp_path)],
            cwd=mini,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(draw.uniform(0.2, 1.2))
        process.send_signal(number)
        asked = time.monotonic()
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - asked < 8
        assert process.returncode in (0, 128 + number, -number)
        # The interpreter prints a traceback itself where Ctrl-C comes before the program's first line.
        assert "Traceback" not in errors or process.returncode == -number


HALF_MADE = """
import os, signal, sys, time
from tomopolish import cli
class Half:
    def __del__(self):
        os.write(1, b"taken apart")
class Commands:
    def main(self, *arguments, **options):
        half = Half()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
cli.COMMANDS = Commands()
sys.argv = ["tomopolish", "align"]
cli.main()
"""


def test_what_a_library_had_half_made_is_not_taken_apart() -> None:
    """LLVM crashes on a module whose compilation a signal interrupted, when Python disposes of it."""
    command = [sys.executable, "-c", HALF_MADE]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 143 and "terminated" in ended.stderr
    assert ended.stdout == ""
