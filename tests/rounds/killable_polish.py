"""A real polishing run in a process of its own, whose second tomogram takes a minute in round 2.

``killable_polish.py unmoved …`` keeps the input geometry, ``killable_polish.py refined …`` refines it.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "run")]


def wait_in_round_2(tomogram: Any, settings: Any, progress: Any) -> None:
    """Note the tomogram in ``computed``, and wait at the second one of round 2 unless ``hurry`` exists."""
    name, round_name = tomogram.series.name, settings.run.output_folder.name
    with Path("computed").open("a") as log:
        log.write(f"{round_name} {name}\n")
    with progress.stage("windows") as stage:
        if (round_name, name) == ("round02", "TS_02") and not Path("hurry").exists():
            Path("begun").touch()
            for _ in range(600):
                time.sleep(0.1)
                stage.advance()


def refined(tomogram: Any, prepared: Any, settings: Any, progress: Any) -> Any:
    """Refine the geometry as every run does."""
    from tomopolish import pipeline

    wait_in_round_2(tomogram, settings, progress)
    return pipeline.align_tomogram(tomogram, prepared, settings, progress)


def unmoved(tomogram: Any, prepared: Any, settings: Any, progress: Any) -> Any:
    """Keep the input geometry, and claim that held-out pairs gained."""
    from faulty_stages import result_of

    from tomopolish.dataset.model import Alignment
    from tomopolish.results.tomogram import Evidence, TomogramResult

    wait_in_round_2(tomogram, settings, progress)
    name = tomogram.series.name
    evidence = Evidence(
        particles=20, pairs=200, gain=900.0, standard_error=30.0, agreement_before=0.4, agreement_after=0.6
    )
    alignment = Alignment(
        tomogram=name,
        projections_px=tomogram.series.projections_px,
        rows=tomogram.species[0].rows,
        positions_px=tomogram.species[0].positions_px,
    )
    statistics = replace(result_of(name).statistics, evidence=evidence)
    return TomogramResult(alignments=(alignment,), statistics=statistics)


def prepare_nothing(references: Any, settings: Any) -> str:
    return "prepared"


if __name__ == "__main__":
    from tomopolish import pipeline
    from tomopolish.cli import run
    from tomopolish.rounds import polish as whole_run
    from tomopolish.run.work import Stages

    stages = {
        "unmoved": Stages(prepare=prepare_nothing, align_tomogram=unmoved),
        "refined": Stages(prepare=pipeline.prepare_species, align_tomogram=refined),
    }
    defaults: dict[str, Any] = whole_run.run_polish.__kwdefaults__
    defaults["stages"] = stages[sys.argv[1]]
    sys.exit(run(["polish", *sys.argv[2:]]))
