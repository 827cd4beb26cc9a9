"""List of a job's results for RELION's pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tomopolish.dataset.files import shown_path
from tomopolish.dataset.star import StarTable, write_star

FILE_NAME = "RELION_OUTPUT_NODES.star"
NODE_TYPES = {
    "optimisation_set.star": "TomoOptimisationSet.star.relion.tomo.polish",
    "tomograms.star": "TomogramGroupMetadata.star.relion.tomo.polish",
    "particles.star": "ParticleGroupMetadata.star.relion.tomo.polish",
    "motion.star": "TomoTrajectoryData.star.relion.polish",
    "logfile.pdf": "LogFile.pdf.relion.tomo.polish",
    "half1.mrc": "DensityMap.mrc.relion.tomo.halfmap",
    "half2.mrc": "DensityMap.mrc.relion.tomo.halfmap",
    "mask.mrc": "Mask3D.mrc.relion",
    "postprocess.mrc": "DensityMap.mrc.relion.postprocess",
    "postprocess_masked.mrc": "DensityMap.mrc.relion.postprocess.masked",
    "postprocess.star": "ProcessData.star.relion.postprocess",
}
"""Result → its type in RELION's GUI."""


def write_output_nodes(job_folder: Path, results: Sequence[Path], *, working_directory: Path) -> None:
    """Write the list of typed `results`, relative to RELION's project; raises RunError if that fails."""
    known = [path for path in results if path.name in NODE_TYPES]
    columns = {
        "rlnPipeLineNodeName": [shown_path(path, working_directory) for path in known],
        "rlnPipeLineNodeTypeLabel": [NODE_TYPES[path.name] for path in known],
    }
    table = StarTable(name="output_nodes", columns=columns, is_loop=True)
    write_star(job_folder / FILE_NAME, [table])
