"""Wall time, processor time and memory of `tomopolish align`, as multiples of what no such program can avoid.

That yardstick is two FFTs per visible pair: `scipy.fft` rfft2 and irfft2 of its box in float32, on as many
threads. Command and yardstick take turns within one run, so that whatever else a machine does falls on both.

    python benchmarks/speed.py sizes --cache FOLDER       # the sizes at which users wait, and a small one
    python benchmarks/speed.py sizes --only b c/motion --repetitions 1 --cache FOLDER
    python benchmarks/speed.py scaling --cache FOLDER     # particles, tilts, box and threads, and a plot
    python benchmarks/speed.py table --cache FOLDER --into docs/performance.md

Simulated projects stay in the cache folder, and with them the figures (JSON). The last command puts all of
them into the page, between its marks, and the plot (scaling.svg) beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft

from accuracy_tables import insert
from scaling_plot import scaling_plot

RANGE_PX = 20
STAGE = re.compile(r"\(1/1\): (.+), (?:(\d+) min )?([\d.]+) s$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One simulated tomogram and how it is aligned.

    Attributes
    ----------
    name
        Letter of a size in the tables; empty in a scaling study.
    image_px
        Width and height of the tilt images.
    limit, limit_mib
        Largest ratio and peak memory that the project sets itself; None where it sets none.
    """

    name: str = ""
    particles: int = 200
    tilts: int = 41
    box_px: int = 128
    image_px: tuple[int, int] = (1536, 1536)
    pixel_size_angstrom: float = 3.0
    threads: int = 2
    options: tuple[str, ...] = ()
    limit: float | None = None
    limit_mib: float | None = None

    @property
    def label(self) -> str:
        """Name and first option, such as a/static and a/motion."""
        return f"{self.name}/{self.options[0].lstrip('-') if self.options else 'static'}"

    @property
    def project_name(self) -> str:
        """Folder of the project; cases that differ in options only share it."""
        width, height = self.image_px
        return f"p{self.particles}_f{self.tilts}_b{self.box_px}_i{width}x{height}"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Medians over the repetitions.

    Attributes
    ----------
    ratio
        Wall time of the command over the yardstick's; ``cpu_ratio`` is the same of processor time, which
        other programs on the machine disturb less.
    stage_ratios
        Wall time of each stage over the yardstick's.
    """

    case: Case
    pairs: int
    seconds: float
    cpu_seconds: float
    yardstick_seconds: float
    ratio: float
    cpu_ratio: float
    peak_mib: float
    stage_ratios: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class ChildRun:
    """Time and memory of one command."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str


def run_child(command: list[str], folder: Path) -> ChildRun:
    """Run a command to its end; stops the benchmark when it fails."""
    log = folder / "command.log"
    with log.open("w") as stream:
        start = time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, env=INSTALLED, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
    output = log.read_text()
    if child.returncode:
        sys.exit(f"{' '.join(command)}\n{output}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return ChildRun(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / unit,
        output=output,
    )


