"""Names for arrays in annotations: `Array`, and those of jaxtyping if it has been imported to check shapes.

Annotations remain text at run time, and only shape checks evaluate them: in the tests, or with jaxtyping's
import hook. Importing jaxtyping would take longer than reading the inputs of a run. Without it the names
stand for the type of array alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

__all__ = [
    "Array", "Bool", "Complex", "Complex64", "Float", "Float32", "Int", "Int8", "Int16", "Shaped", "UInt8",
]  # fmt: skip

Array = np.ndarray

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Complex, Complex64, Float, Float32, Int, Int8, Int16, Shaped, UInt8
else:

    class _Unchecked:
        """``Float[Array, "F 3"]`` is Array."""

        def __class_getitem__(cls, described: tuple[Any, str]) -> Any:
            return described[0]

    Bool = Complex = Complex64 = Float = Float32 = Int = Int16 = Int8 = Shaped = UInt8 = _Unchecked
