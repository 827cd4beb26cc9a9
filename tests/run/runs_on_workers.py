"""Runs of `faulty_stages` on an open cluster, and a reporter that keeps what they say."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from faulty_stages import STAGES, Project

from tomopolish.run.cluster.distributed import refine_on_cluster
from tomopolish.run.cluster.launch import Cluster
from tomopolish.run.local import RunReport, refine
from tomopolish.run.reporter import SilentReporter
from tomopolish.run.store import ResultsStore
from tomopolish.settings.alignment import AlignSettings, InputPaths, RunSettings, WindowSettings


class Listener(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def refined(cluster: Cluster, folder: Path, *names: str) -> RunReport:
    settings = AlignSettings(
        inputs=InputPaths(optimisation_set=Path("optimisation_set.star")),
        windows=WindowSettings(box_px=96),
        run=RunSettings(output_folder=folder),
    )
    return refine(
        Project(names or ("TS_01",), folder),
        settings,
        STAGES,
        SilentReporter(),
        store=ResultsStore(folder=folder / "temp"),
        runner=partial(refine_on_cluster, cluster, look=lambda: None),
    )
