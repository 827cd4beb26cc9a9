"""Records of the studies of dirt and of wrong premises as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Record = Mapping[str, Any]

ALLOWED = 1.05
"""Error over that of a run without the dirt, up to which dirt may be said to cost nothing."""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def dirt_table(records: Sequence[Record]) -> str:
    """Return one row per kind of dirt, and the calibration of all probabilities."""
    if not records:
        return ""
    rows = []
    for kind in dict.fromkeys(r["kind"] for r in records):
        group = [r for r in records if r["kind"] == kind]
        rows.append(
            (
                kind,
                str(len(group)),
                *(pooled(group, f"{which}_good_angstrom") for which in ("input", "run", "without")),
                f"{np.median([r['ratio'] for r in group]):.3f}",
                f"{max(r['ratio'] for r in group):.3f}",
                str(sum(r["ratio"] > ALLOWED for r in group)),
                *(pooled(group, f"{which}_net_degrees") for which in ("input", "run", "without")),
                *(pooled(group, f"{which}_view_degrees") for which in ("run", "without")),
                *(
                    _flagged(group, what, which)
                    for what in ("particle_flags", "tilt_flags")
                    for which in ("bad", "good")
                ),
            )
        )
    header = (
        "dirt",
        "seeds",
        "input, Å",
        "run, Å",
        "without dirt, Å",
        "ratio, median",
        "largest",
        f"above {ALLOWED}",
        "net rotation: input, °",
        "run",
        "without dirt",
        "views: run, °",
        "without dirt",
        "bad particles flagged",
        "good ones",
        "bad images flagged",
        "good ones",
    )
    return (
        "### Dirt\n\nErrors of the good particles in the good tilt images, root mean squares over seeds.\n\n"
        f"{table(header, rows)}{_calibration(records)}"
    )


def _flagged(group: Sequence[Record], what: str, which: str) -> str:
    counts = [r[what] for r in group if r[what] is not None]
    total = sum(c[which] for c in counts)
    if not total:
        return "–"
    part = sum(c[f"{which}_flagged"] for c in counts)
    return f"{part} of {total} ({100 * part / total:.1f} %)"


def _calibration(records: Sequence[Record]) -> str:
    """Return how many things of each range of probability are good; nothing where no run has scores."""
    rows = []
    cells = {
        what: [r[what] for r in records if r[what] is not None] for what in ("particle_flags", "tilt_flags")
    }
    bins = max((len(c["bin_counts"]) for group in cells.values() for c in group), default=0)
    for i in range(bins):
        shares = []
        for group in cells.values():
            total, good = (sum(c[name][i] for c in group) for name in ("bin_counts", "bin_good"))
            shares.append(f"{good} of {total} ({100 * good / total:.0f} %)" if total else "–")
        rows.append((f"{i / bins:.1f} to {(i + 1) / bins:.1f}", *shares))
    if not rows:
        return ""
    return "\n\n" + table(("probability", "good particles", "good tilt images"), rows)


def premises_table(records: Sequence[Record]) -> str:
    """Return one row per premise: how often the run was said to have helped, and the true errors."""
    if not records:
        return ""
    rows = []
    for premise in dict.fromkeys(r["premise"] for r in records):
        group = [r for r in records if r["premise"] == premise]
        rows.append(
            (
                premise,
                f"{sum(r['helped'] for r in group)} of {len(group)}",
                f"{sum(r['run_angstrom'] > r['input_angstrom'] for r in group)} of {len(group)}",
                pooled(group, "input_angstrom"),
                pooled(group, "run_angstrom"),
                f"{np.median([r['scale'] for r in group]):.3g}",
                group[0]["sentence"],
            )
        )
    header = (
        "wrong premise",
        "said to have helped",
        "error rose",
        "input, Å",
        "run, Å",
        "intensity scale",
        "sentence of the first seed",
    )
    return f"### Wrong premises\n\n{table(header, rows)}"


def second_rounds_table(records: Sequence[Record]) -> str:
    """Return one row per round: verdicts, apart for errors that fell and rose, and the errors."""
    if not records:
        return ""
    kinds = ("helped", "settled", "open", "harmed", "doubtful")
    rows = []
    for number in range(len(records[0]["outcomes"])):
        for rose in (False, True):
            group = [
                r
                for r in records
                if (r["errors_angstrom"][number + 1] > r["errors_angstrom"][number]) is rose
            ]
            if group:
                before, after = (
                    np.sqrt(np.mean([r["errors_angstrom"][number + k] ** 2 for r in group])) for k in (0, 1)
                )
                said = [r["outcomes"][number] for r in group]
                rows.append(
                    (
                        str(number + 1),
                        "rose" if rose else "fell",
                        str(len(group)),
                        f"{before:.3f}",
                        f"{after:.3f}",
                        *(str(said.count(kind)) for kind in kinds),
                    )
                )
    header = (
        "round",
        "true error",
        "seeds",
        "before, Å",
        "after, Å",
        "helped",
        "nothing left to gain",
        "no evidence",
        "may have done harm",
        "cannot be judged",
    )
    return f"### Second rounds\n\n{table(header, rows)}"


def pooled(records: Sequence[Record], key: str) -> str:
    """Return the root of the mean square over seeds."""
    return f"{np.sqrt(np.mean([r[key] ** 2 for r in records])):.3f}"
