"""Processes that load kernels do not wait for one another."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from tomopolish import kernel_cache
from tomopolish.jit import Kernel, kernel


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TOMOPOLISH_CACHE_DIR", str(tmp_path / "cache"))
    kernel_cache.folder.cache_clear()
    path, _ = kernel_cache.folder()
    assert path is not None
    yield path
    kernel_cache.folder.cache_clear()


def fresh() -> Kernel:
    """Return a kernel as another process would have it, before its first call."""

    @kernel()
    def five_times(value):  # type: ignore[no-untyped-def]
        return 5 * value

    return five_times


def test_a_kernel_that_is_cached_is_loaded_while_another_process_compiles(kept: Path) -> None:
    assert fresh()(2) == 10  # by another process
    results: list[float] = []
    with filelock.FileLock(kept / "lock"):
        loads = threading.Thread(target=lambda: results.append(fresh()(3)))
        loads.start()
        loads.join(timeout=30)
        assert results == [15]
        compiles = threading.Thread(target=lambda: results.append(fresh()(3.5)))
        compiles.start()
        compiles.join(timeout=0.3)
        assert results == [15]  # other types are another kernel, which is compiled by one process at a time
    compiles.join(timeout=30)
    assert results == [15, 17.5]


def test_a_first_call_lets_others_compile_while_it_runs(kept: Path) -> None:
    """Only to compile takes its turn, not to run, which may last."""
    slow = fresh()
    compiled = slow.compiled

    class Watched:
        """The compiled function; it looks at the lock when it is called."""

        def __getattr__(self, name: str) -> object:
            return getattr(compiled, name)

        def __call__(self, value: int) -> int:
            with filelock.FileLock(kept / "lock", timeout=0):
                pass
            return int(compiled(value))

    slow.compiled = Watched()
    assert slow(4) == 20


def test_a_folder_that_is_made_anew_remembers_nothing(kept: Path) -> None:
    kernel_cache.remember("a kernel")
    assert kernel_cache.has("a kernel") and not kernel_cache.has("another")
    kernel_cache.forget()
    assert not kernel_cache.has("a kernel")
    kernel_cache.remember("a kernel")  # into a folder that is not there: it is compiled again
    assert not kernel_cache.has("a kernel")
