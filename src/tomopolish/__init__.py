"""tomopolish refines cryo-electron-tomography tilt series against a known structure.

From Python: `tomopolish.load` opens a project, `tomopolish.align` refines it (see `tomopolish.api`).
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_FROM_API = ("AlignedProject", "align", "load")  # __init__.pyi states their types


def __getattr__(name: str) -> Any:
    """Import the Python API when it is first used: the command line starts faster without it."""
    if name in _FROM_API:
        return getattr(importlib.import_module("tomopolish.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return ["__version__", *_FROM_API]
