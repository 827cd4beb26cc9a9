"""Values as YAML, for people and programs to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def in_yaml(content: Mapping[str, Any]) -> str:
    """Return values as YAML, in their order; numbers, texts, lists and mappings of them."""
    import yaml

    text: str = yaml.safe_dump(plain(content), sort_keys=False, allow_unicode=True, width=10_000)
    return text


def plain(value: Any) -> Any:
    """Return a value as one of YAML's kinds: paths and unknown objects as text, arrays as lists."""
    if type(value).__module__ == "numpy":  # which is not imported for this
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return str(value)
