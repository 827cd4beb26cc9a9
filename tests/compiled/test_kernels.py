"""Kernels give what Python gives, whatever arrays they take, and are kept from one process to the next."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomopolish.compiled import inlined, kernel, machine_code, store


@pytest.fixture(scope="module", autouse=True)
def _own_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOMOPOLISH_CACHE_DIR", str(tmp_path_factory.mktemp("kernels")))
        yield


@inlined(error_model="numpy")
def _weighted(value, factor):  # type: ignore[no-untyped-def]
    return value * factor


@kernel(error_model="numpy")
def blend(values, factors, share, shift, out):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            out[i, j] = _weighted(values[i, j], factors[j]) * share + shift
            total += out[i, j]
    return total


@kernel()
def largest(values):  # type: ignore[no-untyped-def]
    best = 0
    for i in range(len(values)):
        if values[i] > values[best]:
            best = i
    return best


@kernel()
def any_above(values, limit):  # type: ignore[no-untyped-def]
    for i in range(len(values)):  # noqa: SIM110  numba takes no generator
        if values[i] > limit:
            return True
    return False


@kernel()
def half(value):  # type: ignore[no-untyped-def]
    return np.float32(value) * np.float32(0.5)


@kernel()
def turn(values, factor):  # type: ignore[no-untyped-def]
    flat = values.reshape(-1)
    for i in range(len(flat)):
        flat[i] *= factor[0]


@kernel()
def sum_of_copy(values):  # type: ignore[no-untyped-def]
    copy = np.empty(values.shape, values.dtype)
    copy[:] = values
    total = 0.0
    for value in copy.reshape(-1):
        total += value
    return total


def arranged(array: np.ndarray, how: str) -> np.ndarray:
    """The same numbers, lying in memory in some other way."""
    if how == "transposed":
        return np.ascontiguousarray(array.T).T
    if how == "stepped":
        wide = np.zeros((2 * array.shape[0], 3 * array.shape[1]), array.dtype)
        wide[::2, 1::3] = array
        return wide[::2, 1::3]
    if how == "backwards":
        return np.ascontiguousarray(array[::-1, ::-1])[::-1, ::-1]
    return array.copy()


@pytest.mark.parametrize("how", ["contiguous", "transposed", "stepped", "backwards"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(rows=st.integers(0, 5), columns=st.integers(0, 5), shift=st.integers(-3, 3))
def test_kernels_give_what_python_gives(how: str, dtype: type, rows: int, columns: int, shift: int) -> None:
    rng = np.random.default_rng(rows + 10 * columns)
    values, factors = rng.normal(size=(rows, columns)).astype(dtype), rng.normal(size=columns)
    out = arranged(np.zeros((rows, columns)), how)
    total = blend(arranged(values, how), factors, np.float32(0.5), shift, out)
    expected = values * factors * 0.5 + shift
    np.testing.assert_allclose(out, expected, rtol=1e-14)
    assert total == pytest.approx(expected.sum(), rel=1e-12, abs=1e-12)


def test_numbers_of_all_kinds_come_back() -> None:
    found = largest(np.array([1.0, 5.0, 2.0], np.float32))
    assert (found, type(found)) == (1, int)
    assert any_above(np.arange(3), 1) is True and any_above(np.arange(3), 2) is False
    assert half(3) == 1.5 and half(np.float64(5)) == 2.5 and half(np.int64(7)) == 3.5
    complexes = np.array([[1 + 2j, 3 - 1j]], np.complex64)
    assert turn(complexes, np.array([1j], np.complex64)) is None  # type: ignore[func-returns-value]
    np.testing.assert_array_equal(complexes, [[-2 + 1j, 1 + 3j]])


@pytest.mark.parametrize("argument", [True, "text", None, [1.0], np.uint8(1)])
def test_what_kernels_do_not_take_is_named(argument: object) -> None:
    with pytest.raises(TypeError, match=type(argument).__name__):
        half(argument)


def test_arrays_in_another_byte_order_are_refused() -> None:
    with pytest.raises(TypeError, match="byte order"):
        largest(np.arange(3.0).astype(">f8"))


def test_a_kernel_that_returns_an_array_is_refused() -> None:
    @kernel()
    def whole(values):  # type: ignore[no-untyped-def]
        return values

    with pytest.raises(TypeError, match=r"whole returns array.*a number"):
        whole(np.ones(3))


def test_a_disk_that_is_full_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "folders", lambda: [tmp_path])
    monkeypatch.setattr(Path, "replace", full)
    store.write("name", machine_code.Code(object_file=b"code", returns="none"))
    assert not list(tmp_path.iterdir())


def test_memory_taken_within_a_kernel_is_given_back() -> None:
    values = np.ones((1000, 1000))
    assert sum_of_copy(values) == 1e6
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        sum_of_copy(values)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # KiB, of 800 MB in all


def test_a_kernel_that_finds_no_memory_says_so() -> None:
    endless = np.lib.stride_tricks.as_strided(np.ones(1), (2**50,), (0,))
    with pytest.raises(MemoryError, match="a kernel"):
        sum_of_copy(endless)


def test_a_kernel_first_called_by_many_threads_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    @kernel()
    def twice(value):  # type: ignore[no-untyped-def]
        return 2 * value

    compiled, compile_function = [], machine_code.compile_function

    def counted(*arguments):  # type: ignore[no-untyped-def]
        compiled.append(arguments)
        return compile_function(*arguments)

    monkeypatch.setattr(machine_code, "compile_function", counted)
    found: list[int] = []
    threads = [threading.Thread(target=lambda n=n: found.append(twice(n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(0, 16, 2)) and len(compiled) == 1


KEPT = """
import sys
import numpy as np
from tomopolish.compiled import kernel

