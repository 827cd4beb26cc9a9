"""Shared fixtures: the reference data sets, and run-time checks of array shapes."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import jaxtyping
import pytest
import scipy.linalg  # noqa: F401  which loads BLAS
from hypothesis import settings
from jaxtyping import install_import_hook
from threadpoolctl import threadpool_limits

from tomopolish import shapes

DATASET_MODULES = [
    module.name
    for module in iter_modules([str(Path(__file__).resolve().parents[1] / "src" / "tomopolish" / "dataset")])
    if module.name != "half_precision"
]

_HAS_SHAPES = re.compile(rf"\b(?:{'|'.join(shapes.__all__)})\[")
_checking = jaxtyping.jaxtyped


def _states_shapes(part: Any) -> bool:
    """Whether annotations of a function, or of the fields of a class, state the shape of an array."""
    if inspect.isclass(part):
        kinds = [field.type for field in fields(part)] if is_dataclass(part) else []
        return any(_HAS_SHAPES.search(str(kind)) for kind in kinds)
    part = getattr(part, "fget", None) or getattr(part, "__func__", part)
    return any(_HAS_SHAPES.search(str(kind)) for kind in part.__annotations__.values())


def _checking_shapes(part: Any = None, **options: Any) -> Any:
    """Decorate as jaxtyping does where there are shapes; elsewhere mypy has checked all that it would check.

    A checked call costs a tenth of a millisecond, and reading a project makes thousands of calls.
    """
    if part is None:
        return functools.partial(_checking_shapes, **options)
    return _checking(part, **options) if _states_shapes(part) else part


jaxtyping.jaxtyped = _checking_shapes  # which the import hook writes above each function and class

# Shapes and dtypes in the annotations are checked in every call the suite makes. Modules that hold numba
# kernels are compiled and cannot be wrapped, so they are not listed here.
install_import_hook(
    [
        "tomopolish.physics.geometry",
        "tomopolish.physics.fourier",
        "tomopolish.physics.optics",
        *(f"tomopolish.dataset.{name}" for name in DATASET_MODULES),
        "tomopolish.models.gaussian_process",
        "tomopolish.models.motion",
        "tomopolish.models.deformation",
        "tomopolish.models.warps.linear",
        "tomopolish.models.warps.compiled",
        "tomopolish.models.warps.spline",
        "tomopolish.models.warps.fourier",
        "tomopolish.simulate.acquisition",
        "tomopolish.simulate.molecule",
        "tomopolish.simulate.motion",
        "tomopolish.simulate.noise",
        "tomopolish.simulate.painter",
        "tomopolish.simulate.references",
        "tomopolish.simulate.scene",
        "tomopolish.simulate.slices",
        "tomopolish.simulate.specimen",
        "tomopolish.simulate.structure",
        "tomopolish.simulate.tomogram",
        "tomopolish.simulate.truth",
        "tomopolish.simulate.warp",
        "tomopolish.simulate.evaluate",
        "tomopolish.output.exports",
    ],
    "beartype.beartype",
)
assert (
    shapes.Float is jaxtyping.Float
)  # else something has imported the package first, and nothing is checked

# A suite that was started beneath `nohup`, or in the background, ignores SIGHUP or SIGINT, and so would the
# processes whose end is tested.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run, and no deadline: the first call may compile.
settings.register_profile("tomopolish", derandomize=True, deadline=None)
settings.load_profile("tomopolish")

# As `align` and `tune` do. Threads of BLAS spin while they wait for work, which took ten times the processor
# time of the tests' small matrices. Children of this process decide for themselves.
threadpool_limits(1, user_api="blas")

os.fsync = lambda descriptor: None  # no machine stops during the tests, and disks take their time

MINI = Path(__file__).parent / "reference" / "relion"
GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that puts fresh output of commands into the pages."""
    parser.addoption("--rewrite-samples", action="store_true", help="put fresh output of commands into docs/")


@pytest.fixture(scope="session")
def mini() -> Path:
    """Project folder of the small reference data set (see its README.md)."""
    return MINI


@pytest.fixture(scope="session")
def golden() -> Path:
    """Project folder of the larger reference data set, where this machine has it."""
    if not GOLDEN.is_dir():
        pytest.skip("the larger reference data set is not beside this checkout")
    return GOLDEN


@pytest.fixture(scope="module")
def dask_leavings() -> Iterator[None]:
    """Collect what Dask left open while the module's filters hold: in a later test it would be an error."""
    yield
    gc.collect()
