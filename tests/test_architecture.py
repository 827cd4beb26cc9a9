"""The shape of the code: layers, where RELION's labels may stand, how long things may be."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tomopolish

PACKAGE = Path(tomopolish.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60


def module_name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring, which may be as long as it needs to be."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_layers_import_only_downwards() -> None:
    executable = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if executable is None:
        pytest.skip("import-linter is not installed beside this Python")
    outcome = subprocess.run(
        [executable, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_relions_labels_stay_in_the_dataset_layer(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] == "dataset":
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        assert "rln" not in line, f"line {number}: {line.strip()}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_modules_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    too_long = {f.name: body_lines(f) for f in functions(path) if body_lines(f) > LONGEST_FUNCTION}
    assert not too_long


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, tomopolish, tomopolish.cli; "
        "print([m for m in ('numpy', 'scipy', 'numba', 'rich', 'jaxtyping', 'gemmi') if m in sys.modules])"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.strip() == "[]"


EXTRAS = {
    "cupy", "cupyx", "dask", "dask_jobqueue", "distributed", "importlib", "jinja2", "matplotlib", "plotly",
    "yaml",
}  # fmt: skip
"""Packages that are imported where they are used: an extra, or needed by few runs."""

DEVICE_MODULES = {
    "tomopolish.imaging.devices_cuda",
    "tomopolish.imaging.kernels.compare_cuda",
    "tomopolish.run.cluster.slurm_jobs",
}
"""Modules of ours that import extras."""


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """Names of the modules that a statement may import; ``from a import b`` may import a and a.b."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]


def late_imports(path: Path) -> list[str]:
    """Imports within functions, but for those of extras."""
    return [
        ast.unparse(node)
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
        and not any(name.split(".")[0] in EXTRAS or name in DEVICE_MODULES for name in imported(node))
        and ast.unparse(node) != "from numba import cuda"  # numba-cuda is an extra
    ]


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_stand_at_the_top_but_for_commands_and_extras(path: Path) -> None:
    if path.relative_to(PACKAGE).parts[0] in {"cli", "api", "__main__.py"}:
        return
    assert not late_imports(path)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_private_of_another_package_is_used(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules: set[str] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in imported(node):
            assert name.split(".")[:2] != ["numba", "core"] and name.split(".")[0] != "llvmlite"
            if name.split(".")[0] not in {"tomopolish", "__future__"}:
                parts = [part for part in name.split(".") if part.startswith("_")]
                assert not parts, f"{name} is private"
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            private = isinstance(owner, ast.Name) and owner.id in modules
            assert not private or ast.unparse(node) == "os._exit", ast.unparse(node)  # which is documented


def test_annotations_hold_shapes_only_for_those_who_check_them() -> None:
    code = (
        "import typing, numpy; from tomopolish.physics.geometry import cross_matrix; "
        "print(typing.get_type_hints(cross_matrix)['return'] is numpy.ndarray)"
    )
    for before, plain in (("", "True"), ("import jaxtyping; ", "False")):
        outcome = subprocess.run(
            [sys.executable, "-c", before + code], capture_output=True, text=True, check=True
        )
        assert outcome.stdout.strip() == plain
