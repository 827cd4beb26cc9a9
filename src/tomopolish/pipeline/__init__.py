"""One tomogram, from tilt images to refined geometry.

What the folder offers is imported when it is first used: references can be made ready before the kernels and
solvers, which are slow to import, are there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomopolish.pipeline.align import Species, align_species, align_tomogram
    from tomopolish.pipeline.problem import build_problem
    from tomopolish.pipeline.references import PreparedReferences, prepare
    from tomopolish.pipeline.windows import correlation_windows, frames_taking_part

__all__ = [
    "PreparedReferences",
    "Species",
    "align_species",
    "align_tomogram",
    "build_problem",
    "correlation_windows",
    "frames_taking_part",
    "prepare",
]

_MODULES = {
    "PreparedReferences": "references",
    "Species": "align",
    "align_species": "align",
    "align_tomogram": "align",
    "build_problem": "problem",
    "correlation_windows": "windows",
    "frames_taking_part": "windows",
    "prepare": "references",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, be it a module of the folder."""
    module = f"{__name__}.{_MODULES.get(name, name)}"
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(found, name) if name in _MODULES else found
