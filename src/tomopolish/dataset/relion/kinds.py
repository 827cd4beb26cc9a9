"""Recognition of the many kinds of STAR files, for messages about files of the wrong kind.

The signatures are labels and names of tables in RELION's documentation and in public data sets; a file of an
unknown kind is described by its tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tomopolish.dataset.star import StarFile, StarTable

LABELS = {
    "particles": "rlnTomoParticlesFile",
    "tomograms": "rlnTomoTomogramsFile",
    "trajectories": "rlnTomoTrajectoriesFile",
    "manifolds": "rlnTomoManifoldsFile",
    "half map 1": "rlnTomoReferenceMap1File",
    "half map 2": "rlnTomoReferenceMap2File",
    "mask": "rlnTomoReferenceMaskFile",
    "fsc": "rlnTomoReferenceFscFile",
}
"""Component of a data set → its column in an optimisation set, which has at least one of them."""


@dataclass(frozen=True, kw_only=True)
class StarKind:
    """A kind of STAR file.

    Attributes
    ----------
    description
        Description with its article: "an optimisation set".
    option
        Option for such a file, or "".
    remedy
        Remedy: how to obtain the needed file, or "".
    """

    description: str
    option: str = ""
    remedy: str = ""


OPTIMISATION_SET = StarKind(description="an optimisation set", option="--i")
TOMOGRAM_SET = StarKind(description="a tomogram set", option="--t")
TILT_SERIES = StarKind(
    description="the table of one tilt series",
    remedy="keep it where a tomogram set (tomograms.star, aligned_tilt_series.star) names it",
)
PARTICLE_SET = StarKind(description="a particle set", option="--p")
PICKS = StarKind(
    description="a list of picked positions, without half sets and optics groups",
    remedy="run Extract subtomos and 3D auto-refine first",
)
RELION_3_SUBTOMOGRAMS = StarKind(
    description="a list of subtomograms of RELION 3 or Warp's 3D export, without rlnTomoName",
    remedy="import tilt series and coordinates into RELION 5 and run Extract subtomos and 3D auto-refine",
)
WARP_PICKS = StarKind(
    description="a list of positions for Warp (with .tomostar files in rlnMicrographName)",
    remedy="export particles with WarpTools ts_export_particles and refine them in RELION first",
)
IMAGES_2D = StarKind(
    description="a particle set of single-particle analysis, without tomograms",
    remedy="make particles of tomograms with Extract subtomos",
)
MICROGRAPHS = StarKind(description="a list of micrographs of single-particle analysis")
TRAJECTORIES = StarKind(description="a trajectory set", option="--mot")
FSC = StarKind(description="the result of Post-processing", option="--fsc")
MODEL = StarKind(description="the model file of a refinement or classification", option="--fsc")


def kind_of(star: StarFile) -> StarKind | None:
    """Return the kind of a STAR file; None where it is unknown."""
    return next((kind for kind, matches in _SIGNATURES if matches(star)), None)


def described(star: StarFile) -> str:
    """Return a description of a STAR file: its kind, or its tables and columns."""
    kind = kind_of(star)
    if kind is not None:
        return kind.description
    if not star.tables:
        return "a file without any table"
    tables = ", ".join(f"data_{name}" for name in dict.fromkeys(star.names[:4]))
    labels = ", ".join(list(star.tables[0].columns)[:3]) or "no column"
    return f"an unknown file (tables {tables}{', …' if len(star.names) > 4 else ''}; columns {labels}, …)"


def _has(*labels: str, without: tuple[str, ...] = ()) -> Callable[[StarFile], bool]:
    """Return a test whether any table of a file has all of `labels` and none of `without`."""

    def matches(star: StarFile) -> bool:
        return any(
            all(label in table for label in labels) and not any(label in table for label in without)
            for table in star.tables
        )

    return matches


def _has_table(*names: str) -> Callable[[StarFile], bool]:
    return lambda star: any(name in star for name in names)


def _has_any(*labels: str) -> Callable[[StarFile], bool]:
    return lambda star: any(label in table for table in star.tables for label in labels)


def _is_tilt_series(star: StarFile) -> bool:
    return "global" not in star and any(_looks_like_tilts(table) for table in star.tables)


def _looks_like_tilts(table: StarTable) -> bool:
    marks = ("rlnTomoYTilt", "rlnTomoNominalStageTiltAngle", "rlnTomoProjX", "rlnMicrographPreExposure")
    return "rlnTomoName" not in table and sum(mark in table for mark in marks) >= 2


def _is_warp_picks(star: StarFile) -> bool:
    return any(
        "rlnCoordinateZ" in table
        and "rlnTomoName" not in table
        and any(cell.endswith(".tomostar") for cell in table.columns.get("rlnMicrographName", ())[:3])
        for table in star.tables
    )


def _is_picks(star: StarFile) -> bool:
    """Return whether there are positions in tomograms, but neither half sets nor optics."""
    return "optics" not in star and any(
        _has_positions(table) and "rlnRandomSubset" not in table for table in star.tables
    )


def _has_positions(table: StarTable) -> bool:
    return "rlnTomoName" in table and any(
        label in table for label in ("rlnCoordinateX", "rlnCenteredCoordinateXAngst")
    )


_SIGNATURES: tuple[tuple[StarKind, Callable[[StarFile], bool]], ...] = (
    (OPTIMISATION_SET, _has_any(*LABELS.values())),
    (TOMOGRAM_SET, _has("rlnTomoName", "rlnTomoTiltSeriesStarFile")),
    (TOMOGRAM_SET, _has("rlnTomoName", "rlnTomoTiltSeriesName")),
    (TRAJECTORIES, lambda star: "general" in star and "rlnParticleNumber" in star.table("general")),
    (FSC, _has("rlnFourierShellCorrelationCorrected")),
    (MODEL, _has_table("model_general")),
    (PICKS, _is_picks),
    (PARTICLE_SET, lambda star: any(map(_has_positions, star.tables))),
    (WARP_PICKS, _is_warp_picks),
    (RELION_3_SUBTOMOGRAMS, _has("rlnCoordinateZ", "rlnImageName")),
    (RELION_3_SUBTOMOGRAMS, _has("rlnCtfImage", "rlnImageName")),
    (RELION_3_SUBTOMOGRAMS, _has("rlnCoordinateZ", "rlnMicrographName")),
    (IMAGES_2D, _has("rlnImageName", without=("rlnTomoName",))),
    (TILT_SERIES, _is_tilt_series),
    (MICROGRAPHS, _has_table("micrographs", "movies")),
    (StarKind(description="the optimiser file of a refinement"), _has_table("optimiser_general")),
    (StarKind(description="the sampling file of a refinement"), _has_table("sampling_general")),
    (StarKind(description="the options of a job (job.star)"), _has_table("joboptions_values")),
    (StarKind(description="a project's pipeline"), _has_table("pipeline_general", "pipeline_processes")),
    (StarKind(description="the list of a job's output files"), _has_table("output_nodes")),
    (StarKind(description="a list of coordinate files"), _has_any("rlnMicrographCoordinates")),
    (StarKind(description="RELION 4's description of an import"), _has_any("rlnTomoImportCtfFindFile")),
    (StarKind(description="a list of class averages"), _has("rlnReferenceImage")),
    (StarKind(description="the motion of one movie"), _has_table("global_shift", "local_motion_model")),
    (StarKind(description="Warp's .tomostar file"), _has_any("wrpMovieName", "wrpAngleTilt")),
    (StarKind(description="a manifold set"), _has_any("rlnTomoManifoldIndex", "rlnTomoManifoldParams")),
)  # fmt: skip
