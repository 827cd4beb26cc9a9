"""The shape of the code: layers, where RELION's labels may stand, how long things may be."""

from __future__ import annotations

import ast
import functools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

import tomopolish
from tomopolish.dataset.model import Deformation
from tomopolish.physics import geometry

PACKAGE = Path(tomopolish.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 400, 60


def module_name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@functools.cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@functools.cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Every node of a module, itself first."""
    return tuple(ast.walk(ast.parse(text_of(path))))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def by_module(faults: Callable[[Path], list[str]]) -> dict[str, list[str]]:
    """Return what is at fault in each module where anything is."""
    return {module_name(path): found for path in MODULES if (found := faults(path))}


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


def test_relions_labels_stay_in_the_dataset_layer() -> None:
    def lines_with_labels(path: Path) -> list[str]:
        if path.relative_to(PACKAGE).parts[0] == "dataset":
            return []
        lines = enumerate(text_of(path).splitlines(), start=1)
        return [f"line {number}: {line.strip()}" for number, line in lines if "rln" in line]

    assert by_module(lines_with_labels) == {}


def test_modules_and_functions_are_short() -> None:
    def too_long(path: Path) -> list[str]:
        lines = len(text_of(path).splitlines())
        long_functions = [f for f in functions(path) if body_lines(f) > LONGEST_FUNCTION]
        return [f"{lines} lines"] * (lines > LONGEST_MODULE) + [
            f"{f.name}: {body_lines(f)} lines" for f in long_functions
        ]

    assert by_module(too_long) == {}


def test_every_module_says_what_it_is_for() -> None:
    def silent(path: Path) -> list[str]:
        module = nodes(path)[0]
        assert isinstance(module, ast.Module)
        return [] if ast.get_docstring(module) else ["no docstring"]

    assert by_module(silent) == {}


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


def test_imports_stand_at_the_top_but_for_commands_and_extras() -> None:
    def late(path: Path) -> list[str]:
        is_command = path.relative_to(PACKAGE).parts[0] in {"cli", "api", "__main__.py"}
        return [] if is_command else late_imports(path)

    assert by_module(late) == {}


def private_uses(path: Path) -> list[str]:
    """Private names of other packages that a module imports, or reads from a module that it imports."""
    found: list[str] = []
    modules: set[str] = set()
    for node in nodes(path):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in imported(node):
            parts = name.split(".")
            is_inner = parts[:2] == ["numba", "core"] or parts[0] == "llvmlite"
            is_foreign = parts[0] not in {"tomopolish", "__future__"}
            if is_inner or (is_foreign and any(part.startswith("_") for part in parts)):
                found.append(name)
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.endswith("__"):
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            is_private = isinstance(owner, ast.Name) and owner.id in modules
            if is_private and ast.unparse(node) != "os._exit":  # which is documented
                found.append(ast.unparse(node))
    return found


def test_nothing_private_of_another_package_is_used() -> None:
    assert by_module(private_uses) == {}


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


def test_the_suite_checks_shapes_of_arguments_results_and_fields() -> None:
    for call in (
        lambda: geometry.cross_matrix(np.zeros(2)),
        lambda: geometry.cross_matrix(np.zeros(3, dtype=int)),
        lambda: Deformation(model="linear", grid=(2, 2), coefficients=np.zeros(3)),
    ):
        with pytest.raises(jaxtyping.TypeCheckError):
            call()
