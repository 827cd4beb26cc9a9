"""Numba's machine code without numba: compiled to an object file, and loaded by llvmlite alone."""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from tomopolish.compiled import shortcuts

WORDS = """
Arguments are words of eight bytes that follow one for the result: a number, or the address of an array
object. Where that has its data, shape and strides is what all compiled extensions rely on
(PyArrayObject_fields in NumPy's C API).
"""

HEAD = object.__basicsize__
"""Bytes of an object before what is its type's own."""

_RETURNED = {"none": None, "int64": "q", "float64": "d", "float32": "f", "bool": "?"}

NUMBAS_OWN = ("NRT_", "numba", "_ZN", "Py", "_Py")
"""How names begin that only numba, or its set-up, could give a meaning."""

# What numba's code asks of numba while it runs: memory for arrays made within a kernel, and the strides of a
# contiguous array seen as flat. The word at byte 24 of what the first returns is where the memory lies.
_RUNTIME = """
declare ptr @malloc(i64)
declare void @free(ptr)

define ptr @NRT_MemInfo_alloc_aligned(i64 %size, i32 %align) {
  %wide = zext i32 %align to i64
  %head = add i64 %wide, 64
  %whole = add i64 %head, %size
  %block = call ptr @malloc(i64 %whole)
  %failed = icmp eq ptr %block, null
  br i1 %failed, label %end, label %made
made:
  %after = getelementptr i8, ptr %block, i64 64
  %address = ptrtoint ptr %after to i64
  %less = sub i64 %wide, 1
  %up = add i64 %address, %less
  %mask = sub i64 0, %wide
  %rounded = and i64 %up, %mask
  %data = inttoptr i64 %rounded to ptr
  store i64 1, ptr %block
  %place = getelementptr i8, ptr %block, i64 24
  store ptr %data, ptr %place
  br label %end
end:
  ret ptr %block
}

define void @NRT_MemInfo_call_dtor(ptr %block) {
  call void @free(ptr %block)
  ret void
}

define ptr @NRT_Allocate(i64 %size) {
  %block = call ptr @malloc(i64 %size)
  ret ptr %block
}

define void @NRT_Free(ptr %block) {
  call void @free(ptr %block)
  ret void
}

define i32 @numba_attempt_nocopy_reshape(
    i64 %axes, ptr %shape, ptr %strides, i64 %wanted, ptr %newshape, ptr %newstrides, i64 %item, i32 %order) {
begin:
  %flat = icmp eq i64 %wanted, 1
  br i1 %flat, label %next, label %refuse
next:
  %left = phi i64 [ %axes, %begin ], [ %axis, %look ]
  %stride = phi i64 [ %item, %begin ], [ %larger, %look ]
  %done = icmp eq i64 %left, 0
  br i1 %done, label %agree, label %look
look:
  %axis = sub i64 %left, 1
  %lengthat = getelementptr i64, ptr %shape, i64 %axis
  %length = load i64, ptr %lengthat
  %foundat = getelementptr i64, ptr %strides, i64 %axis
  %found = load i64, ptr %foundat
  %same = icmp eq i64 %found, %stride
  %single = icmp eq i64 %length, 1
  %fits = or i1 %same, %single
  %larger = mul i64 %stride, %length
  br i1 %fits, label %next, label %refuse
agree:
  store i64 %item, ptr %newstrides
  ret i32 1
refuse:
  ret i32 0
}
"""


@dataclass(frozen=True, kw_only=True)
class Code:
    """An object file, and the type of what its function returns, as numba names it."""

    object_file: bytes
    returns: str

    def to_bytes(self) -> bytes:
        """Return it as it is kept."""
        head = {"returns": self.returns, "sha256": hashlib.sha256(self.object_file).hexdigest()}
        return json.dumps(head).encode() + b"\n" + self.object_file

    @classmethod
    def from_bytes(cls, content: bytes) -> Code:
        """Inverse of `to_bytes`; ValueError or KeyError where the content is damaged."""
        head, _, rest = content.partition(b"\n")
        told = json.loads(head)
        if told["sha256"] != hashlib.sha256(rest).hexdigest():
            raise ValueError("an object file is damaged")
        return cls(object_file=rest, returns=told["returns"])


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """Machine code in memory.

    Attributes
    ----------
    run
        Takes words as in `WORDS`; other than zero: it found no memory.
    returned
        The result, from the words.
    """

    run: Callable[[Any], int]
    returned: Callable[[Any], Any]


def words(size: int) -> Callable[[], Any]:
    """Return what makes memory of so many bytes that `Loaded.run` takes."""
    return ctypes.c_char * size


