"""`evaluate`: a result against the truth of a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tomopolish.api.alignment import AlignmentRun
from tomopolish.api.keywords import AnyPath, public
from tomopolish.api.showing import Result, data_frame
from tomopolish.errors import InputError
from tomopolish.plain_text import counted
from tomopolish.settings.inputs import refuse_version
from tomopolish.settings.wording import in_python

if TYPE_CHECKING:
    import pandas

    from tomopolish.output.table import Table
    from tomopolish.simulate.evaluate import Evaluation


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EvaluationRun(Result):
    """Errors of a result against the truth.

    Attributes
    ----------
    evaluation
        Errors, tomogram by tomogram.
    """

    evaluation: Evaluation

    @property
    def rms_2d_after_angstrom(self) -> float:
        """RMS distance between expected and true positions in the images, over all visible pairs."""
        return self.evaluation.rms_2d_after_angstrom

    @property
    def rms_2d_before_angstrom(self) -> float | None:
        """The same of the input; None where that is unknown."""
        return self.evaluation.rms_2d_before_angstrom

    @property
    def failures(self) -> Mapping[str, str]:
        """Tomogram → why it could not be evaluated."""
        return {name: in_python(reason) for name, reason in self.evaluation.failures.items()}

    def facts(self) -> list[str]:
        """Return the number of tomograms, of those that failed, and the error in the images."""
        before = "" if self.rms_2d_before_angstrom is None else f"{self.rms_2d_before_angstrom:.3f} → "
        error = f"RMS 2D error {before}{self.rms_2d_after_angstrom:.3f} Å"
        failed = [f"{len(self.failures)} failed"] if self.failures else []
        return [counted(len(self.evaluation.tomograms), "tomogram"), *failed, error]

    def sentence(self) -> str:
        """Say what improved, as the command does."""
        return self.evaluation.summary()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The command's tables of errors, and of flags where the result has scores."""
        from tomopolish.output.evaluation import evaluation_tables

        return tuple(evaluation_tables(self.evaluation))

    def to_dataframe(self) -> pandas.DataFrame:
        """Return errors as a pandas DataFrame, a row for each tomogram; raises RunError without pandas."""
        from tomopolish.output.rows import evaluation_rows

        return data_frame(evaluation_rows(self.evaluation))

    def to_json(self) -> str:
        """Return the errors as the JSON that `tomopolish evaluate --json` prints."""
        from tomopolish.output.evaluation import evaluation_json

        return evaluation_json(self.evaluation)


@public()
def evaluate(
    result: AlignmentRun | AnyPath,
    truth: AnyPath,
    *,
    before: AnyPath | None = None,
    relion_version: int | None = None,
) -> EvaluationRun:
    """Compare a result with the truth of a simulation, as `tomopolish evaluate` does.

    Parameters
    ----------
    result
        What `align` returned, of one species and with an output folder; or an output folder, or an
        optimisation set.
    truth
        The ``truth.json`` of the simulation.
    before
        The optimisation set before refinement; by default the one beside the truth.
    relion_version
        As in `load`.

    Returns
    -------
    The errors.

    Raises
    ------
    InputError
        When files are missing or malformed, or do not belong together.
    """
    from tomopolish.simulate.evaluate import evaluate_project

    refuse_version(relion_version)
    beginning = None
    if isinstance(result, AlignmentRun):
        if result.optimisation_set is None:
            raise InputError("result: the run is in memory only; evaluate(run.write(FOLDER), truth) works")
        beginning = result.project.first.files.working_directory  # the current one may be another by now
        result = beginning / result.optimisation_set
    evaluation = evaluate_project(
        Path(result),
        Path(truth),
        before=None if before is None else Path(before),
        beginning=beginning,
        relion_version=relion_version,
    )
    return EvaluationRun(evaluation=evaluation)
