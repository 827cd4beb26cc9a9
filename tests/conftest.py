"""Shared fixtures: the reference data sets, and run-time checks of array shapes."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from pkgutil import iter_modules

import jaxtyping
import pytest
import scipy.linalg  # noqa: F401  which loads BLAS
from hypothesis import settings
from threadpoolctl import threadpool_limits

import shape_checks
from tomopolish import shapes
from tomopolish.__main__ import OBJECTS_BETWEEN_COLLECTIONS
from workers_marks import forking_workers

gc.disable()  # until the tests have been collected

DATASET_MODULES = [
    module.name
    for module in iter_modules([str(Path(__file__).resolve().parents[1] / "src" / "tomopolish" / "dataset")])
    if module.name != "half_precision"
]

# Shapes and dtypes in the annotations are checked in every call the suite makes. Modules that hold numba
# kernels are compiled and cannot be wrapped, so they are not listed here.
shape_checks.install(
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
    ]
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


def pytest_collection_finish() -> None:
    """Look for garbage from now on, and not among what has been imported: to look there takes seconds."""
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS, *gc.get_threshold()[1:])  # as the program does
    gc.enable()


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


@pytest.fixture
def forked_workers() -> Iterator[None]:
    """Have Dask fork its local workers: see `forking_workers`."""
    with forking_workers():
        yield


@pytest.fixture(scope="module")
def dask_leavings() -> Iterator[None]:
    """Collect what Dask left open while the module's filters hold: in a later test it would be an error."""
    yield
    gc.collect()
