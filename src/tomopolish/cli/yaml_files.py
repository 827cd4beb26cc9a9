"""Small YAML files of options: read without running code, and in a time proportional to their size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tomopolish.dataset.opening import read_small
from tomopolish.errors import InputError

MOST_BYTES = 1 << 16
MOST_NUMBER = 1 << 53


def read_yaml(path: Path, place: str, most_bytes: int = MOST_BYTES) -> Any:
    """Return the content of a YAML file; raises InputError, which begins with `place`.

    Aliases are refused: a few lines of them can expand beyond any memory.
    """
    import yaml

    class PlainLoader(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("aliases (*name) are not supported: repeat the text instead")
            return super().compose_node(parent, index)

        def construct_yaml_int(self, node: Any) -> int:
            number: int = super().construct_yaml_int(node)
            if abs(number) >= MOST_NUMBER:
                raise ValueError("an integer is too large")
            return number

    PlainLoader.add_constructor("tag:yaml.org,2002:int", PlainLoader.construct_yaml_int)
    try:
        loader = PlainLoader(read_small(path, most_bytes).decode("utf-8-sig"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except FileNotFoundError:
        reason = "file not found"
    except OSError as problem:
        reason = f"it cannot be read: {problem.strerror or problem}"
    except (ValueError, OverflowError, RecursionError, yaml.YAMLError) as problem:
        reason = " ".join(str(problem).split()) or type(problem).__name__
    raise InputError(f"{place}: this is not a YAML file that can be read ({reason}); correct it")
