"""How strongly particles move: the motion prior's parameters, from the images themselves."""

from tomopolish.tune.evidence import LinearTomogram, linearise, log_evidence
from tomopolish.tune.search import Candidate, Tuning, tune
from tomopolish.tune.tomogram import TunedTomogram, open_tomogram

__all__ = [
    "Candidate",
    "LinearTomogram",
    "TunedTomogram",
    "Tuning",
    "linearise",
    "log_evidence",
    "open_tomogram",
    "tune",
]
