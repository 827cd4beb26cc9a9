"""Results of a tuning: rows for data frames, tables, sentences, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tomopolish.dataset.files import atomic_path
from tomopolish.output.drawing import new_figure
from tomopolish.output.table import Table
from tomopolish.shapes import Array
from tomopolish.tune.prior import MotionPrior
from tomopolish.tune.tuning import Candidate, Ridge, Tuning

SHOWN_NATS = 20.0
"""Log-evidence below the greatest at which the plot's colours end."""

CELLS = 60


def distance_rows(tuning: Tuning) -> list[dict[str, Any]]:
    """Return the best velocity scale and the log-evidence for each kernel and distance scale.

    Scales are in Å per e⁻/Å², or in Å per tilt image and Å for absolute ones; log-evidence is relative to the
    chosen prior's.
    """
    best = tuning.chosen.log_evidence
    return [
        {
            "kernel": kernel_name(ridge.squared_exponential),
            "distance_scale": distance,
            "velocity_scale": profile.scale,
            "log_evidence": profile.best - best,
        }
        for ridge in tuning.ridges
        for distance, profile in zip(ridge.distance_scales, ridge.profiles, strict=True)
    ]


def candidate_rows(tuning: Tuning) -> list[dict[str, Any]]:
    """Return the default prior and the best ones, in the units of `distance_rows`."""
    return [
        {
            "kernel": kernel_name(c.prior.squared_exponential),
            "distance_scale": c.prior.distance_scale,
            "velocity_scale": c.prior.velocity_scale,
            "drift_scale": c.prior.drift_scale,
            "log_evidence": c.log_evidence - tuning.chosen.log_evidence,
            "chosen": c is tuning.chosen,
        }
        for c in tuning.candidates
    ]


