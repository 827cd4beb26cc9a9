"""How long correlation windows take on a device, beside the least that moving their bytes can take.

Without a project: the floor of the published case alone. With one (``tomopolish simulate`` makes them), the
windows of its first tomogram are computed twice on each device, and the second time is shown::

    python benchmarks/gpu.py
    python benchmarks/gpu.py --i project/optimisation_set.star --b 256 --r 12 --devices cpu cuda
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tomopolish
from tomopolish.correlation.noise import Turn, tile_grid
from tomopolish.pipeline import correlation_windows, prepare
from tomopolish.progress import SilentProgress
from tomopolish.settings import AlignSettings, InputPaths, RunSettings, WindowSettings

H100_BYTES_PER_SECOND = 3.35e12
"""Device memory of an H100 SXM, by its data sheet."""

PCIE_BYTES_PER_SECOND = 55e9
"""What PCIe 5.0 × 16 carries one way, of 64e9 by its specification."""


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


def measure(arguments: argparse.Namespace) -> None:
    """Time the windows of a project's first tomogram."""
    project = tomopolish.load(arguments.i)
    series, particles = project.load(project.tomogram_names[0])
    floor = 0.0
    for device in arguments.devices:
        settings = AlignSettings(
            inputs=InputPaths(optimisation_set=arguments.i),
            windows=WindowSettings(box_px=arguments.b, range_px=arguments.r),
            run=RunSettings(output_folder=Path("unused"), threads=arguments.j, device=device),
        )
        references = prepare(project.references(), settings)
        for _ in range(2):
            start = time.perf_counter()
            with ThreadPoolExecutor(arguments.j) as pool:
                found = correlation_windows(series, particles, references, settings, pool, SilentProgress())
            seconds = time.perf_counter() - start
        if not floor:
            floor = show_floor(
                Case(
                    pairs=int(np.count_nonzero(found.visible)),
                    tilts=len(series),
                    box_px=arguments.b,
                    image_px=series.image_size_px,
                    columns=min(int(np.ceil(references.weight.last_frequency)) + 1, arguments.b // 2 + 1),
                    samples=found.values.shape[-1],
                )
            )
        print(f"{device}: {seconds:.3f} s with reading the images, {seconds / floor:.1f} × the H100's floor")


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--i", type=Path, help="optimisation set")
    parser.add_argument("--b", type=int, default=256, help="box, px")
    parser.add_argument("--r", type=int, default=12, help="range, px")
    parser.add_argument("--j", type=int, default=1, help="threads")
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"], help="as --device takes them")
    arguments = parser.parse_args()
    if arguments.i is None:
        show_floor(Case(pairs=500 * 41, tilts=41, box_px=256, image_px=(4096, 4096), columns=129, samples=32))
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