def project(case: Case, cache: Path) -> Path:
    """Folder of the case's project, simulated when it is not there yet."""
    folder = cache / case.project_name
    if not (folder / "optimisation_set.star").exists():
        half_range = 1.5 * (case.tilts - 1)
        step = 3.0 if half_range <= 60 else 120 / (case.tilts - 1)
        arguments = {
            "--particles": case.particles,
            "--tilt_range": min(half_range, 60.0),
            "--tilt_step": step,
            "--box": case.box_px,
            "--pixel_size": case.pixel_size_angstrom,
            "--thickness": thickness_angstrom(case),
            "--j": os.cpu_count() or 1,
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        cache.mkdir(parents=True, exist_ok=True)
        size = ["--image_size", *map(str, case.image_px)]
        run_child([*PROGRAM, "simulate", "--o", str(folder.resolve()), *size, *words], cache)
    return folder


def thickness_angstrom(case: Case) -> float:
    """Thickness of a specimen in which the particles have room."""
    width, height = case.image_px
    area_per_particle = width * height / case.particles
    depth_px = 2.5 * case.box_px * max(1.0, 1.5 * case.box_px**2 / area_per_particle)
    return max(900.0, depth_px * case.pixel_size_angstrom)


def yardstick(box_px: int, pairs: int, threads: int) -> tuple[float, float]:
    """Wall and processor seconds of the FFTs that `pairs` pairs cannot do without; the median of some."""
    batch = max(1, min(pairs, 2**22 // box_px**2))
    boxes = np.random.default_rng(0).standard_normal((batch, box_px, box_px), dtype=np.float32)
    times = []
    end = time.perf_counter() + 1.5
    while time.perf_counter() < end or len(times) < 6:
        start = time.perf_counter(), time.process_time()
        scipy.fft.irfft2(scipy.fft.rfft2(boxes, workers=threads), s=(box_px, box_px), workers=threads)
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = np.median(times[1:], axis=0) / batch * pairs
    return float(wall), float(cpu)


def measure(case: Case, cache: Path, repetitions: int) -> Measurement:
    """Run the command once to warm up, unless it runs once only, then in turn with the yardstick."""
    folder = project(case, cache)
    command = [
        *PROGRAM, "align", "--i", "optimisation_set.star", "--o", "aligned", "--b", str(case.box_px),
        "--r", str(RANGE_PX), "--j", str(case.threads), "--device", "cpu", *case.options,
    ]  # fmt: skip
    if repetitions > 1:
        run_child(command, folder)
    pairs = visible_pairs(folder, case)
    runs, marks = [], []
    for _ in range(repetitions):
        marks.append(yardstick(case.box_px, pairs, case.threads))
        runs.append(run_child(command, folder))
    wall, cpu = np.median(marks, axis=0)
    seconds = float(np.median([run.seconds for run in runs]))
    cpu_seconds = float(np.median([run.cpu_seconds for run in runs]))
    stages: dict[str, list[float]] = {}
    for run in runs:
        for name, minutes, rest in STAGE.findall(run.output):
            stages.setdefault(name, []).append(60 * int(minutes or 0) + float(rest))
    return Measurement(
        case=case,
        pairs=pairs,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        yardstick_seconds=float(wall),
        ratio=seconds / float(wall),
        cpu_ratio=cpu_seconds / float(cpu),
        peak_mib=max(run.peak_mib for run in runs),
        stage_ratios={name: float(np.median(times) / wall) for name, times in stages.items()},
    )


def visible_pairs(folder: Path, case: Case) -> int:
    """Count the pairs that take part in the input alignment."""
    from tomopolish.dataset.project import open_dataset  # noqa: PLC0415
    from tomopolish.imaging.windows import pair_geometry  # noqa: PLC0415  scripts that only plot

    here = Path.cwd()
    os.chdir(folder)  # the set's paths are relative to it
    try:
        dataset = open_dataset(Path("optimisation_set.star"))
        series, particles = dataset.load(dataset.tomogram_names[0])
    finally:
        os.chdir(here)
    geometry = pair_geometry(series, particles, case.box_px, np.ones(len(series), dtype=bool))
    return int(geometry.visible.sum())


INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An installed program has compiled files; this variable would have every start compile its source anew."""
PROGRAM = [sys.executable, "-m", "tomopolish"]
SMALL = Case(name="small", limit=3.2)
FOURIER = ("--deformation", "--def_model", "Fourier")
SIZES = [
    Case(name="a", particles=600, image_px=(2048, 2048), limit=1.4),
    Case(name="a", particles=600, image_px=(2048, 2048), options=("--motion",), limit=3.0),
    Case(name="a", particles=600, image_px=(2048, 2048), options=FOURIER, limit=2.0),
    Case(name="b", particles=500, box_px=256, image_px=(4096, 4096), limit=1.4, limit_mib=1024),
    Case(
        name="c", particles=3600, box_px=192, image_px=(3838, 3710), pixel_size_angstrom=1.35,
        limit=1.2, limit_mib=1536,
    ),
    Case(
        name="c", particles=3600, box_px=192, image_px=(3838, 3710), pixel_size_angstrom=1.35,
        options=("--motion",), limit_mib=2048,
    ),
    SMALL,
]  # fmt: skip
SCALING = {
    "particles": [replace(SMALL, particles=n) for n in (20, 60, 200, 600, 2000)],
    "tilts": [replace(SMALL, tilts=n) for n in (11, 21, 41, 81)],
    "box_px": [
        replace(SMALL, particles=60, box_px=n, image_px=(1536, 1536) if n < 300 else (2048, 2048))
        for n in (96, 128, 256, 384)
    ],
    "threads": [replace(SMALL, threads=n) for n in (1, 2, 4, 8) if n <= (os.cpu_count() or 1)],
}


def table(measurements: list[Measurement]) -> str:
    """Markdown table of some measurements."""
    names = (
        "case particles tilts box images threads options pairs wall_s CPU_s FFTs_s ratio limit CPU_ratio MiB"
    )
    cells = [name.replace("_", " ") for name in names.split()]
    lines = ["| " + " | ".join(cells) + " |", "|" + "---|" * len(cells)]
    for m in measurements:
        c = m.case
        cells = [
            c.name, c.particles, c.tilts, c.box_px, "{} × {}".format(*c.image_px), c.threads,
            " ".join(c.options) or "static", m.pairs, f"{m.seconds:.2f}", f"{m.cpu_seconds:.2f}",
            f"{m.yardstick_seconds:.2f}", f"{m.ratio:.2f}", c.limit or "", f"{m.cpu_ratio:.2f}",
            f"{m.peak_mib:.0f}" + (f" of {c.limit_mib:.0f}" if c.limit_mib else ""),
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def stage_table(measurements: list[Measurement]) -> str:
    """Markdown table of the stages' ratios."""
    lines = ["| case | options | stages, as multiples of the FFTs |", "|---|---|---|"]
    for m in measurements:
        cells = ", ".join(f"{name} {ratio:.2f}" for name, ratio in m.stage_ratios.items())
        lines.append(f"| {m.case.name} | {' '.join(m.case.options) or 'static'} | {cells} |")
    return "\n".join(lines)


HEADINGS = {
    "sizes": "Sizes at which users wait",
    "particles": "Particles",
    "tilts": "Tilt images",
    "box_px": "Box",
    "threads": "Threads",
}


def recorded(cache: Path) -> dict[str, list[Measurement]]:
    """All measurements that a cache folder holds, by what was varied."""
    found: dict[str, list[Measurement]] = {}
    for what in ("sizes", "scaling"):
        path = cache / f"{what}.json"
        if path.exists():
            for axis, rows in json.loads(path.read_text()).items():
                found[axis] = [_measurement(row) for row in rows]
    return found


def _measurement(row: dict[str, Any]) -> Measurement:
    lists = {name: tuple(row["case"][name]) for name in ("options", "image_px")}
    case = Case(**{**row["case"], **lists})
    return Measurement(**{**row, "case": case})


def growth(axis: str, measured: list[Measurement]) -> str:
    """How processor time grows with a size, as exponents between neighbouring sizes."""
    sizes = [float(getattr(m.case, axis)) for m in measured]
    times = [m.cpu_seconds for m in measured]
    exponents = np.diff(np.log(times)) / np.diff(np.log(sizes))
    return "Processor time grows with the power " + ", ".join(f"{e:.2f}" for e in exponents) + "."


def markdown(found: dict[str, list[Measurement]]) -> str:
    """Tables of everything, a heading each."""
    parts = []
    for axis, measured in found.items():
        parts.append(f"### {HEADINGS[axis]}\n\n{table(measured)}")
        if axis == "sizes":
            parts.append(stage_table(measured))
        elif axis != "threads":
            parts.append(growth(axis, measured))
    return "\n\n".join(parts)


def write_page(cache: Path, page: Path) -> None:
    """Put tables and plot into the documentation."""
    found = recorded(cache)
    page.write_text(insert(page.read_text(), markdown(found)))
    curves = {axis: found[axis] for axis in SCALING if axis in found}
    if curves:
        points = {
            axis: [(getattr(m.case, axis), m.cpu_seconds, m.ratio) for m in measured]
            for axis, measured in curves.items()
        }
        (page.parent / "scaling.svg").write_text(scaling_plot(points))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["sizes", "scaling", "table"])
    parser.add_argument("--cache", type=Path, required=True, help="folder of projects and figures")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", nargs="+", help="names of sizes, such as a, small, or c/motion")
    parser.add_argument("--into", type=Path, help="page to put the tables into")
    arguments = parser.parse_args()
    if arguments.what == "table":
        if arguments.into is None:
            print(markdown(recorded(arguments.cache)))
        else:
            write_page(arguments.cache, arguments.into)
        return
    names = arguments.only or [case.name for case in SIZES]
    sizes = {"sizes": [case for case in SIZES if case.name in names or case.label in names]}
    wanted = sizes if arguments.what == "sizes" else SCALING
    known: dict[Case, Measurement] = {}
    found: dict[str, list[Measurement]] = {}
    for axis, cases in wanted.items():
        for case in cases:
            if case not in known:
                known[case] = measure(case, arguments.cache, arguments.repetitions)
                print(table([known[case]]).splitlines()[-1], flush=True)
        found[axis] = [known[case] for case in cases]
    if "sizes" in found:  # those that were not measured now keep their earlier figures
        known = {m.case: m for m in recorded(arguments.cache).get("sizes", [])} | known
        found["sizes"] = [known[case] for case in SIZES if case in known]
    figures = {axis: [asdict(m) for m in measured] for axis, measured in found.items()}
    (arguments.cache / f"{arguments.what}.json").write_text(json.dumps(figures, indent=1))
    print(markdown(found))


if __name__ == "__main__":
    main()
