"""What numba does on the way to machine code that kernels do without: two fifths of compiling them.

Replaced are functions of numba's own; another version may have other ones, and then only takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

NOT_NEEDED = frozenset(
    {
        "WithLifting",  # with
        "InlineClosureLikes", "MakeFunctionToJitFunction",  # functions within functions
        "RewriteDynamicRaises",  # raise
        "RewriteSemanticConstants", "DeadBranchPrune",  # branches on a type or on an argument that is None
        "InlineInlinables", "InlineOverloads",  # functions that numba is told to inline, ours LLVM inlines
        "FindLiterallyCalls", "LiteralUnroll", "LiteralPropagationSubPipelinePass",  # values that are types
        "NoPythonSupportedFeatureValidation", "AnnotateTypes", "DumpParforDiagnostics",  # reports
    }
)  # fmt: skip
"""Numba's passes for parts of Python that kernels do not use; most of them list all variables anew."""


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """As `numba.njit`, for what only kernels call: no way in from elsewhere, no pass that is `NOT_NEEDED`."""
    from numba import njit  # noqa: PLC0415  only to compile

    alone = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _pipeline()}
    return njit(**alone, **options)(function)


@cache
def _pipeline() -> Any:
    """Return numba's compiler without the passes that are `NOT_NEEDED`."""
    from numba.core.compiler import CompilerBase, DefaultPassBuilder  # noqa: PLC0415  only to compile
    from numba.core.compiler_machinery import PassManager  # noqa: PLC0415

    class Pipeline(CompilerBase):  # type: ignore[misc]
        """Numba's own passes, but for some."""

        def define_pipelines(self) -> list[Any]:
            passes = PassManager("kernels")
            for step, why in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
                if step.__name__ not in NOT_NEEDED:
                    passes.add_pass(step, why)
            passes.finalize()
            return [passes]

    return Pipeline


@contextmanager
def taken() -> Iterator[Callable[[Any], None]]:
    """Compile without what makes no difference to kernels; nobody else compiles meanwhile.

    Numba would make machine code of every function to call it from Python; optimise a kernel's parts before
    they are in place, and all of it again; and look through all that it knows for the meaning of every
    operation.

    Yields
    ------
    optimise
        To be called with the library of what was compiled: nothing has been optimised as a whole.
    """
    from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen  # noqa: PLC0415
    from numba.core.compiler_lock import global_compiler_lock  # noqa: PLC0415
    from numba.core.types.functions import BaseFunction  # noqa: PLC0415

    with global_compiler_lock:  # first of all: another thread has its own steps in place while it compiles
        whole = getattr(CPUCodeLibrary, "_optimize_final_module", _nothing)
        steps = {
            (JITCPUCodegen, "_add_module"): _nothing,
            (JITCPUCodegen, "set_env"): _nothing,
            (CPUCodeLibrary, "_optimize_final_module"): _nothing,
            (BaseFunction, "get_call_type"): _remembering(BaseFunction.get_call_type),
        }
        with _replaced(steps):
            yield whole


@contextmanager
def _replaced(steps: dict[tuple[type, str], Callable[..., Any]]) -> Iterator[None]:
    before = {(owner, name): vars(owner)[name] for owner, name in steps if name in vars(owner)}
    try:
        for place in before:
            setattr(*place, steps[place])
        yield
    finally:
        for place, step in before.items():
            setattr(*place, step)


def _nothing(*_: Any) -> None:
    pass


def _remembering(get_call_type: Callable[..., Any]) -> Callable[..., Any]:
    """Return numba's search for what a function makes of its arguments' types, with a memory.

    What numba compiles for the purpose is searched for each time: it depends on the caller's options, too.
    """

    def remembered(function: Any, context: Any, args: Any, kws: Any) -> Any:
        found = function.__dict__.setdefault("_tomopolish_found", {})
        key = None if kws else tuple(args)
        if key in found:
            return found[key]
        signature = get_call_type(function, context, args, kws)
        own = getattr(function, "typing_key", None)
        if key is not None and own is not None and function.get_impl_key(signature) is own:
            found[key] = signature
        return signature

    return remembered
