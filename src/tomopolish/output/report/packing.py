"""Arrays as short text for the page's scripts, and JSON that is safe within a page."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from tomopolish.plain_text import safe_to_show
from tomopolish.shapes import Array

MISSING = -32768
LARGEST = 32767


def packed(values: Array) -> dict[str, Any]:
    """Return an array as 16-bit integers with one common step, base64: 1/65,000 of the largest value.

    Values that are not finite are unpacked as NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    largest = float(np.max(np.abs(values), where=finite, initial=0.0))
    step = largest / LARGEST if largest > 0 else 1.0
    steps = np.full(values.shape, MISSING, dtype="<i2")
    steps[finite] = np.round(values[finite] / step)
    return {"shape": list(values.shape), "step": step, "i16": base64.b64encode(steps.tobytes()).decode()}


def grey_block(grey: Array) -> dict[str, Any]:
    """Return an image of bytes as base64."""
    return {"shape": list(grey.shape), "u8": base64.b64encode(grey.tobytes()).decode()}


def rounded(values: Array, digits: int = 5) -> Any:
    """Return an array as nested lists with `digits` significant digits; None where a value is not finite."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim:
        return [rounded(row, digits) for row in values]
    return float(f"{float(values):.{digits}g}") if np.isfinite(values) else None


def page_json(content: Any) -> str:
    """Return JSON for a ``<script>`` element; its texts cannot end or begin an element."""
    text = json.dumps(_shown(content), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _shown(content: Any) -> Any:
    if isinstance(content, str):
        return safe_to_show(content)
    if isinstance(content, dict):
        return {_shown(key): _shown(value) for key, value in content.items()}
    return [_shown(item) for item in content] if isinstance(content, list | tuple) else content
