"""Where machine code is kept between runs: with the package or, where that cannot be written, the user."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tomopolish import locks
from tomopolish.compiled import machine_code
from tomopolish.compiled.machine_code import Code

LONGEST_COMPILATION_S = 60
"""After that whoever compiles a kernel is waited for no more."""

FORMAT = 3
"""Changes with everything about the files but the code that was compiled."""


def folders() -> list[Path]:
    """Return where kept code is looked for; it is written to the first that can be."""
    chosen, caches = (os.environ.get(name) for name in ("TOMOPOLISH_CACHE_DIR", "XDG_CACHE_HOME"))
    if chosen:
        return [Path(chosen)]
    found = [Path(__file__).parents[1] / "__pycache__" / "kernels"]
    with contextlib.suppress(RuntimeError):  # some have no home
        found.append((Path(caches) if caches else Path.home() / ".cache") / "tomopolish" / "kernels")
    return found


def name_of(kernel: str, parts: Sequence[tuple[str, str, str]], types: str) -> str:
    """Name a kernel for some types: another name wherever its code would be another.

    Parameters
    ----------
    parts
        Name, file and options of each function that is compiled.
    """
    content = [str(FORMAT), _surroundings(), types]
    content += [f"{name} {options} {_digest_of(file)}" for name, file, options in parts]
    digest = hashlib.sha256("\n".join(content).encode()).hexdigest()
    return f"{kernel.strip('_')}_{digest[:24]}"


def read(name: str) -> Code | None:
    """Return the code of that name; None where there is none."""
    for folder in folders():
        with contextlib.suppress(OSError, ValueError, KeyError):
            return Code.from_bytes((folder / name).read_bytes())
    return None


def write(name: str, code: Code) -> None:
    """Keep code, where any folder can be written."""
    for folder in folders():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(code.to_bytes())
                Path(temporary).chmod(0o644)  # the installation may serve others
                Path(temporary).replace(folder / name)
            except OSError:
                Path(temporary).unlink()
                raise
            return


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Let one process of this machine at a time compile a kernel: the others wait, and find it kept.

    Nobody waits for longer than `LONGEST_COMPILATION_S`, nor where nothing can be locked or kept: then
    several compile it.
    """
    with contextlib.ExitStack() as stack:
        if _can_keep():
            with contextlib.suppress(OSError):
                _wait_for(locks.folder() / f"{name}.lock", stack)
        yield


def _wait_for(path: Path, stack: contextlib.ExitStack) -> None:
    end = time.monotonic() + LONGEST_COMPILATION_S
    while (descriptor := locks.take(path)) is None:
        if time.monotonic() > end:
            return
        time.sleep(0.01)
    stack.callback(os.close, descriptor)
    stack.callback(path.unlink, missing_ok=True)


def _can_keep() -> bool:
    """Whether any folder takes code: what can be tried without writing."""
    for folder in folders():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if os.access(there, os.W_OK | os.X_OK):
            return True
    return False


@cache
def _digest_of(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


@cache
def _surroundings() -> str:
    """Versions of the compilers, and the processor."""
    versions = []
    for package in ("numba", "llvmlite"):
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        versions.append(_digest_of(str(Path(spec.origin).with_name("_version.py"))))
    return " ".join([*versions, str(machine_code.HEAD), machine_code.processor()])
