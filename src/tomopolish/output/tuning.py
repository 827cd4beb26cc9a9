"""What a tuning found: tables, sentences, JSON and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

import numpy as np

from tomopolish.output.table import Table
from tomopolish.tune.tuning import Candidate, Ridge, Tuning

SHOWN_NATS = 20.0
"""Log-evidence below the greatest at which the plot's colours end."""

WIDTH, HEIGHT, MARGIN = 380, 300, 70
CELLS = 60
LOW_COLOUR, HIGH_COLOUR = np.array([247, 251, 255]), np.array([8, 48, 107])


def distance_table(tuning: Tuning) -> Table:
    """Return the best velocity scale and the log-evidence for each distance scale and kernel."""
    best = tuning.chosen.log_evidence
    rows = []
    for ridge in tuning.ridges:
        for distance, profile in zip(ridge.distance_scales, ridge.profiles, strict=True):
            rows.append(
                (
                    kernel_name(ridge.squared_exponential),
                    f"{distance:.0f}",
                    f"{profile.scale:.3g}",
                    f"{profile.best - best:+.1f}",
                )
            )
    return Table(
        title="Evidence of motion priors (drift of single particles as for the best)",
        columns=("kernel", "--s_div", "best\n--s_vel", "log-evidence\n(nats)"),
        rows=rows,
    )


def candidates_table(tuning: Tuning) -> Table:
    """Return the default and the best priors, each with the drift that suits it."""
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
    """Return what the images tell, and what they do not, in sentences."""
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
            sentences.append("The images do not tell --s_div.")
        elif far >= last:
            sentences.append(f"--s_div is above {near:.0f}; how far, the images do not tell.")
        elif near <= first:
            sentences.append(f"--s_div is below {far:.0f}; how far, the images do not tell.")
        else:
            sentences.append(f"--s_div lies between {near:.0f} and {far:.0f}.")
    if is_still(tuning):
        sentences.append("The images show no motion that neighbours share: align without --motion.")
    return sentences


def is_still(tuning: Tuning) -> bool:
    """Whether no shared motion is as probable as the best."""
    values = tuning.velocity.values
    return bool(values[0] > values.max() - 2.0)


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


def surface_svg(tuning: Tuning) -> str:
    """Draw log-evidence over both scales, a panel for each kernel, as an SVG image."""
    velocities = np.concatenate([p.logs for r in tuning.ridges for p in r.profiles])
    low, high = float(velocities.min()), float(velocities.max())
    best = max(p.best for r in tuning.ridges for p in r.profiles)
    panels = [
        _panel(ridge, tuning, low, high, best, MARGIN + i * (WIDTH + MARGIN))
        for i, ridge in enumerate(tuning.ridges)
    ]
    width = MARGIN + len(panels) * (WIDTH + MARGIN)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT + 110}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{"".join(panels)}'
        f'<text x="{MARGIN}" y="{HEIGHT + 98}">Colour: log-evidence, from the greatest (dark) to '
        f"{SHOWN_NATS:g} nats below it. Line: best --s_vel for each --s_div. Circle: chosen.</text>\n</svg>\n"
    )


def _panel(ridge: Ridge, tuning: Tuning, low: float, high: float, best: float, left: int) -> str:
    logs = np.log(ridge.distance_scales)
    start, stop = (logs[0] - 0.5, logs[0] + 0.5) if len(logs) == 1 else (logs[0], logs[-1])
    edges = np.linspace(start, stop, CELLS + 1)
    steps = np.linspace(low, high, CELLS + 1)
    middle, centre = (edges[1:] + edges[:-1]) / 2, (steps[1:] + steps[:-1]) / 2
    values = _interpolated(ridge, logs, middle, centre) - best
    parts = []
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value) or value < -SHOWN_NATS:
            continue
        x, y = left + i * WIDTH / CELLS, 30 + HEIGHT - (j + 1) * HEIGHT / CELLS
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{WIDTH / CELLS + 0.3:.1f}" '
            f'height="{HEIGHT / CELLS + 0.3:.1f}" fill="{_colour(value)}"/>\n'
        )

    def place(distance_log: float, velocity_log: float) -> tuple[float, float]:
        return (
            left + (distance_log - start) / (stop - start) * WIDTH,
            30 + HEIGHT - (velocity_log - low) / (high - low) * HEIGHT,
        )

    line = " ".join(
        "{:.1f},{:.1f}".format(*place(d, p.best_log)) for d, p in zip(logs, ridge.profiles, strict=True)
    )
    parts.append(f'<polyline points="{line}" fill="none" stroke="#d95f02" stroke-width="1.5"/>\n')
    prior = tuning.chosen.prior
    if prior.squared_exponential == ridge.squared_exponential:
        x, y = place(float(np.log(prior.distance_scale)), float(np.log(prior.velocity_scale)))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="#d95f02" stroke-width="3"/>\n'
        )
    parts.append(_axes(left, start, stop, low, high))
    name = escape(kernel_name(ridge.squared_exponential))
    parts.append(f'<text x="{left}" y="20" font-size="14">{name} kernel</text>\n')
    return "".join(parts)


def _interpolated(ridge: Ridge, logs: np.ndarray, middle: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Interpolate along each profile, shifted onto the line of the best, then across."""
    bests = np.array([p.best_log for p in ridge.profiles])
    along = np.array([np.interp(x, logs, bests) for x in middle])
    found = np.empty((len(middle), len(centre)))
    for i, x in enumerate(middle):
        k = int(np.clip(np.searchsorted(logs, x) - 1, 0, max(len(logs) - 2, 0)))
        near, far = ridge.profiles[k], ridge.profiles[min(k + 1, len(logs) - 1)]
        share = 0.0 if near is far else (x - logs[k]) / (logs[k + 1] - logs[k])
        offset = centre - along[i]
        found[i] = (1 - share) * near.extended(near.best_log + offset) + share * far.extended(
            far.best_log + offset
        )
    return found


def _colour(value: float) -> str:
    share = 1 + max(value, -SHOWN_NATS) / SHOWN_NATS
    red, green, blue = np.rint(LOW_COLOUR + np.clip(share, 0, 1) * (HIGH_COLOUR - LOW_COLOUR)).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _axes(left: int, start: float, stop: float, low: float, high: float) -> str:
    parts = [
        f'<rect x="{left}" y="30" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="black"/>\n',
        f'<text x="{left + WIDTH / 2}" y="{HEIGHT + 72}" text-anchor="middle">--s_div</text>\n',
        f'<text x="{left - 52}" y="{30 + HEIGHT / 2}" text-anchor="middle" '
        f'transform="rotate(-90 {left - 52} {30 + HEIGHT / 2})">--s_vel</text>\n',
    ]
    for value in _ticks(start, stop):
        x = left + (np.log(value) - start) / (stop - start) * WIDTH
        parts.append(f'<path d="M{x:.1f} {30 + HEIGHT}v5" stroke="black"/>\n')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT + 50}" text-anchor="middle">{value:g}</text>\n')
    for value in _ticks(low, high):
        y = 30 + HEIGHT - (np.log(value) - low) / (high - low) * HEIGHT
        parts.append(f'<path d="M{left} {y:.1f}h-5" stroke="black"/>\n')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>\n')
    return "".join(parts)


def _ticks(start: float, stop: float) -> list[float]:
    """1, 2 and 5 times powers of ten between the exponentials of both ends."""
    decades = range(int(np.floor(start / np.log(10))), int(np.ceil(stop / np.log(10))) + 1)
    found = [m * 10.0**d for d in decades for m in (1, 2, 5)]
    return [v for v in found if start <= np.log(v) <= stop]
