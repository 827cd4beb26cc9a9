"""A project without files, and a computation that goes wrong on demand; importable by workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tomopolish.dataset.model import Alignment, Tomogram
from tomopolish.errors import InputError, RunError
from tomopolish.progress import Progress
from tomopolish.results.tomogram import TomogramResult, TomogramStatistics
from tomopolish.run.work import Stages
from tomopolish.settings.alignment import AlignSettings


@dataclass(frozen=True)
class Project:
    """The names of its tomograms say what becomes of them."""

    tomogram_names: Sequence[str]
    folder: Path
    species: tuple[Any, ...] = ()

    @property
    def first(self) -> Any:
        tomograms = SimpleNamespace(series_file=_no_series_file)
        paths = {"tomograms": Path("tomograms.star")}
        return SimpleNamespace(
            files=SimpleNamespace(paths=paths, working_directory=self.folder), tomograms=tomograms
        )

    def references(self, *, keep: bool = False) -> Any:
        return str(self.folder)

    def tomogram(self, name: str) -> Any:
        from small_project import make_particles, make_series

        series = make_series(np.random.default_rng(0), np.zeros((3, 8, 8)), name=name)
        return Tomogram(series=series, species=(make_particles(np.random.default_rng(1), np.zeros((2, 3))),))


def _no_series_file(name: str) -> Path:
    raise InputError(f"no file for {name}")


def result_of(name: str) -> TomogramResult:
    statistics = TomogramStatistics(
        particles=2,
        visible_pairs=6,
        log_likelihood_gain=1.0,
        rms_shift_angstrom=1.0,
        rms_angle_degrees=1.0,
        rms_position_angstrom=1.0,
        seconds_by_stage={"windows": 1.0},
        evaluations=3,
        warnings=(f"{name} is odd",) if name == "odd" else (),
    )
    alignment = Alignment(
        tomogram=name,
        projections_px=np.full((3, 4, 4), float(len(name))),
        rows=np.arange(2),
        positions_px=np.zeros((2, 3)),
    )
    return TomogramResult(alignments=(alignment,), statistics=statistics)


def end_the_job() -> None:
    """End all processes of the Slurm job that this is one of, some time after its worker has connected."""
    time.sleep(2)
    os.killpg(0, signal.SIGKILL)


ENDS_ONCE = {
    "killed once": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "at the job's time limit": end_the_job,
}


def align(tomogram: Any, folder: str, settings: AlignSettings, progress: Progress) -> TomogramResult:
    name = tomogram.series.name
    with progress.stage("windows") as stage:
        stage.advance()
        (Path(folder) / f"{name}.begun").touch()
        if name.startswith("where"):
            (Path(folder) / f"{name}.device").write_text(f"{os.getpid()} {settings.run.device}")
            time.sleep(0.3)
        if name in ENDS_ONCE and not (Path(folder) / "killed").exists():
            (Path(folder) / "killed").touch()
            ENDS_ONCE[name]()
        if name == "killed always":
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "no memory":
            raise MemoryError
        if name == "internal":
            raise LookupError("\x1b[1mFailed\x1b[0m\nin the \x1b[31mpipeline\x1b[0m")
        if name == "unreadable":
            raise RunError("TS.mrcs: section 3 cannot be read")
        if name == "greedy":
            hoard = [np.ones(2**24) for _ in range(12)]
            time.sleep(20)
            assert hoard
        if name == "slow":
            for _ in range(600):
                time.sleep(0.1)
                stage.advance()
    return result_of(name)


def prepare(references: Any, settings: AlignSettings) -> str:
    return str(references)


STAGES = Stages(prepare=prepare, align_tomogram=align)
