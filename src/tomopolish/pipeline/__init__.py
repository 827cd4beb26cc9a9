"""One tomogram, from tilt images to refined geometry."""

from tomopolish.pipeline.align import align_tomogram
from tomopolish.pipeline.problem import build_problem
from tomopolish.pipeline.references import PreparedReferences, prepare, prepare_species
from tomopolish.pipeline.windows import correlation_windows, frames_taking_part

__all__ = [
    "PreparedReferences",
    "align_tomogram",
    "build_problem",
    "correlation_windows",
    "frames_taking_part",
    "prepare",
    "prepare_species",
]