@kernel(fastmath={"nnan", "ninf", "nsz", "arcp", "contract", "afn"})
def add(values, more):
    for i in range(len(values)):
        values[i] += more

values = np.arange(3.0)
print(add.is_kept(values, 1.0))
add(values, 1.0)
print(add.is_kept(values, 1.0), values.sum(), "numba" in sys.modules)
"""


def run_kept(script: Path, folder: Path) -> list[str]:
    env = {**os.environ, "TOMOPOLISH_CACHE_DIR": str(folder)}
    return subprocess.run(
        [sys.executable, str(script)], env=env, capture_output=True, text=True, check=True
    ).stdout.split()


def test_a_second_process_finds_the_kernel_unless_its_file_is_damaged_or_its_source_another(
    tmp_path: Path,
) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "kept"
    script.write_text(KEPT)
    compiled, found = ["False", "True", "6.0", "True"], ["True", "True", "6.0", "False"]
    assert run_kept(script, folder) == compiled
    assert run_kept(script, folder) == found
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    assert run_kept(script, folder) == compiled
    assert run_kept(script, folder) == found
    script.write_text(KEPT + "\n# another\n")
    assert run_kept(script, folder) == compiled
    assert len(list(folder.iterdir())) == 2


def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "folders", lambda: [tmp_path])
    code = machine_code.Code(object_file=b"code" * 10, returns="none")
    store.write("name", code)
    content = (tmp_path / "name").read_bytes()
    for damaged in (content[:-1], content[:10], b"", content[:-9] + bytes(9)):
        (tmp_path / "name").write_bytes(damaged)
        assert store.read("name") is None
    (tmp_path / "name").write_bytes(content)
    assert store.read("name") == code


def test_processes_that_need_a_kernel_at_the_same_time_compile_it_once(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "kept"
    script.write_text(KEPT)
    env = {**os.environ, "TOMOPOLISH_CACHE_DIR": str(folder), "TMPDIR": str(tmp_path)}
    command = [sys.executable, str(script)]
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [process.communicate()[0].split() for process in started]
    assert [answer[1:3] for answer in found] == [["True", "6.0"]] * 3
    assert sorted(answer[3] for answer in found) == ["False", "False", "True"]
    assert not list(tmp_path.rglob("*.lock"))


def test_one_waits_for_another_that_compiles_but_not_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    order, entered, may_end = [], threading.Event(), threading.Event()

    def first() -> None:
        with store.alone("kernel"):
            entered.set()
            assert may_end.wait(60)
            order.append("first")

    def second() -> None:
        with store.alone("kernel"):
            order.append("second")

    for patience, expected in ((60, ["first", "second"]), (0.05, ["second", "first"])):
        monkeypatch.setattr(store, "LONGEST_COMPILATION_S", patience)
        for event in (entered, may_end):
            event.clear()
        order.clear()
        other = threading.Thread(target=first)
        other.start()
        assert entered.wait(10)
        if patience == 60:
            threading.Timer(0.2, may_end.set).start()
        second()
        may_end.set()
        other.join()
        assert order == expected


def test_where_nothing_can_be_locked_kernels_are_compiled_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    with store.alone("kernel"):
        pass
    (tmp_path / f"tomopolish-{os.getuid()}").write_text("no folder")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with store.alone("kernel"):
        pass
    with pytest.raises(ZeroDivisionError), store.alone("kernel"):
        _ = 1 / 0


def test_where_nothing_can_be_kept_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)  # who runs this may write anywhere
    with store.alone("kernel"), store.alone("kernel"):
        assert not list(tmp_path.iterdir())


TOGETHER = """
import threading
import numpy as np
from tomopolish.compiled import kernel