def noise_rows(tuning: Tuning, tomograms: Sequence[str], failures: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row for each tomogram: variance of errors over that assumed, and its growth with crowding."""
    rows: list[dict[str, Any]] = [
        {
            "tomogram": name,
            "median_noise_factor": float(np.median(noise.frames)),
            "growth_with_crowding": noise.slope,
            "failure": "",
        }
        for name, noise in zip(tomograms, tuning.noises, strict=True)
    ]
    return rows + [{"tomogram": name, "failure": reason} for name, reason in failures.items()]


def distance_table(tuning: Tuning) -> Table:
    """Return the best velocity scale and the log-evidence for each distance scale and kernel."""
    return Table(
        title="Evidence of motion priors (drift of single particles as for the best)",
        columns=("kernel", "--s_div", "best\n--s_vel", "log-evidence\n(nats)"),
        rows=[
            (
                row["kernel"],
                f"{row['distance_scale']:.0f}",
                f"{row['velocity_scale']:.3g}",
                f"{row['log_evidence']:+.1f}",
            )
            for row in distance_rows(tuning)
        ],
    )


def candidates_table(tuning: Tuning) -> Table:
    """Return the default and the best priors, each with its most probable drift."""
    return Table(
        title="Candidates",
        columns=("kernel", "--s_div", "--s_vel", "drift", "log-evidence\n(nats)", ""),
        rows=[
            (
                kernel_name(c.prior.squared_exponential),
                f"{c.prior.distance_scale:.0f}",
                f"{c.prior.velocity_scale:.3g}",
                f"{c.prior.drift_scale:.2g}",
                f"{c.log_evidence - tuning.chosen.log_evidence:+.1f}",
                "chosen" if c is tuning.chosen else "",
            )
            for c in tuning.candidates
        ],
    )


def kernel_name(squared_exponential: bool) -> str:
    """Return the name of a kernel."""
    return "square-exponential" if squared_exponential else "exponential"


def verdict(tuning: Tuning) -> list[str]:
    """Return in sentences which scales the images determine, and how precisely."""
    prior = tuning.chosen.prior
    low, high = tuning.velocity.interval()
    sentences = [
        f"--s_vel {prior.velocity_scale:.3g}, 95 % between {low:.3g} and {high:.3g} "
        f"for --s_div {prior.distance_scale:.0f}."
    ]
    if len(tuning.ridge.distance_scales) > 1:
        near, far = tuning.ridge.along_distance.interval()
        first, *_, last = tuning.ridge.distance_scales
        if near <= first and far >= last:
            sentences.append("The images do not determine --s_div.")
        elif far >= last:
            sentences.append(f"--s_div is above {near:.0f}; the images give no upper limit.")
        elif near <= first:
            sentences.append(f"--s_div is below {far:.0f}; the images give no lower limit.")
        else:
            sentences.append(f"--s_div lies between {near:.0f} and {far:.0f}.")
    if tuning.is_still:
        sentences.append(
            "The images show no motion that neighbouring particles share: align without --motion."
        )
    return sentences


def tuning_json(tuning: Tuning, tomograms: Sequence[str], command: str) -> str:
    """Return all figures as JSON."""
    content = {
        "tomograms": list(tomograms),
        "chosen": _candidate(tuning.chosen, tuning),
        "velocity_interval_95": tuning.velocity.interval(),
        "distance_interval_95": tuning.ridge.along_distance.interval(),
        "candidates": [_candidate(c, tuning) for c in tuning.candidates],
        "surfaces": [_ridge(r, tuning) for r in tuning.ridges],
        "noise_by_tomogram": {
            name: {"by_tilt_image": list(n.frames), "growth_with_crowding": n.slope}
            for name, n in zip(tomograms, tuning.noises, strict=True)
        },
        "align_command": command,
    }
    return json.dumps(content, indent=2, default=float)


def _candidate(candidate: Candidate, tuning: Tuning) -> dict[str, object]:
    prior = candidate.prior
    return {
        "s_vel": prior.velocity_scale,
        "s_div": prior.distance_scale,
        "sq_exp_ker": prior.squared_exponential,
        "abs_params": prior.absolute,
        "drift": prior.drift_scale,
        "log_evidence": candidate.log_evidence - tuning.chosen.log_evidence,
    }


def _ridge(ridge: Ridge, tuning: Tuning) -> dict[str, object]:
    return {
        "sq_exp_ker": ridge.squared_exponential,
        "profiles": [
            {
                "s_div": distance,
                "s_vel": list(np.exp(profile.logs)),
                "log_evidence": list(profile.values - tuning.chosen.log_evidence),
            }
            for distance, profile in zip(ridge.distance_scales, ridge.profiles, strict=True)
        ],
    }


def write_surface(path: Path, tuning: Tuning) -> None:
    """Draw log-evidence over both scales, a panel for each kernel, as an SVG image.

    Raises RunError when the file cannot be written.
    """
    import matplotlib as mpl

    best = max(p.best for r in tuning.ridges for p in r.profiles)
    logs = np.concatenate([p.logs for r in tuning.ridges for p in r.profiles])
    steps = np.linspace(float(logs.min()), float(logs.max()), CELLS + 1)
    figure = new_figure(5.5 * len(tuning.ridges), 4.5)
    panels = np.atleast_1d(figure.subplots(1, len(tuning.ridges)))
    for axes, ridge in zip(panels, tuning.ridges, strict=True):
        mesh = _panel(axes, ridge, tuning.chosen.prior, steps, best)
    figure.colorbar(mesh, ax=list(panels), label="log-evidence below the greatest (nats)")
    # The same tuning must give the same file: no date, and no random names of its elements.
    with (
        mpl.rc_context({"svg.hashsalt": "tomopolish", "svg.fonttype": "none"}),
        atomic_path(path) as temporary,
    ):
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def _panel(axes: Any, ridge: Ridge, chosen: MotionPrior, steps: Array, best: float) -> Any:
    """Draw the surface of one kernel, its best velocity scales, and the chosen prior of this kernel."""
    logs = np.log(ridge.distance_scales)
    start, stop = (logs[0] - 0.5, logs[0] + 0.5) if len(logs) == 1 else (logs[0], logs[-1])
    edges = np.linspace(start, stop, CELLS + 1)
    middle, centre = (edges[1:] + edges[:-1]) / 2, (steps[1:] + steps[:-1]) / 2
    values = _interpolated(ridge, logs, middle, centre).T - best
    mesh = axes.pcolormesh(
        np.exp(edges), np.exp(steps), values, cmap="Blues", vmin=-SHOWN_NATS, vmax=0.0, rasterized=True
    )
    best_velocities = [np.exp(p.best_log) for p in ridge.profiles]
    axes.plot(
        ridge.distance_scales, best_velocities, color="tab:orange", label="best --s_vel for each --s_div"
    )
    if chosen.squared_exponential == ridge.squared_exponential:
        place = (chosen.distance_scale, chosen.velocity_scale)
        axes.plot(*place, "o", color="tab:orange", fillstyle="none", markersize=9, label="chosen")
    axes.set(xscale="log", yscale="log", xlabel="--s_div", ylabel="--s_vel")
    axes.set_title(f"{kernel_name(ridge.squared_exponential)} kernel")
    axes.legend(fontsize="small", loc="lower left")  # "best" is slow
    return mesh


def _interpolated(ridge: Ridge, logs: np.ndarray, middle: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the surface on a grid, interpolated along the profiles from their maxima, then between them."""
    bests = np.array([p.best_log for p in ridge.profiles])
    along = np.array([np.interp(x, logs, bests) for x in middle])
    values = np.empty((len(middle), len(centre)))
    for i, x in enumerate(middle):
        k = int(np.clip(np.searchsorted(logs, x) - 1, 0, max(len(logs) - 2, 0)))
        near, far = ridge.profiles[k], ridge.profiles[min(k + 1, len(logs) - 1)]
        share = 0.0 if near is far else (x - logs[k]) / (logs[k + 1] - logs[k])
        offset = centre - along[i]
        values[i] = (1 - share) * near.extended(near.best_log + offset) + share * far.extended(
            far.best_log + offset
        )
    return values
