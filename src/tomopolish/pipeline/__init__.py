"""One tomogram, from tilt images to refined geometry."""

from tomopolish.pipeline.align import align_tomogram
from tomopolish.pipeline.problem import build_problem, check_models
from tomopolish.pipeline.references import (
    PreparedReferences,
    prepare,
    prepare_species,
    weight_of,
)
from tomopolish.pipeline.windows import correlation_windows, frames_taking_part

__all__ = [
    "PreparedReferences",
    "align_tomogram",
    "build_problem",
    "check_models",
    "correlation_windows",
    "frames_taking_part",
    "prepare",
    "prepare_species",
    "weight_of",
]