def total_0(values):
    copy = np.empty(len(values))
    copy[:] = values
    return copy.sum() + 0

def total_1(values):
    return values.sum() + 1

def total_2(values):
    return values.sum() + 2

kernels = [kernel()(f) for f in (total_0, total_1, total_2)]
values, ready, found = np.ones(10), threading.Barrier(3), []

def call(k):
    ready.wait()
    found.append([kernels[k](values) for _ in range(200)][-1])

threads = [threading.Thread(target=call, args=(k,)) for k in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*sorted(found))
"""


def test_several_threads_may_be_the_first_to_load_kernels(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "kept"
    script.write_text(TOGETHER)
    for _ in range(5):
        assert run_kept(script, folder) == ["10.0", "11.0", "12.0"]


def test_where_the_package_cannot_be_written_code_is_kept_with_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere, home = tmp_path / "file", tmp_path / "home"
    nowhere.write_text("no folder")
    monkeypatch.setattr(store, "folders", lambda: [nowhere / "kernels", home / "kernels"])
    code = machine_code.Code(object_file=b"\x00\n\xff", returns="none")
    store.write("name", code)
    (kept,) = (home / "kernels").iterdir()
    assert kept.name == "name" and kept.stat().st_mode & 0o777 == 0o644
    assert store.read("name") == code and store.read("other") is None
    monkeypatch.setattr(store, "folders", lambda: [nowhere / "kernels"])
    store.write("name", code)  # nobody is told: it takes time alone
    assert store.read("name") is None


def test_folders_are_the_packages_then_the_users_or_the_one_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.folders() == [Path(os.environ["TOMOPOLISH_CACHE_DIR"])]
    monkeypatch.delenv("TOMOPOLISH_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, second = store.folders()
    assert first.parent == Path(store.__file__).parents[1] / "__pycache__"
    assert second == tmp_path / "tomopolish" / "kernels"

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    assert store.folders() == [first]


def test_the_name_tells_types_options_and_source() -> None:
    part = ("f", __file__, "[]")
    names = {
        store.name_of("f", [part], "d1C"),
        store.name_of("f", [part], "d1A"),
        store.name_of("f", [("f", __file__, "[('fastmath', True)]")], "d1C"),
        store.name_of("f", [("f", store.__file__, "[]")], "d1C"),
        store.name_of("f", [part, part], "d1C"),
    }
    assert len(names) == 5
    assert store.name_of("f", [part], "d1C") in names


@kernel(error_model="numpy")
def many_things(values, size, turned):  # type: ignore[no-untyped-def]
    """Much of what kernels are written in, with the same operations on several types."""
    places, work = np.empty(size, np.int64), np.zeros((2, size), np.float32)
    for i in range(size):
        places[i] = (7 * i) % size
        work[0, i], work[1, i] = np.float32(i), i * 0.5
    if turned:
        work[1] = work[1] - work[0]
    whole, product = 0, np.complex64(1j)
    for i in range(size):
        near = max(min(values[i], 1.0), -1.0)
        whole += int(near) + places[i] // 2
        product = product * complex(work[0, places[i]], work[1, i]) ** 2 / np.float32(1 + i)
    left, right = work[0, 1:], work[0, : size - 1]
    return float(whole) + abs(product) + (left * right).sum() + np.exp(-(values[0] ** 2))


@pytest.mark.parametrize("turned", [0, 1])
def test_shortcuts_leave_the_meaning_of_a_kernel(turned: int) -> None:
    values = np.linspace(-2, 2, 11)
    assert many_things(values, 11, turned) == pytest.approx(
        many_things.function(values, 11, turned), rel=1e-5
    )


def test_numba_works_as_before_for_others_in_the_process() -> None:
    from numba import njit
    from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen
    from numba.core.types.functions import BaseFunction

    def steps() -> list[object]:
        return [
            JITCPUCodegen._add_module,
            JITCPUCodegen.set_env,
            CPUCodeLibrary._optimize_final_module,
            BaseFunction.get_call_type,
        ]

    @kernel()
    def thrice(value):  # type: ignore[no-untyped-def]
        return np.full(value, 3.0).sum()

    @kernel()
    def wrong(value):  # type: ignore[no-untyped-def]
        return value.nothing

    before = steps()
    assert thrice(2) == 6
    with pytest.raises(Exception, match="nothing"):
        wrong(2)
    assert steps() == before

    def outer(values):  # type: ignore[no-untyped-def]
        def inner(value):  # type: ignore[no-untyped-def]
            return 3 * value

        return [inner(value) for value in values]

    assert njit(outer)(np.arange(3)) == [0, 3, 6]
    # Numba takes what it has compiled of its own for the kernel.
    assert njit(thrice.function)(2) == 6
