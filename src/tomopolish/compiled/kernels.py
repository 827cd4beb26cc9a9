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

from tomopolish.compiled import machine_code, shortcuts, store

Options = dict[str, Any]

Key = tuple[Any, ...]
"""What decides on the code for some arguments: of arrays the dtype, axes and contiguity, else the type."""

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
        return shortcuts.jit(bound(self.function), forceinline=True, **self.options)


class Kernel:
    """A function of arrays and numbers that is run as machine code, without Python's lock.

    Arrays of float32, float64, complex64, complex128 and integers, numbers of type int, float, np.int64,
    np.float64 and np.float32; returns a number, a bool or nothing. Each combination of types and layouts
    (contiguous or not) is compiled on its first call, or found where an earlier run has kept it.
    """

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        functools.update_wrapper(self, function)
        self.function, self.options = function, options
        self._ready: dict[Key, Callable[[list[Any]], Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        """Run the kernel.

        Raises
        ------
        TypeError
            When an argument is of a type that kernels do not take.
        """
        key, words = _described(arguments)
        run = self._ready.get(key)
        return (run or self._prepare(key))(words)

    def is_kept(self, *arguments: Any) -> bool:
        """Whether a call with arguments like these would find the kernel compiled."""
        key, _ = _described(arguments)
        return key in self._ready or store.read(self._name(_types(key))) is not None

    def _name(self, types: str) -> str:
        parts = [(f.__qualname__, f.__code__.co_filename, _in_order(o)) for f, o in _reached(self)]
        return store.name_of(self.function.__name__, parts, types)

    def _prepare(self, key: Key) -> Callable[[list[Any]], Any]:
        types = _types(key)
        with self._lock:
            if key not in self._ready:
                name = self._name(types)
                code = store.read(name) or self._compile(types, name)
                self._ready[key] = _caller(machine_code.load(code, name), types)
            return self._ready[key]

    def _compile(self, types: str, name: str) -> machine_code.Code:
        with store.alone(name):
            code = store.read(name)  # another process may have kept it meanwhile
            if code is None:
                options = {**self.options, "nogil": True}
                code = machine_code.compile_function(bound(self.function), options, types.split(), name)
                store.write(name, code)
            return code


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


def _described(arguments: tuple[Any, ...]) -> tuple[Key, list[Any]]:
    """Return what decides on the code for some arguments, and the words it takes: `machine_code.WORDS`."""
    key: list[Any] = []
    words: list[Any] = [0]
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            key += (argument.dtype, argument.ndim, argument.flags.c_contiguous)
            words.append(id(argument))
        else:
            key.append(type(argument))
            words.append(argument)
    return tuple(key), words


def _types(key: Key) -> str:
    """Return types in one line: l, d and f are numbers, f2C is a contiguous float32 array with two axes."""
    types, rest = [], iter(key)
    for kind in rest:
        if isinstance(kind, np.dtype):
            if not kind.isnative:
                raise TypeError(f"kernels take arrays in the machine's byte order, not {kind}")
            types.append(f"{kind.char}{next(rest)}{'C' if next(rest) else 'A'}")
        elif kind in _SCALARS:
            types.append(_SCALARS[kind])
        else:
            raise TypeError(f"kernels take arrays, int and float, not {kind.__name__}")
    return " ".join(types)


def _caller(code: machine_code.Loaded, types: str) -> Callable[[list[Any]], Any]:
    """Return what runs machine code on words of `_described`."""
    packer = struct.Struct("=q" + "".join(_FORMATS.get(name, "q") for name in types.split()))
    pack, run, returned, memory = packer.pack_into, code.run, code.returned, machine_code.words(packer.size)

    def call(words: list[Any]) -> Any:
        packed = memory()
        pack(packed, 0, *words)
        if run(packed):
            raise MemoryError("a kernel found no memory")
        return returned(packed)

    return call
