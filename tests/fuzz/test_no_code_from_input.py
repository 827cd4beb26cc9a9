"""Nothing that is read is ever carried out: no pickle, eval or shell in the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tomopolish

SOURCE = Path(tomopolish.__file__).parent
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "subprocess", "pty", "ctypes"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {"system", "popen", "execv", "execvp", "spawnl", "unsafe_load", "full_load"}


def offences(text: str) -> list[str]:
    """Uses of what could carry out input."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module for _ in [0] if (node.module or "").partition(".")[0] in MODULES]
        elif isinstance(node, ast.Call):
            found += _bad_call(node)
    return [str(item) for item in found]


def _bad_call(node: ast.Call) -> list[str]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    qualified = isinstance(node.func, ast.Attribute)
    if (not qualified and name in CALLS) or (qualified and name in ATTRIBUTES):
        return [name]
    owner = getattr(getattr(node.func, "value", None), "id", "")
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if owner == "np" and name == "load":
        allowed = keywords.get("allow_pickle")
        if not (isinstance(allowed, ast.Constant) and allowed.value is False):
            return ["np.load without allow_pickle=False"]
    if owner == "yaml" and name not in ("safe_load", "safe_dump"):
        return [f"yaml.{name}"]
    if any(word == "shell" for word in keywords):
        return ["shell="]
    return []


KNOWN = {
    "run/cluster/slurm_jobs.py": ["subprocess"],  # asks Slurm's own commands, without a shell
    "run/journal/provenance.py": ["subprocess"],  # asks git for the commit of the program's own folder
}


def test_no_module_carries_out_input() -> None:
    found = {path.relative_to(SOURCE).as_posix(): offences(path.read_text()) for path in SOURCE.rglob("*.py")}
    assert {name: uses for name, uses in found.items() if uses} == KNOWN


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "import os\nos.system('x')",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f)",
        "f(x, shell=True)",
    ],
)
def test_the_search_finds_them(text: str) -> None:
    assert offences(text)