def compile_function(function: FunctionType, options: dict[str, Any], types: list[str], name: str) -> Code:
    """Compile for arguments of some types, as `kernels` names them, into an object file with one function."""
    import numba  # noqa: PLC0415  only to compile

    known = {"l": numba.int64, "d": numba.float64, "f": numba.float32}
    arguments = tuple(
        known[t] if t in known else numba.types.Array(numba.from_dtype(np.dtype(t[0])), int(t[1:-1]), t[-1])
        for t in types
    )
    dispatcher = shortcuts.jit(function, **options)
    with shortcuts.taken() as optimise:
        dispatcher.compile(arguments)
        found = dispatcher.overloads[arguments]
        optimise(found.library)
    returns = str(found.signature.return_type)
    if returns not in _RETURNED:
        raise TypeError(
            f"{function.__name__} returns {returns}: a kernel returns a number, a bool or nothing"
        )
    object_file = _emit(dispatcher.inspect_llvm(arguments), found.fndesc.llvm_func_name, types, name)
    return Code(object_file=object_file, returns=returns)


def load(code: Code, name: str) -> Loaded:
    """Load an object file of `compile_function`."""
    with _engine_lock:  # two threads would make two engines, one of which goes with its code
        engine = _engine()
        engine.add_object_file(_binding().ObjectFileRef.from_data(code.object_file))
        engine.finalize_object()
        address = engine.get_function_address(name)
    kind = _RETURNED[code.returns]
    unpack = struct.Struct(kind).unpack_from if kind else None

    def returned(slots: Any) -> Any:
        return unpack(slots)[0] if unpack else None

    return Loaded(run=ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(address), returned=returned)


def processor() -> str:
    """Return name and features of this machine's processor, as LLVM knows them."""
    binding = _binding()
    return f"{binding.get_host_cpu_name()} {binding.get_host_cpu_features().flatten()}"


def _emit(text: str, function: str, types: list[str], name: str) -> bytes:
    binding = _binding()
    module = binding.parse_assembly(text)
    entry = _entry(name, function, types, [str(a.type) for a in module.get_function(function).arguments])
    module.link_in(binding.parse_assembly(entry))
    module.link_in(binding.parse_assembly(_RUNTIME))
    for defined in (*module.functions, *module.global_variables):
        if not defined.is_declaration and defined.name != name:
            defined.linkage = "internal"
    needed = [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]
    unknown = [f for f in needed if f.startswith(NUMBAS_OWN) or not binding.address_of_symbol(f)]
    if unknown:
        raise NotImplementedError(
            f"with this version of numba a kernel needs {', '.join(unknown)} as it runs, which is not known "
            "here: install another version"
        )
    return bytes(_machine().emit_object(module))


def _entry(name: str, function: str, types: list[str], kinds: list[str]) -> str:
    """Return the function that takes `WORDS`, in LLVM's language.

    Numba's takes where to put result and error, numbers, and of each array two words that are zero where it
    is not numba's own, number of items, bytes of an item, address, shape and strides.

    Parameters
    ----------
    kinds
        Types of `function`'s arguments.
    """
    lines, given = [f"define i32 @{name}(ptr %words) {{", "%error = alloca ptr"], ["ptr %words", "ptr %error"]

    def load(result: str, kind: str, base: str, offset: int) -> None:
        lines.append(f"%at_{result} = getelementptr i8, ptr %{base}, i64 {offset}")
        lines.append(f"%{result} = load {kind}, ptr %at_{result}")

    for i, described in enumerate(types):
        if len(described) == 1:
            kind = kinds[len(given)]
            load(f"n{i}", kind, "words", 8 * (i + 1))
            given.append(f"{kind} %n{i}")
            continue
        axes = range(int(described[1:-1]))
        load(f"o{i}", "ptr", "words", 8 * (i + 1))
        for part, offset in (("data", 0), ("shape", 16), ("strides", 24)):
            load(f"{part}{i}", "ptr", f"o{i}", HEAD + offset)
        count = "1"
        for axis in axes:
            load(f"s{i}_{axis}", "i64", f"shape{i}", 8 * axis)
            load(f"t{i}_{axis}", "i64", f"strides{i}", 8 * axis)
            lines.append(f"%c{i}_{axis} = mul i64 {count}, %s{i}_{axis}")
            count = f"%c{i}_{axis}"
        given += ["ptr null", "ptr null", f"i64 {count}", f"i64 {np.dtype(described[0]).itemsize}"]
        given += [f"ptr %data{i}", *(f"i64 %s{i}_{a}" for a in axes), *(f"i64 %t{i}_{a}" for a in axes)]
    lines += [f'%status = call i32 @"{function}"({", ".join(given)})', "ret i32 %status", "}"]
    return "\n".join([f'declare i32 @"{function}"({", ".join(kinds)})', *lines])


_engine_lock = threading.Lock()


@cache
def _binding() -> Any:
    from llvmlite import binding  # noqa: PLC0415  as slow to import as NumPy

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


def _machine() -> Any:
    binding = _binding()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )


@cache
def _engine() -> Any:
    """Return what holds loaded code, as long as the program runs."""
    binding = _binding()
    return binding.create_mcjit_compiler(binding.parse_assembly(""), _machine())
