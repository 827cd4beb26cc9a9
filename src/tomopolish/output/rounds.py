"""The rounds of a polishing run, as a table, as a sentence and as a STAR file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tomopolish.dataset.star import StarTable, write_star
from tomopolish.output.table import Table
from tomopolish.results.rounds import Round, SpeciesRound, best_round, mean_fsc

FILE_NAME = "rounds.star"


def rounds_table(rounds: Sequence[Round]) -> Table:
    """Return a row for each round and species: resolution, mean FSC, held-out gain, changes.

    The best round has a star.
    """
    best = best_round(rounds)
    return Table(
        title="Rounds (round 0 is the input; * is the best; changes are root mean squares)",
        columns=(
            "round",
            *([] if best.is_single else ["species"]),
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
                *_named(each, maps, f"{each.number}{' *' if each is best else ''}"),
                *[f"{resolution:.2f}" for resolution in maps.resolution_angstrom],
                f"{value:.3f}",
                *_of_all(each, shown=maps is each.species[0]),
            )
            for each, maps, value in _each_species(rounds)
        ],
    )


def _each_species(rounds: Sequence[Round]) -> list[tuple[Round, SpeciesRound, float]]:
    """Return each round with each of its species and the mean FSC of its half maps."""
    return [
        (each, maps, float(value))
        for each, values in zip(rounds, mean_fsc(rounds), strict=True)
        for maps, value in zip(each.species, values, strict=True)
    ]


def _named(each: Round, maps: SpeciesRound, label: str) -> tuple[str, ...]:
    """Return a row's round, stated once, and where there are several its species."""
    if each.is_single:
        return (label,)
    return (label if maps is each.species[0] else "", maps.name)


def _of_all(each: Round, *, shown: bool) -> tuple[str, ...]:
    """Return what all species of a round have in common; empty cells where it is not shown."""
    cells = (*_evidence(each), *_changes(each), f"{each.seconds:.0f}")
    return cells if shown else ("",) * len(cells)


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
    sentences = []
    for maps, before, was, becomes in zip(
        best.species, rounds[0].species, values[0], values[rounds.index(best)], strict=True
    ):
        which = "" if best.is_single else f"{maps.name}: "
        sentences.append(
            f"{which}Half maps of round {best.number} reach {maps.resolution_angstrom[0]:.2f} Å (FSC 0.143), "
            f"those of the input {before.resolution_angstrom[0]:.2f} Å; the mean FSC "
            f"{'rose' if becomes >= was else 'fell'} from {was:.3f} to {becomes:.3f}."
        )
    return " ".join(sentences)


def round_rows(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Return a row for each round and species, with units in the names, for a data frame."""
    best = best_round(rounds)
    return [
        {
            "round": each.number,
            "species": maps.name,
            "best": each is best,
            "resolution_angstrom": maps.resolution_angstrom[0],
            "resolution_fsc05_angstrom": maps.resolution_angstrom[1],
            "mean_fsc": value,
            "bfactor_angstrom2": maps.bfactor_angstrom2,
            "range_px": each.range_px,
            "gain_per_pair": getattr(each.evidence, "gain_per_pair", math.nan),
            "standard_error_per_pair": getattr(each.evidence, "standard_error_per_pair", math.nan),
            "shift_angstrom": each.shift_angstrom,
            "angle_degrees": each.angle_degrees,
            "position_angstrom": each.position_angstrom,
            "seconds": each.seconds,
            "optimisation_set": maps.optimisation_set,
        }
        for each, maps, value in _each_species(rounds)
    ]


def write_rounds(path: Path, rounds: Sequence[Round]) -> None:
    """Write the rounds as a STAR table, a row for each round and species; raises RunError when that fails."""
    best, rows = best_round(rounds), _each_species(rounds)
    every = [each for each, _, _ in rows]
    columns: dict[str, list[str]] = {"tomopolishRound": [str(each.number) for each in every]}
    if not best.is_single:
        columns["tomopolishSpecies"] = [maps.name for _, maps, _ in rows]
    columns |= {
        "tomopolishIsBest": [str(int(each is best)) for each in every],
        "tomopolishResolution": [f"{maps.resolution_angstrom[0]:.3f}" for _, maps, _ in rows],
        "tomopolishResolutionFsc05": [f"{maps.resolution_angstrom[1]:.3f}" for _, maps, _ in rows],
        "tomopolishMeanFsc": [f"{value:.4f}" for _, _, value in rows],
        "tomopolishBfactor": [f"{maps.bfactor_angstrom2:.1f}" for _, maps, _ in rows],
        "tomopolishRangePx": [str(each.range_px) for each in every],
    }
    for label, name in (
        ("tomopolishHeldOutGainPerPair", "gain_per_pair"),
        ("tomopolishHeldOutGainError", "standard_error_per_pair"),
        ("tomopolishAgreementBefore", "agreement_before"),
        ("tomopolishAgreementAfter", "agreement_after"),
    ):
        columns[label] = [_number(getattr(each.evidence, name, math.nan)) for each in every]
    for label, name in (
        ("tomopolishShiftChangeAngst", "shift_angstrom"),
        ("tomopolishAngleChangeDegrees", "angle_degrees"),
        ("tomopolishPositionChangeAngst", "position_angstrom"),
        ("tomopolishSeconds", "seconds"),
    ):
        columns[label] = [_number(getattr(each, name)) for each in every]
    columns["tomopolishOptimisationSet"] = [maps.optimisation_set for _, maps, _ in rows]
    write_star(path, [StarTable(name="rounds", columns=columns)])


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "nan"
