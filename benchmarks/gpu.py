"""How long a tomogram takes on a CUDA device, beside the least that moving its bytes can take.

Without a project: the floor of the published case alone. With one (``tomopolish simulate`` makes them), its
first tomogram is refined several times on each device, as the later tomograms of a run are: kernels compiled,
references on the device. Shown are the least times of the stages, with images read from their files and with
images that lie in memory, that of one pass of a joint refinement (``--joint``), how far the devices' results
differ, and, with ``--steps``, what each step takes on the device and the host::

    python benchmarks/gpu.py
    python benchmarks/gpu.py --i project/optimisation_set.star --b 256 --r 12 --j 16 --devices cpu cuda
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import gpu_steps
import tomopolish
from tomopolish.dataset.model import Particles, TiltSeries, Tomogram
from tomopolish.dataset.reading import image_alone, prefetch
from tomopolish.imaging.devices import acquire_correlator
from tomopolish.imaging.noise import Turn, tile_grid
from tomopolish.pipeline import PreparedReferences, align_tomogram, prepare
from tomopolish.progress import SilentProgress
from tomopolish.settings.alignment import AlignSettings, InputPaths, RunSettings, WindowSettings

H100_BYTES_PER_SECOND = 3.35e12
"""Device memory of an H100 SXM, by its data sheet."""

PCIE_BYTES_PER_SECOND = 55e9
"""Measured rate of PCIe 5.0 × 16 in one direction, of 64e9 by its specification."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """The size of one tomogram's correlation."""

    pairs: int
    tilts: int
    box_px: int
    image_px: tuple[int, int]
    columns: int
    samples: int


