"""YAML files of options: no alias multiplies, no number grows, and time follows the size."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tomopolish.cli.yaml_files import MOST_BYTES, read_yaml
from tomopolish.errors import InputError

REFUSED = {
    "aliases": ("a: &a [1, 1]\nb: [*a, *a]\n", "aliases"),
    "merges": ("a: &a {x: 1}\nb: {<<: [*a, *a]}\n", "aliases"),
    "a number that grows": ("box: 59" + ":59" * 20_000, "too large"),
    "more digits than are read": ("box: " + "9" * 5000, "digits"),
    "no date": ("when: 2001-99-99", "month"),
    "depth": ("[" * 30_000, "recursion"),
    "an open quote": ('"a ' * 20_000, "not a YAML file"),
    "too large": ("#" * (MOST_BYTES + 1), "larger than"),
    "bytes": (b"\xff\xfe\x00", "decode"),
    "code": ("!!python/object/apply:os.getcwd []", "could not determine a constructor"),
    "absent": (None, "file not found"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_files_that_could_do_harm_are_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    content, expected = REFUSED[kind]
    path = tmp_path / "list.yaml"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    start = time.process_time()
    with pytest.raises(InputError, match=expected) as caught:
        read_yaml(path, "--i list.yaml")
    assert str(caught.value).startswith("--i list.yaml: ") and "\n" not in str(caught.value)
    assert time.process_time() - start < 5


def test_what_options_need_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfspecies:\n- {name: a, box: 96, on: true}\n")
    assert read_yaml(tmp_path / "a.yaml", "a") == {"species": [{"name": "a", "box": 96, True: True}]}
