"""Records of the accuracy studies as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accuracy_tables_of_dirt import dirt_table, pooled, premises_table, second_rounds_table, table

Record = Mapping[str, Any]

LIMIT = 1.1
"""Most that a run's error may be, in units of that of a start at the truth."""

NET_FACTOR, NET_DEGREES = 1.2, 0.05
"""Most that a run's net rotation may be, in units of the input's, or else in degrees."""

MARKS = ("<!-- tables -->", "<!-- end of tables -->")

SEEDS = "Seed by seed:"
"""Line above a table with one row per seed."""


def markdown(records: Mapping[str, Sequence[Record]]) -> str:
    """All studies that have records, one section each."""
    sections = {
        "static": _static("Static", records.get("static", ())),
        "faint": _static("Fainter still", records.get("faint", ())),
        "motion": _models("Motion", records.get("motion", ()), ("motion",)),
        "faint_motion": _models("Fainter motion", records.get("faint_motion", ()), ("motion",)),
        "warp": _models("Warps", records.get("warp", ()), ("warp",)),
        "motion_and_warp": _models("Motion and warp", records.get("motion_and_warp", ()), ("motion", "warp")),
        "scale": _scale(records.get("scale", ())),
        "net_rotation": _net_rotation(records.get("net_rotation", ())),
        "dirt": dirt_table(records.get("dirt", ())),
        "second_rounds": second_rounds_table(records.get("second_rounds", ())),
        "premises": premises_table(records.get("premises", ())),
    }
    return "\n\n".join(text for name, text in sections.items() if records.get(name))


def insert(page: str, tables: str) -> str:
    """Put tables between a page's marks."""
    before, rest = page.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{after}"


def without_seeds(text: str) -> tuple[str, str]:
    """Part the sections into what the page for users shows, and the headings with the tables seed by seed."""
    user, seeds = [], []
    for section in re.split(r"\n\n(?=### )", text):
        heading = section.partition("\n")[0]
        parts = section.split(f"\n\n{SEEDS}\n\n")
        user += [parts[0]] if parts[0] != heading else []
        seeds += [f"{heading}\n\n{part}" for part in parts[1:]]
    return "\n\n".join(user), "\n\n".join(seeds)


def _static(title: str, records: Sequence[Record]) -> str:
    if not records:
        return ""
    groups = [("all", list(records))]
    for snr in sorted({r["pair_snr"] for r in records}, reverse=True):
        groups.append((f"{snr:g}", [r for r in records if r["pair_snr"] == snr]))
    summary = table(
        (
            "pair SNR",
            "seeds",
            "input, Å",
            "run, Å",
            "from the truth, Å",
            "ratio, median",
            "largest",
            f"≤ {LIMIT}",
            "truth as input, Å",
            "net rotation, °",
            "views, °",
        ),
        [
            (
                name,
                str(len(group)),
                pooled(group, "input_angstrom"),
                pooled(group, "run_angstrom"),
                pooled(group, "truth_start_angstrom"),
                f"{np.median([r['ratio'] for r in group]):.3f}",
                f"{max(r['ratio'] for r in group):.3f}",
                _share([r["ratio"] <= LIMIT for r in group]),
                pooled(group, "truth_as_input_angstrom"),
                *_views(group),
            )
            for name, group in groups
        ],
    )
    seeds = table(
        (
            "seed",
            "particles",
            "tilts",
            "box",
            "r",
            "displaced",
            "SNR",
            "hand",
            "axis, °",
            "exposure",
            "images, px",
            "tomogram, px",
            "input, Å",
            "run, Å",
            "from the truth, Å",
            "ratio",
            "Δ log-likelihood",
            "truth as input, Å",
            "net rotation, °",
            "views, °",
            "evaluations",
            "s",
        ),
        [
            (
                str(r["seed"]),
                str(r["particles"]),
                str(r["tilts"]),
                str(r["box_px"]),
                str(r["range_px"]),
                f"{r['displacement_px']:.1f}",
                f"{r['pair_snr']:g}",
                f"{r['hand']:+.0f}",
                f"{r['axis_degrees']:.0f}",
                r["dose_scheme"],
                "×".join(map(str, r["image_px"])),
                "×".join(map(str, r["tomogram_px"])),
                f"{r['input_angstrom']:.2f}",
                f"{r['run_angstrom']:.3f}",
                f"{r['truth_start_angstrom']:.3f}",
                _marked(r["ratio"]),
                f"{r['log_likelihood_over_truth_start']:+.1f}",
                f"{r['truth_as_input_angstrom']:.3f}",
                *_views([r]),
                str(r["evaluations"]),
                f"{r['seconds']:.1f}",
            )
            for r in records
        ],
    )
    return f"### {title}\n\n{summary}\n\n{SEEDS}\n\n{seeds}"


