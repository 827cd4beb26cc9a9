"""Functions that numba compiles for the types of their arguments, when they are first called with them."""

from __future__ import annotations

import functools
import struct
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np

from tomopolish.compiled import machine_code, store

Options = dict[str, Any]

_SCALARS = {int: "l", np.int64: "l", float: "d", np.float64: "d", np.float32: "f"}
_FORMATS = {"l": "q", "d": "d", "f": "f4x"}


class Inlined:
    """A function that kernels call; LLVM makes it part of each.

    A copy compiled on its own may round otherwise, and which of both a run uses would depend on whether it
    compiles the kernel or finds it.
    """

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        self.function, self.options = function, options

    def __call__(self, *arguments: Any) -> Any:
        """Run it as Python does."""
        return self.function(*arguments)

    @cached_property
    def compiled(self) -> Any:
        """The function as numba's compiled functions call it."""
        from numba import njit  # noqa: PLC0415  only to compile

        alone = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        return njit(forceinline=True, **alone, **self.options)(bound(self.function))


class Kernel:
    """A function of arrays and numbers that is run as machine code, without Python's lock.

    Arrays of float32, float64, complex64, complex128 and integers, numbers of type int, float, np.int64,
    np.float64 and np.float32; returns a number, a bool or nothing. Each combination of types and layouts
    (contiguous or not) is compiled on its first call, or found where an earlier run has kept it.
    """

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        functools.update_wrapper(self, function)
        self.function, self.options = function, options
        self._ready: dict[str, Callable[[list[Any]], Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel.

        Raises
        ------
        TypeError
            When an argument is of a type that kernels do not take.
        """
        types, values = _describe(arguments)
        run = self._ready.get(types)
        return (run or self._prepare(types))(values)

    def is_kept(self, *arguments: Any) -> bool:
        """Whether a call with arguments like these would find the kernel compiled."""
        types, _ = _describe(arguments)
        return types in self._ready or store.read(self._name(types)) is not None

    def _name(self, types: str) -> str:
        parts = [(f.__qualname__, f.__code__.co_filename, _in_order(o)) for f, o in _reached(self)]
        return store.name_of(self.function.__name__, parts, types)

    def _prepare(self, types: str) -> Callable[[list[Any]], Any]:
        with self._lock:
            if types not in self._ready:
                name = self._name(types)
                code = store.read(name)
                if code is None:
                    options = {**self.options, "nogil": True}
                    code = machine_code.compile_function(bound(self.function), options, types.split(), name)
                    store.write(name, code)
                self._ready[types] = _caller(machine_code.load(code, name), types)
            return self._ready[types]


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a function a `Kernel`; options are those of `numba.njit`."""
    return lambda function: Kernel(function, options)


def inlined(**options: Any) -> Callable[[Callable[..., Any]], Inlined]:
    """Make a function an `Inlined`; options are those of `numba.njit`."""
    return lambda function: Inlined(function, options)


def bound(function: Callable[..., Any]) -> FunctionType:
    """Return the function, with what it calls replaced by what numba knows how to call."""
    assert isinstance(function, FunctionType)
    known = {
        name: value.compiled if isinstance(value, Inlined) else value
        for name, value in function.__globals__.items()
        if name in function.__code__.co_names or name == "__name__"
    }
    copy = FunctionType(
        function.__code__, known, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
    return copy


def _reached(start: Kernel | Inlined) -> Iterator[tuple[FunctionType, Options]]:
    """Go through a kernel and all functions that become part of it."""
    function = start.function
    assert isinstance(function, FunctionType)
    yield function, start.options
    for name in sorted(set(function.__code__.co_names)):
        value = function.__globals__.get(name)
        if isinstance(value, Inlined):
            yield from _reached(value)


def _in_order(options: Options) -> str:
    """Options as text, the same in every run, which sets are not."""
    return str([(k, sorted(v) if isinstance(v, set) else v) for k, v in sorted(options.items())])


def _describe(arguments: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """Return arguments' types in one line, and what machine code takes for them: `machine_code.LAYOUT`."""
    types, values = [], [0]
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            contiguous = "C" if argument.flags.c_contiguous else "A"
            types.append(f"{argument.dtype.char}{argument.ndim}{contiguous}")
            place = argument.__array_interface__["data"][0]
            values += (0, 0, argument.size, argument.itemsize, place, *argument.shape, *argument.strides)
        else:
            scalar = _SCALARS.get(type(argument))
            if scalar is None:
                raise TypeError(f"kernels take arrays, int and float, not {type(argument).__name__}")
            types.append(scalar)
            values.append(argument)
    return " ".join(types), values


def _caller(code: machine_code.Loaded, types: str) -> Callable[[list[Any]], Any]:
    """Return what runs machine code for values of `_describe`."""
    layout = ["q"]
    for name in types.split():
        layout.append(_FORMATS[name] if name in _FORMATS else "q" * (5 + 2 * int(name[1:-1])))
    packer = struct.Struct("=" + "".join(layout))
    pack, size, run, unpack = packer.pack_into, packer.size, code.run, code.returned
    # One array of words for all arguments, in which the result comes back.
    words = machine_code.words(size)

    def call(values: list[Any]) -> Any:
        slots = words()
        pack(slots, 0, *values)
        if run(slots):
            raise MemoryError("a kernel found no memory")
        return unpack(slots)

    return call
