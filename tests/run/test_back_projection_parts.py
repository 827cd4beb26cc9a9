"""Back-projection in parts, as workers do it: sums, failures and messages are those of one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from star_edits import drop_column
from tomopolish.dataset.project import open_dataset
from tomopolish.run.cluster.maps import added, back_project_part
from tomopolish.run.commands.reconstruct import back_project
from tomopolish.run.reporter import SilentReporter


def test_parts_add_up_to_all_tomograms_with_their_remarks_and_warnings(project: Path) -> None:
    drop_column("tomograms.star", "global", "rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
    (project / "tilt_series/TS_02.mrcs").unlink()
    dataset, reporter = open_dataset(Path("optimisation_set.star")), SilentReporter()
    everything = back_project(dataset, 48, "C1", 1, reporter)
    parts = [back_project_part(dataset, [name], 48, "C1", 1) for name in dataset.tomogram_names]
    together = added(*parts)
    np.testing.assert_array_equal(together.projected.sums.totals, everything.sums.totals)
    assert together.projected.failures == everything.failures
    assert everything.failures.keys() == {"TS_02"}
    assert list(together.warnings) == reporter.warnings
    assert together.projected.remark_sentences() == everything.remark_sentences() != []