def _models(title: str, records: Sequence[Record], without: Sequence[str]) -> str:
    if not records:
        return ""
    verdict = [
        f"{_share([r['ratio'] <= LIMIT for r in records])} seeds at most {LIMIT} × the error from the truth"
    ]
    verdict += [
        f"{_share([r['run_angstrom'] < r[f'without_{what}_angstrom'] for r in records])} "
        f"seeds more accurate than without {what}"
        for what in without
    ]
    header = ["seed", "particles", "tilts", "SNR"]
    header += ["`--s_vel`"] * ("motion" in without) + ["warp"] * ("warp" in without)
    header += ["input, Å", *(f"without {what}, Å" for what in without)]
    header += ["run, Å", "from the truth, Å", "ratio", "Δ log-likelihood"]
    header += ["net rotation, °", "views, °", "evaluations", "s"]
    rows = []
    for r in records:
        row = [str(r["seed"]), str(r["particles"]), str(r["tilts"]), f"{r['pair_snr']:g}"]
        if "motion" in without:
            row.append(f"{r['velocity_scale']:g}")
        if "warp" in without:
            row.append(f"{r['warp']}, {'one per tilt' if r['warp_per_tilt'] else 'one'}")
        row.append(f"{r['input_angstrom']:.2f}")
        row += [f"{r[f'without_{what}_angstrom']:.3f}" for what in without]
        row += [
            f"{r['run_angstrom']:.3f}",
            f"{r['truth_start_angstrom']:.3f}",
            _marked(r["ratio"]),
            f"{r['log_likelihood_over_truth_start']:+.1f}",
            *_views([r]),
            str(r["evaluations"]),
            f"{r['seconds']:.1f}",
        ]
        rows.append(row)
    figures = {"input, Å": "input_angstrom"}
    figures |= {f"without {what}, Å": f"without_{what}_angstrom" for what in without}
    figures |= {"run, Å": "run_angstrom", "from the truth, Å": "truth_start_angstrom"}
    summary = table(
        ("seeds", *figures, "net rotation, °", "views, °"),
        [[str(len(records)), *[pooled(records, key) for key in figures.values()], *_views(records)]],
    )
    return f"### {title}\n\n{'; '.join(verdict)}.\n\n{summary}\n\n{SEEDS}\n\n{table(header, rows)}"


def _scale(records: Sequence[Record]) -> str:
    if not records:
        return ""
    header = (
        "seed",
        "trajectories, RMS Å",
        "their error, Å",
        "estimated factor, ×1",
        "×0.1",
        "×10",
        "trajectories off ×1, Å: ×0.1",
        "×10",
        "×0.1 off ×10, Å",
        "2D error, Å: ×1",
        "×0.1",
        "×10",
    )
    rows = [
        (
            str(r["seed"]),
            f"{r['trajectory_length_angstrom']:.3f}",
            f"{r['run_trajectory_angstrom']:.3f}",
            f"{r['scale']:.3f}",
            f"{r['times_0.1']['scale']:.3f}",
            f"{r['times_10']['scale']:.4f}",
            f"{r['times_0.1']['trajectory_difference_angstrom']:.3f}",
            f"{r['times_10']['trajectory_difference_angstrom']:.3f}",
            f"{r['weak_to_strong_angstrom']:.4f}",
            f"{r['run_angstrom']:.3f}",
            f"{r['times_0.1']['run_angstrom']:.3f}",
            f"{r['times_10']['run_angstrom']:.3f}",
        )
        for r in records
    ]
    return f"### References of another intensity\n\n{SEEDS}\n\n{table(header, rows)}"


def _net_rotation(records: Sequence[Record]) -> str:
    """One row per number of particles, one column per kind of input."""
    if not records:
        return ""
    within = [r["run_net_degrees"] <= max(NET_FACTOR * r["input_net_degrees"], NET_DEGREES) for r in records]
    inputs = list(dict.fromkeys(r["input"] for r in records))
    counts = sorted({r["particles"] for r in records})
    groups = {
        (count, name): [r for r in records if (r["particles"], r["input"]) == (count, name)]
        for count in counts
        for name in inputs
    }
    tables = [
        table(
            ("particles", *inputs),
            [
                (str(count), *[_views(group)[part] if (group := groups[count, n]) else "" for n in inputs])
                for count in counts
            ],
        )
        for part in (0, 1)
    ]
    verdict = f"{_share(within)} runs end within {NET_FACTOR} × the input's net rotation or {NET_DEGREES}°"
    return (
        f"### Net rotation\n\n{verdict}. Net rotation, °:\n\n{tables[0]}\n\n"
        f"Views, °, net rotation included:\n\n{tables[1]}"
    )


def _views(records: Sequence[Record]) -> tuple[str, str]:
    """Return net rotation and error of the views, input → run; root mean square over seeds."""
    net, views = (
        f"{pooled(records, f'input_{what}_degrees')} → {pooled(records, f'run_{what}_degrees')}"
        for what in ("net", "view")
    )
    return net, views


def _share(passed: Sequence[bool]) -> str:
    return f"{sum(passed)} of {len(passed)}"


def _marked(ratio: float) -> str:
    return f"**{ratio:.3f}**" if ratio > LIMIT else f"{ratio:.3f}"
