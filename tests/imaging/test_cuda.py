"""The CUDA path: in numba's simulator, and on a device where there is one; what `--device` means."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_checks
import numpy as np
import pytest

from relion_runs import open_project
from small_project import align_one, compute_windows, make_settings
from tomopolish import cli, pipeline
from tomopolish.errors import InputError
from tomopolish.imaging import device_arrays, devices
from tomopolish.imaging.devices import (
    CpuCorrelator,
    acquire_correlator,
    cuda_devices,
    cuda_obstacle,
    tomograms_at_once,
)
from tomopolish.settings.alignment import MotionSettings, RunSettings

HERE = Path(__file__).parent
FEW = 2
"""Particles of a tomogram that the simulator need not work on for minutes."""


def run_python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter that finds what this one finds, warnings being errors."""
    paths = [str(HERE), str(HERE.parent), *filter(None, sys.path)]
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_simulated_device_gives_the_cpus_results() -> None:
    done = run_python(str(HERE / "cuda_checks.py"), NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("holds") == len(cuda_checks.CHECKS) + 1


def test_two_simulated_devices_take_two_tomograms_at_once(project: Path) -> None:
    """Each takes one; what is written is the CPU's to 1e-3 Å."""
    particles = project / "particles.star"
    kept, seen = [], Counter[str]()
    for line in particles.read_text().splitlines():
        tomogram = line.split()[0] if line.startswith("TS_") else ""
        seen[tomogram] += 1
        kept += [line] if not tomogram or seen[tomogram] <= FEW else []
    particles.write_text("\n".join([*kept, ""]))
    done = run_python(str(HERE / "simulated_devices.py"), NUMBA_ENABLE_CUDASIM="1")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("particles.star", "motion.star", "tilt_series/TS_01.star", "tilt_series/TS_02.star"):
        texts = [(project / folder / name).read_text().split() for folder in ("devices", "cpu")]
        assert len(texts[0]) == len(texts[1]) > 0
        for found, expected in zip(*texts, strict=True):
            assert found == expected or abs(float(found) - float(expected)) < 1e-3, name


@pytest.mark.skipif(
    find_spec("numba_cuda") is None,
    reason="numba-cuda[cu12] is not installed",
)
def test_kernels_compile_for_a_device_without_double_precision_per_pixel() -> None:
    done = run_python(str(HERE / "cuda_compile.py"))
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    assert found.pop("add_power") != "0"
    assert found == dict.fromkeys(
        ["extract_boxes", "correlate_spectra", "derivatives_1", "derivatives_4"], "0"
    )


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which CuPy is not installed."""

    def find(name: str) -> importlib.machinery.ModuleSpec | None:
        assert name == "cupy"
        return None

    monkeypatch.setattr(devices, "find_spec", find)


@pytest.fixture
def fake_devices(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | Exception], None]:
    """Return a function that makes CuPy seem to be installed, and to see so many devices or to fail."""

    def fake(outcome: int | Exception) -> None:
        def count() -> int:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(devices, "find_spec", lambda name: object())
        monkeypatch.setattr(devices, "cuda_device_count", count)
        monkeypatch.setattr("numba.cuda.is_available", lambda: True)
        monkeypatch.setattr(devices, "_kernel_obstacle", lambda: None)
        monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)

    return fake


@pytest.mark.usefixtures("no_cupy")
def test_without_cupy_auto_is_the_cpu_and_cuda_says_what_is_missing() -> None:
    assert cuda_devices("auto") == ()
    assert tomograms_at_once("auto") == 1
    with ThreadPoolExecutor(1) as pool, acquire_correlator("auto", pool) as correlator:
        assert isinstance(correlator, CpuCorrelator)
    for device in ("cuda", "cuda:0,cuda:1"):
        with pytest.raises(InputError, match=rf"^--device {device} .*CuPy is not installed.*\[gpu\]"):
            cuda_devices(device)


@pytest.mark.usefixtures("no_cupy")
def test_a_command_that_asks_for_cuda_in_vain_ends_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    options = ["--i", "missing.star", "--b", "24", "--r", "6", "--o", str(folder), "--device", "cuda:1"]
    assert cli.run(["align", *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--device cuda:1 cannot be used: CuPy is not installed" in line
    assert not folder.exists()


def test_cpu_asks_nothing_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cuda_obstacle", lambda: pytest.fail("CUDA was not requested"))
    assert cuda_devices("cpu") == ()


def test_numbers_name_devices(fake_devices: Callable[[int | Exception], None]) -> None:
    fake_devices(2)
    assert cuda_devices("auto") == cuda_devices("cuda") == cuda_devices("cuda:0") == (0,)
    assert cuda_devices("cuda:1") == (1,)
    assert cuda_devices("cuda:0,cuda:1") == (0, 1)
    assert tomograms_at_once("cuda:0,cuda:1") == 2
    with pytest.raises(InputError, match="names cuda:2, but this machine has 2 CUDA devices"):
        cuda_devices("cuda:0,cuda:2")


@pytest.mark.parametrize("outcome", [0, RuntimeError("driver too\nold")])
def test_cupy_without_a_device(
    outcome: int | Exception, fake_devices: Callable[[int | Exception], None]
) -> None:
    fake_devices(outcome)
    assert cuda_devices("auto") == ()
    with pytest.raises(InputError, match=r"^--device cuda cannot .* CuPy finds no CUDA device") as caught:
        cuda_devices("cuda")
    assert "\n" not in str(caught.value)
    if outcome != 0:
        assert "driver too old" in str(caught.value)


def test_auto_is_silent_where_cupy_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        warnings.warn("CUDA path could not be detected", stacklevel=1)
        return 0

    monkeypatch.setattr(devices, "find_spec", lambda name: object())
    monkeypatch.setattr(devices, "cuda_device_count", count)
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert cuda_devices("auto") == ()
    assert seen == []


def test_libraries_that_do_not_go_together(
    fake_devices: Callable[[int | Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As numba-cuda 0.30 with NumPy 2.5, which fail at the first kernel."""
    obstacle = devices._kernel_obstacle
    fake_devices(1)
    monkeypatch.setattr(devices, "_kernel_obstacle", obstacle.__wrapped__)

    def fail() -> None:
        raise AttributeError("module 'numpy' has no\nattribute 'row_stack'")

    monkeypatch.setattr(devices, "try_kernel", fail)
    assert cuda_devices("auto") == ()
    with pytest.raises(
        InputError, match=r"^--device cuda cannot .* no attribute 'row_stack'.*\[gpu\]"
    ) as caught:
        cuda_devices("cuda")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(devices, "try_kernel", lambda: None)
    assert cuda_devices("auto") == (0,)


def test_numba_without_a_device(
    fake_devices: Callable[[int | Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_devices(1)
    monkeypatch.setattr("numba.cuda.is_available", lambda: False)
    assert "numba-cuda may be missing" in str(cuda_obstacle())
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert "NUMBA_ENABLE_CUDASIM" in str(cuda_obstacle())


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "cuda:0,", "cpu,cuda", "auto,auto", ""])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(InputError, match=f"^device {device} is unknown: give auto, cpu, cuda"):
        RunSettings(output_folder=Path("out"), device=device)


def test_each_device_serves_one_tomogram_at_a_time(
    fake_devices: Callable[[int | Exception], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def arrays(index: int) -> Any:
        host = cuda_checks.NumpyArrays()
        return SimpleNamespace(index=index, active=host.active)

    fake_devices(2)
    monkeypatch.setattr(devices, "CupyArrays", arrays)
    devices._opened.cache_clear()
    try:
        with ThreadPoolExecutor(1) as pool:
            with (
                acquire_correlator("cuda:0,cuda:1", pool) as one,
                acquire_correlator("cuda:0,cuda:1", pool) as two,
            ):
                assert one is not two
            with pytest.raises(ZeroDivisionError), acquire_correlator("cuda:0,cuda:1", pool) as again:
                assert again is two or again is one
                _ = 1 / 0
            with (
                acquire_correlator("cuda:0,cuda:1", pool) as a,
                acquire_correlator("cuda:0,cuda:1", pool) as b,
            ):
                assert {a, b} == {one, two}, "a tomogram that fails gives its device back"
    finally:
        devices._opened.cache_clear()


def test_cpu_runs_import_neither_cupy_nor_numbas_cuda() -> None:
    script = (
        "import sys, tomopolish.run.align\n"
        "from tomopolish.imaging.devices import cuda_devices\n"
        "cuda_devices('cpu')\n"
        "print([m for m in sys.modules if m.split('.')[0] == 'cupy' or m.startswith('numba.cuda')])"
    )
    done = run_python("-c", script)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.fixture
def cuda_device() -> devices.Correlator:
    """A real device."""
    obstacle = cuda_obstacle()
    if obstacle:
        pytest.skip(obstacle)
    from tomopolish.imaging.devices_cuda import CudaCorrelator

    return CudaCorrelator(device_arrays.CupyArrays(0))


@pytest.mark.gpu
@pytest.mark.parametrize("check", cuda_checks.CHECKS)
def test_device_gives_the_cpus_results(check: Callable[[Any], None], cuda_device: devices.Correlator) -> None:
    check(cuda_device.arrays)  # type: ignore[attr-defined]


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda_device")
@pytest.mark.parametrize("motion", [None, MotionSettings(velocity_scale=0.5, absolute=True)])
def test_device_refines_as_the_cpu_does(mini: Path, motion: MotionSettings | None) -> None:
    """Windows to 1e-5 of their largest value, positions to 1e-3 Å."""
    dataset = open_project(mini)
    series, particles = dataset.load(dataset.tomogram_names[0])
    references = dataset.references()
    found = {}
    for device in ("cpu", "cuda"):
        settings = make_settings(references.half_maps.shape[-1], 6, motion=motion)
        settings = replace(settings, run=replace(settings.run, device=device))
        windows = compute_windows(series, particles, references, settings)
        prepared = pipeline.prepare(references, settings)
        result = align_one(series, particles, prepared, settings)
        found[device] = windows, result.alignment
    cpu, cuda = (found[device][0].values for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda, cpu, rtol=0, atol=1e-5 * np.abs(cpu).max())
    cpu, cuda = (found[device][1].positions_px for device in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda, cpu, rtol=0, atol=1e-3 / series.pixel_size_angstrom)
