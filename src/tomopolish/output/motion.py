"""What became of motion that was tried (`--motion auto`), in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping

from tomopolish.output.table import Table
from tomopolish.output.tuning import kernel_name
from tomopolish.plain_text import counted
from tomopolish.results.tomogram import MotionTrial, TomogramStatistics


def tried(statistics: Mapping[str, TomogramStatistics]) -> dict[str, MotionTrial]:
    """Return the trials of motion; none where motion was not tried."""
    return {name: s.motion for name, s in statistics.items() if s.motion is not None}


def motion_words(trial: MotionTrial) -> str:
    """Return in words whether motion was kept, with which prior, and why."""
    stays = "the input's trajectories stay" if trial.input_moves else "no motion"
    if not trial.velocity_scale:
        beyond = " beyond them" if trial.input_moves else ""
        return f"{stays}; the images show none{beyond} that neighbouring particles share"
    unit = " per tilt image" if trial.absolute else ""
    prior = (
        f"--s_vel {trial.velocity_scale:.3g}{unit}, --s_div {trial.distance_scale:.4g}, "
        f"{kernel_name(trial.squared_exponential)} kernel"
    )
    found = trial.evidence
    if found is None:
        return f"{stays}; no held-out pair can judge it ({prior})"
    gain = f"{found.gain:+.1f} ± {found.standard_error:.1f} in log-likelihood"
    if trial.helps:
        return f"motion kept ({prior}); held-out pairs gained {gain}"
    return f"{stays}; held-out pairs did not gain from refining motion ({gain}; {prior})"


def motion_outcome(trial: MotionTrial) -> str:
    """Return in a word which motion a tomogram's particles have."""
    if trial.helps:
        return "kept"
    return "input's" if trial.input_moves else "none"


def motion_sentence(trials: Mapping[str, MotionTrial]) -> str:
    """Return in how many tomograms motion was kept."""
    kept = sum(trial.helps for trial in trials.values())
    return f"Motion was tried in {counted(len(trials), 'tomogram')} and kept in {kept}"


def motion_table(trials: Mapping[str, MotionTrial]) -> Table:
    """Return the prior that each tomogram's images suggest, and what held-out pairs say of its motion."""
    return Table(
        title=f"Particle motion (--motion auto): kept in {sum(t.helps for t in trials.values())} of "
        f"{counted(len(trials), 'tomogram')}",
        columns=("tomogram", "motion", "--s_vel", "--s_div", "kernel", "held-out pairs\ngained", "±"),
        rows=[
            (
                name,
                motion_outcome(trial),
                *(
                    (
                        f"{trial.velocity_scale:.3g}",
                        f"{trial.distance_scale:.4g}",
                        kernel_name(trial.squared_exponential),
                    )
                    if trial.velocity_scale
                    else ("", "", "")
                ),
                *(
                    ("", "")
                    if trial.evidence is None
                    else (f"{trial.evidence.gain:.3g}", f"{trial.evidence.standard_error:.2g}")
                ),
            )
            for name, trial in trials.items()
        ],
    )