def floor_bytes(case: Case) -> dict[str, float]:
    """Bytes that must move: through device memory, except for the images, which come over the bus.

    Each array that one step leaves to the next is written once and read once. A slice of the reference
    touches two layers of its lattice.
    """
    pixels = case.box_px**2
    spectrum = 8 * case.box_px * (case.box_px // 2 + 1)
    used = 2 * case.columns**2  # pixels of the half plane that take part
    transform = 4 * pixels + 3 * spectrum  # in, and two passes: out, in, out
    turns = [Turn(index=tilt, count=case.tilts) for tilt in range(case.tilts)]
    grids = [tile_grid(case.image_px[::-1], case.box_px, case.box_px / 2, turn) for turn in turns]
    tiles = sum(grid.rows * grid.columns for grid in grids)
    return {
        "upload": 4.0 * case.tilts * case.image_px[0] * case.image_px[1],
        "noise": tiles * (2 * 4 * pixels + transform + 8 * case.box_px * case.columns),
        "extraction": case.pairs * 2 * 4 * pixels,
        "transforms": case.pairs * transform,
        "comparison": case.pairs * used * (8 + 2 * 8 + 8),
        "small inverse": case.pairs * (8 * used + 4 * case.samples**2),
    }


def floor_seconds(case: Case) -> dict[str, float]:
    """Least time of each step on an H100."""
    return {
        step: count / (PCIE_BYTES_PER_SECOND if step == "upload" else H100_BYTES_PER_SECOND)
        for step, count in floor_bytes(case).items()
    }


def show_floor(case: Case) -> float:
    """Print the floor step by step; returns its sum in seconds."""
    counts, times = floor_bytes(case), floor_seconds(case)
    print(f"{case}\n{'step':<14} {'GB':>8} {'ms':>8}")
    for step, seconds in times.items():
        print(f"{step:<14} {counts[step] / 1e9:8.1f} {1e3 * seconds:8.1f}")
    total = sum(times.values())
    print(f"{'sum':<14} {sum(counts.values()) / 1e9:8.1f} {1e3 * total:8.1f}\n")
    return total


@dataclass(frozen=True, eq=False)
class HeldImages:
    """Tilt images that lie in memory."""

    images: list[np.ndarray]

    @property
    def size_px(self) -> tuple[int, int]:
        """(w, h) of every image."""
        height, width = self.images[0].shape
        return width, height

    def __len__(self) -> int:
        return len(self.images)

    def read(self, tilt: int) -> np.ndarray:
        """Return one tilt image."""
        return self.images[tilt]


def held(series: TiltSeries, memory: Callable[[tuple[int, ...]], np.ndarray]) -> TiltSeries:
    """Read all images into memory of the given kind."""
    width, height = series.image_size_px
    images = [memory((height, width)) for _ in range(len(series))]
    for tilt, image in enumerate(images):
        image[...] = series.images.read(tilt)
    return replace(series, images=HeldImages(images))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The least times of one device's repetitions, s, its positions, and its gradients in a joint pass."""

    device: str
    images: str
    seconds: float
    stages: dict[str, float]
    joint_pass: float
    positions_px: list[list[float]]
    gradients: list[list[float]]


def measure(arguments: argparse.Namespace) -> None:
    """Time the refinement of a project's first tomogram, and its windows step by step."""
    project = tomopolish.load(arguments.i).first
    series, particles = project.load(project.tomogram_names[0])
    reading = [read_all(series, arguments.j) for _ in range(2)][-1]
    case, outcomes = None, []
    for device in arguments.devices:
        settings = AlignSettings(
            inputs=InputPaths(optimisation_set=arguments.i),
            windows=WindowSettings(box_px=arguments.b, range_px=arguments.r),
            run=RunSettings(output_folder=Path("unused"), threads=arguments.j, device=device),
        )
        references = prepare(project.references(), settings)
        case = case or case_of(series, particles, references.weight.last_frequency, arguments)
        with acquire_correlator(device, None) as correlator:
            in_memory = held(series, correlator.host_memory)
        for images, source in (("files", series), ("memory", in_memory)):
            runs = []
            for _ in range(arguments.repeat):
                start = time.perf_counter()
                result = align_tomogram(
                    Tomogram(series=source, species=(particles,)), [references], settings, SilentProgress()
                )
                runs.append((time.perf_counter() - start, dict(result.statistics.seconds_by_stage)))
            seconds, gradients = joint_pass(source, particles, references, settings, arguments.repeat)
            outcomes.append(
                Outcome(
                    device=device,
                    images=images,
                    seconds=min(total for total, _ in runs),
                    stages={name: min(stages[name] for _, stages in runs) for name in runs[0][1]},
                    joint_pass=seconds,
                    positions_px=result.alignment.positions_px.tolist(),
                    gradients=gradients.tolist(),
                )
            )
            print(f"{device}, images from {images}: first {runs[0][0]:.3f} s", flush=True)
        del in_memory, source
        if arguments.steps and device.startswith("cuda"):
            for steps in (gpu_steps.correlation_steps, gpu_steps.joint_steps):
                print(steps.__name__)
                gpu_steps.show(steps(series, particles, references, settings))
    assert case is not None
    report(case, reading, outcomes, series.pixel_size_angstrom)
    if arguments.json:
        figures = {"reading": reading, "floor": floor_seconds(case), "case": asdict(case)}
        arguments.json.write_text(json.dumps(figures | {"outcomes": [asdict(o) for o in outcomes]}))


def joint_pass(
    series: TiltSeries,
    particles: Particles,
    references: PreparedReferences,
    settings: AlignSettings,
    repeat: int,
) -> tuple[float, np.ndarray]:
    """Return the least time of a pass of a joint refinement, s, and the particles' gradients."""
    times = []
    with (
        ThreadPoolExecutor(settings.run.threads) as pool,
        acquire_correlator(settings.run.device, pool) as correlator,
    ):
        run = gpu_steps.joint_pass(series, particles, references, settings, correlator)
        for _ in range(repeat):
            start = time.perf_counter()
            equations = run()
            times.append(time.perf_counter() - start)
    return min(times), equations.particle_gradient


def read_all(series: TiltSeries, threads: int) -> float:
    """Seconds that reading every tilt image takes, with nothing else going on."""
    start = time.perf_counter()
    for _ in prefetch(series, np.arange(len(series)), image_alone, threads=threads):
        pass
    return time.perf_counter() - start


def case_of(series: TiltSeries, particles: Particles, last: float, arguments: argparse.Namespace) -> Case:
    """Return the size of the work, every particle being visible in every image."""
    return Case(
        pairs=len(series) * len(particles),
        tilts=len(series),
        box_px=arguments.b,
        image_px=series.image_size_px,
        columns=min(int(np.ceil(last)) + 1, arguments.b // 2 + 1),
        samples=2 * (arguments.r + 4),
    )


def report(case: Case, reading: float, outcomes: list[Outcome], pixel_angstrom: float) -> None:
    """Print times beside the floor, and how far the results of other devices are from the first one's."""
    floor = show_floor(case)
    print(f"reading all images once, alone: {reading:.3f} s")
    for outcome in outcomes:
        windows = outcome.stages["noise"] + outcome.stages["correlation"]
        stages = ", ".join(f"{name} {seconds:.3f}" for name, seconds in outcome.stages.items())
        name = f"{outcome.device}, images from {outcome.images}"
        print(f"{name}: tomogram {outcome.seconds:.3f} s ({stages})")
        print(f"  noise and correlation {windows:.3f} s, {windows / floor:.1f} × the H100's floor")
        apart = np.abs(np.subtract(outcome.positions_px, outcomes[0].positions_px)).max() * pixel_angstrom
        print(f"  a pass of a joint refinement {outcome.joint_pass:.3f} s", end="")
        print(f", {outcome.joint_pass / outcome.stages['correlation']:.1f} × correlation")
        first = np.array(outcomes[0].gradients)
        gradients = np.abs(outcome.gradients - first).max(axis=0) / np.abs(first).max(axis=0)
        print(f"  gradients differ by up to {gradients.max():.1e} of the largest")
        print(f"  positions differ from {outcomes[0].device}'s by up to {apart:.2e} Å")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--i", type=Path, help="optimisation set")
    parser.add_argument("--b", type=int, default=256, help="box, px")
    parser.add_argument("--r", type=int, default=12, help="range, px")
    parser.add_argument("--j", type=int, default=1, help="threads")
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"], help="as --device takes them")
    parser.add_argument("--repeat", type=int, default=4, help="how often each device refines the tomogram")
    parser.add_argument("--steps", action="store_true", help="show what each step on the device takes")
    parser.add_argument("--json", type=Path, help="file that receives the figures")
    arguments = parser.parse_args()
    if arguments.i is None:
        show_floor(Case(pairs=500 * 41, tilts=41, box_px=256, image_px=(4096, 4096), columns=129, samples=32))
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
