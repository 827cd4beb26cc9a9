"""A computation that keeps the input geometry, and takes a minute over TS_02 unless told to hurry."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from faulty_stages import result_of

from tomopolish.dataset.model import Alignment
from tomopolish.progress import Progress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.run.work import Stages
from tomopolish.settings.alignment import AlignSettings


def align(tomogram: Any, prepared: Any, settings: AlignSettings, progress: Progress) -> Any:
    with progress.stage("windows") as stage:
        if tomogram.series.name == "TS_02" and not Path("hurry").exists():
            Path("begun").touch()
            for _ in range(600):
                time.sleep(0.1)
                stage.advance()
    alignment = Alignment(
        tomogram=tomogram.series.name,
        projections_px=tomogram.series.projections_px,
        rows=tomogram.species[0].rows,
        positions_px=tomogram.species[0].positions_px,
    )
    return TomogramResult(alignments=(alignment,), statistics=result_of(tomogram.series.name).statistics)


def prepare(references: Any, settings: AlignSettings) -> str:
    return "prepared"


STAGES = Stages(prepare=prepare, align_tomogram=align)
