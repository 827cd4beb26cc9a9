"""Names for arrays in annotations: jaxtyping's, where somebody has imported it to check shapes.

Annotations are text while a program runs, and nobody reads them but who checks them: the tests, or a user of
jaxtyping's import hook. To import jaxtyping for them would take every run longer than to read its inputs;
without it the names stand for the type of array alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

__all__ = ["Bool", "Complex", "Complex64", "Float", "Float32", "Int", "Shaped", "UInt8"]

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Complex, Complex64, Float, Float32, Int, Shaped, UInt8
else:

    class _Unchecked:
        """``Float[Array, "F 3"]`` is Array."""

        def __class_getitem__(cls, described: tuple[Any, str]) -> Any:
            return described[0]

    Bool = Complex = Complex64 = Float = Float32 = Int = Shaped = UInt8 = _Unchecked
