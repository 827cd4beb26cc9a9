"""The rounds of a polishing run, as a table, as a sentence and as a STAR file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tomopolish.dataset.star import StarTable, write_star
from tomopolish.output.table import Table
from tomopolish.results.rounds import Round, best_round, mean_fsc

FILE_NAME = "rounds.star"


def rounds_table(rounds: Sequence[Round]) -> Table:
    """Return a row for each round: resolution, mean FSC, held-out gain, changes; the best has a star."""
    best, values = best_round(rounds), mean_fsc(rounds)
    return Table(
        title="Rounds (round 0 is the input; * is the best; changes are root mean squares)",
        columns=(
            "round",
            "FSC 0.143\n(Å)",
            "FSC 0.5\n(Å)",
            "mean\nFSC",
            "log-likelihood\nper held-out pair",
            "agreement\n(%)",
            "shifts\n(Å)",
            "angles\n(°)",
            "positions\n(Å)",
            "time\n(s)",
        ),
        rows=[
            (
                f"{each.number}{' *' if each is best else ''}",
                *[f"{resolution:.2f}" for resolution in each.resolution_angstrom],
                f"{value:.3f}",
                *_evidence(each),
                *_changes(each),
                f"{each.seconds:.0f}",
            )
            for each, value in zip(rounds, values, strict=True)
        ],
    )


def _evidence(each: Round) -> tuple[str, str]:
    e = each.evidence
    if e is None:
        return "", ""
    return (
        f"{e.gain_per_pair:+.3g} ± {e.standard_error_per_pair:.2g}",
        f"{100 * e.agreement_before:.0f} → {100 * e.agreement_after:.0f}",
    )


def _changes(each: Round) -> tuple[str, str, str]:
    if each.number == 0:
        return "", "", ""
    return f"{each.shift_angstrom:.2f}", f"{each.angle_degrees:.3f}", f"{each.position_angstrom:.2f}"


def gain_sentence(rounds: Sequence[Round]) -> str:
    """Say what the best round reached, compared with the input."""
    best, values = best_round(rounds), mean_fsc(rounds)
    if best.number == 0:
        return "No round gave better half maps than the input, which the optimisation set names."
    before, after = rounds[0], best
    return (
        f"Half maps of round {best.number} reach {after.resolution_angstrom[0]:.2f} Å (FSC 0.143), those of "
        f"the input {before.resolution_angstrom[0]:.2f} Å; the mean FSC rose from {values[0]:.3f} to "
        f"{values[rounds.index(best)]:.3f}."
    )


def round_rows(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Return a row for each round, with units in the names, for a data frame."""
    best, values = best_round(rounds), mean_fsc(rounds)
    return [
        {
            "round": each.number,
            "best": each is best,
            "resolution_angstrom": each.resolution_angstrom[0],
            "resolution_fsc05_angstrom": each.resolution_angstrom[1],
            "mean_fsc": value,
            "bfactor_angstrom2": each.bfactor_angstrom2,
            "range_px": each.range_px,
            "gain_per_pair": getattr(each.evidence, "gain_per_pair", math.nan),
            "standard_error_per_pair": getattr(each.evidence, "standard_error_per_pair", math.nan),
            "shift_angstrom": each.shift_angstrom,
            "angle_degrees": each.angle_degrees,
            "position_angstrom": each.position_angstrom,
            "seconds": each.seconds,
            "optimisation_set": each.optimisation_set,
        }
        for each, value in zip(rounds, values, strict=True)
    ]


def write_rounds(path: Path, rounds: Sequence[Round]) -> None:
    """Write the table of rounds as a STAR file; raises RunError when that fails."""
    best, values = best_round(rounds), mean_fsc(rounds)
    columns: dict[str, list[str]] = {
        "tomopolishRound": [str(each.number) for each in rounds],
        "tomopolishIsBest": [str(int(each is best)) for each in rounds],
        "tomopolishResolution": [f"{each.resolution_angstrom[0]:.3f}" for each in rounds],
        "tomopolishResolutionFsc05": [f"{each.resolution_angstrom[1]:.3f}" for each in rounds],
        "tomopolishMeanFsc": [f"{value:.4f}" for value in values],
        "tomopolishBfactor": [f"{each.bfactor_angstrom2:.1f}" for each in rounds],
        "tomopolishRangePx": [str(each.range_px) for each in rounds],
    }
    for label, name in (
        ("tomopolishHeldOutGainPerPair", "gain_per_pair"),
        ("tomopolishHeldOutGainError", "standard_error_per_pair"),
        ("tomopolishAgreementBefore", "agreement_before"),
        ("tomopolishAgreementAfter", "agreement_after"),
    ):
        columns[label] = [_number(getattr(each.evidence, name, math.nan)) for each in rounds]
    for label, name in (
        ("tomopolishShiftChangeAngst", "shift_angstrom"),
        ("tomopolishAngleChangeDegrees", "angle_degrees"),
        ("tomopolishPositionChangeAngst", "position_angstrom"),
        ("tomopolishSeconds", "seconds"),
    ):
        columns[label] = [_number(getattr(each, name)) for each in rounds]
    columns["tomopolishOptimisationSet"] = [each.optimisation_set for each in rounds]
    write_star(path, [StarTable(name="rounds", columns=columns)])


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "nan"
