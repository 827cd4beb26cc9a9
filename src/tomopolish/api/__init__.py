"""The program from Python: what the commands do, as functions that return objects.

>>> from tomopolish import align, load
>>> project = load("optimisation_set.star")                    # doctest: +SKIP
>>> run = align(project, "Align/job003", box_px=128)           # doctest: +SKIP
>>> print(run.sentence())                                      # doctest: +SKIP
>>> run.to_dataframe()                                         # doctest: +SKIP

Its functions import what they compute with when they are called, as the commands do: the command line is
part of this package, and imports at the top (NumPy, SciPy, numba, kernels) were measured to lengthen
`tomopolish --help` from 0.3 s to 2.6 s.
"""

from tomopolish.api.alignment import AlignmentPlan, AlignmentRun, align, plan
from tomopolish.api.comparing import EvaluationRun, evaluate
from tomopolish.api.exporting import ExportRun, ReportRun, export, report
from tomopolish.api.keywords import KeywordError
from tomopolish.api.polishing import PolishRun, polish
from tomopolish.api.projects import load
from tomopolish.api.reconstruction import ReconstructionRun, reconstruct
from tomopolish.api.selection import SelectionRun, select
from tomopolish.api.simulation import SimulationRun, simulate
from tomopolish.api.tuning import TuningRun, tune

__all__ = [
    "AlignmentPlan",
    "AlignmentRun",
    "EvaluationRun",
    "ExportRun",
    "KeywordError",
    "PolishRun",
    "ReconstructionRun",
    "ReportRun",
    "SelectionRun",
    "SimulationRun",
    "TuningRun",
    "align",
    "evaluate",
    "export",
    "load",
    "plan",
    "polish",
    "reconstruct",
    "report",
    "select",
    "simulate",
    "tune",
]
