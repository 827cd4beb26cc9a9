"""Throughput of several workers, and the cost of merging a thousand tomograms.

python benchmarks/cluster.py throughput --tomograms 200
python benchmarks/cluster.py merge --tomograms 1000 --particles 1000 --tilts 41

A run alone on two cores tells the throughput; the merge is timed without making its inputs.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tomopolish.dataset.model import Alignment
from tomopolish.dataset.mrc import write_stack
from tomopolish.dataset.project import open_dataset
from tomopolish.results.tomogram import TomogramResult, TomogramStatistics
from tomopolish.run.local import RunReport
from tomopolish.run.store import ResultsStore, StoredResults

BOX = 48
SIMULATED = 2


def tomopolish(*arguments: str, folder: Path) -> Timing:
    """Run a command to its end."""
    start, finished = time.perf_counter(), []
    command = [sys.executable, "-m", "tomopolish", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "refined, " in line:
                finished.append(time.perf_counter())
    if process.returncode:
        raise SystemExit(f"tomopolish {arguments[0]} ended with {process.returncode}")
    return Timing(seconds=time.perf_counter() - start, finished=finished)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long a command took, and when it told of each refined tomogram."""

    seconds: float
    finished: list[float]

    @property
    def rate(self) -> float:
        """Tomograms per second, from the first tenth that is finished to the last but a tenth."""
        margin = max(1, len(self.finished) // 10)
        first, last = margin - 1, len(self.finished) - margin
        return (last - first) / (self.finished[last] - self.finished[first])


def throughput(folder: Path, tomograms: int, particles: int) -> None:
    simulated, project = folder / "simulated", folder / "project"
    tomopolish(
        *f"simulate --o simulated --tomograms {SIMULATED} --particles {particles} --box {BOX}".split(),
        *["--image_size", "384", "384", "--tilt_step", "6", "--seed", "1", "--snr", "60", "--j", "2"],
        folder=folder,
    )
    repeat(simulated, project, tomograms)
    align = f"align --i optimisation_set.star --b {BOX} --r 8".split()
    tomopolish(*align, "--o", "warm", folder=simulated)  # whatever is compiled once is compiled now
    timings = {}
    for workers in (1, 2):
        options = f"--workers {workers} --j {workers} --o out{workers}".split()
        timings[workers] = tomopolish(*align, *options, folder=project)
    again = tomopolish(*align, *options, "--only_do_unfinished", folder=project)
    written = ["particles.star", *[f"tilt_series/{name}.star" for name in repeated_names(tomograms)]]
    same = all((project / "out1" / f).read_bytes() == (project / "out2" / f).read_bytes() for f in written)
    one, two = timings[1], timings[2]
    print(f"{tomograms} tomograms of {particles} particles, 1 worker, 2 workers, ratio:")
    print(f"tomograms per second: {one.rate:.2f}, {two.rate:.2f}, {two.rate / one.rate:.2f}")
    ratio = one.seconds / two.seconds
    print(f"whole command, from start to report: {one.seconds:.1f} s, {two.seconds:.1f} s, {ratio:.2f}")
    print(f"rerun with --only_do_unfinished {again.seconds:.1f} s; sets identical: {same}")


def repeated_names(tomograms: int) -> list[str]:
    return [f"TS_{i:04d}" for i in range(1, tomograms + 1)]


def repeat(simulated: Path, project: Path, tomograms: int) -> None:
    """Make a project of many tomograms out of one with few: tables of their own, links to the images."""
    (project / "tilt_series").mkdir(parents=True)
    for path in simulated.iterdir():
        if path.is_file() and path.name not in ("tomograms.star", "particles.star"):
            (project / path.name).symlink_to(path)
    sources = [f"TS_{i + 1:0{len(str(max(SIMULATED, 10)))}d}" for i in range(SIMULATED)]
    names = dict(zip(repeated_names(tomograms), sources * tomograms, strict=False))
    for name, source in names.items():
        (project / f"tilt_series/{name}.mrcs").symlink_to(simulated / f"tilt_series/{source}.mrcs")
        series = (simulated / f"tilt_series/{source}.star").read_text()
        (project / f"tilt_series/{name}.star").write_text(series.replace(source, name))
    for file in ("tomograms.star", "particles.star"):
        lines = (simulated / file).read_text().rstrip("\n").split("\n")
        kept = [line for line in lines if not line.startswith("TS_")]
        for name, source in names.items():
            kept += [line.replace(source, name) for line in lines if line.startswith(source)]
        (project / file).write_text("\n".join([*kept, ""]))


def merge(folder: Path, tomograms: int, particles: int, tilts: int) -> None:
    write_inputs(folder, tomograms, particles, tilts)
    dataset = open_dataset(folder / "optimisation_set.star", working_directory=folder)
    store = ResultsStore(folder=folder / "out/temp")
    rng = np.random.default_rng(1)
    for name in dataset.tomogram_names:
        series, found = dataset.load(name)
        alignment = Alignment(
            tomogram=name,
            projections_px=series.projections_px,
            rows=found.rows,
            positions_px=found.positions_px,
            trajectories_px=rng.normal(size=(particles, tilts, 3)),
        )
        store.save(name, TomogramResult(alignments=(alignment,), statistics=figures(particles)), {})
    dataset = open_dataset(folder / "optimisation_set.star", working_directory=folder)
    report = RunReport(results=StoredResults(store=store, names=dataset.tomogram_names), failures={})
    start, begin = time.perf_counter(), time.process_time()
    dataset.write(folder / "out", report.alignments, motion=True)
    seconds, busy = time.perf_counter() - start, time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = (folder / "out/motion.star").stat().st_size / 1e9
    print(
        f"{tomograms} tomograms, {particles} particles, {tilts} tilts: {seconds:.1f} s, peak {peak:.2f} GiB"
    )
    print(f"motion.star {size:.2f} GB, processor time {busy:.1f} s")


def figures(particles: int) -> TomogramStatistics:
    return TomogramStatistics(
        particles=particles,
        visible_pairs=particles,
        log_likelihood_gain=1.0,
        rms_shift_angstrom=1.0,
        rms_angle_degrees=1.0,
        rms_position_angstrom=1.0,
        seconds_by_stage={},
        evaluations=1,
    )


def write_inputs(folder: Path, tomograms: int, particles: int, tilts: int) -> None:
    """Write a project of which only the tables are real: all tilt series share one stack."""
    blank = (np.zeros((64, 64), dtype=np.float32) for _ in range(tilts))
    write_stack(
        folder / "stack.mrcs", blank, count=tilts, size_px=(64, 64), pixel_size_angstrom=3.0, dtype="float32"
    )
    (folder / "tilt_series").mkdir(parents=True)
    names = [f"TS_{i:04d}" for i in range(tomograms)]
    for name in names:
        rows = "".join(
            f"0 {3 * t - 60} 85 0 0 30000 30000 0 {3 * t} {t + 1:06d}@stack.mrcs\n" for t in range(tilts)
        )
        labels = (
            "TomoXTilt TomoYTilt TomoZRot TomoXShiftAngst TomoYShiftAngst DefocusU DefocusV DefocusAngle "
            "MicrographPreExposure MicrographName"
        )
        (folder / f"tilt_series/{name}.star").write_text(table(name, labels, rows))
    rows = "".join(f"{name} tilt_series/{name}.star 300 2.7 0.1 3.0 -1 600 600 300\n" for name in names)
    labels = (
        "TomoName TomoTiltSeriesStarFile Voltage SphericalAberration AmplitudeContrast "
        "TomoTiltSeriesPixelSize TomoHand TomoSizeX TomoSizeY TomoSizeZ"
    )
    (folder / "tomograms.star").write_text(table("global", labels, rows))
    optics = table(
        "optics",
        "OpticsGroup OpticsGroupName Voltage SphericalAberration AmplitudeContrast TomoTiltSeriesPixelSize",
        "1 all 300 2.7 0.1 3.0\n",
    )
    labels = (
        "TomoName TomoParticleName CenteredCoordinateXAngst CenteredCoordinateYAngst "
        "CenteredCoordinateZAngst AngleRot AngleTilt AnglePsi RandomSubset OpticsGroup OriginXAngst "
        "OriginYAngst OriginZAngst"
    )
    with (folder / "particles.star").open("w") as stream:
        stream.write(optics + table("particles", labels, ""))
        for name in names:
            stream.writelines(
                f"{name} {name}/{p} {p % 7}.125 {p % 11}.5 {p % 13}.25 10 20 30 {1 + p % 2} 1 0 0 0\n"
                for p in range(particles)
            )
    (folder / "optimisation_set.star").write_text(
        "data_\n\n_rlnTomoParticlesFile particles.star\n_rlnTomoTomogramsFile tomograms.star\n"
    )


def table(name: str, labels: str, rows: str) -> str:
    heading = "".join(f"_rln{label} #{i}\n" for i, label in enumerate(labels.split(), start=1))
    return f"\n# version 50001\n\ndata_{name}\n\nloop_\n{heading}{rows}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["throughput", "merge"])
    parser.add_argument("--tomograms", type=int, default=1000)
    parser.add_argument("--particles", type=int, help="of each tomogram: 1000, or 8 for the throughput")
    parser.add_argument("--tilts", type=int, default=41)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.what == "throughput":
            throughput(Path(folder), given.tomograms, given.particles or 8)
        else:
            merge(Path(folder), given.tomograms, given.particles or 1000, given.tilts)


if __name__ == "__main__":
    main()
