"""The alignment of one round: against the maps of the round before, each half set against its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tomopolish.pipeline.joint.priors import ORIENTATIONS
from tomopolish.results.rounds import Round, RoundEvidence
from tomopolish.results.tomogram import TomogramStatistics
from tomopolish.results.verdict import Verdict
from tomopolish.settings.alignment import AlignSettings, InputPaths
from tomopolish.settings.polish import PolishSettings

LEAST_RANGE_PX = 4
RANGE_PER_MOVED = 4.0
"""Range of a round over the root mean square by which the round before moved pairs."""


def next_range_px(rounds: Sequence[Round], settings: PolishSettings, pixel_size_angstrom: float) -> int:
    """Return the range of the next round: half of the last, but four times how far its pairs moved."""
    first = settings.align.windows.range_px
    last = rounds[-1]
    if last.range_px == 0:
        return first
    needed = RANGE_PER_MOVED * max(last.moved_angstrom, last.shift_angstrom) / pixel_size_angstrom
    return min(last.range_px, max(LEAST_RANGE_PX, last.range_px // 2, int(np.ceil(needed))))


def round_inputs(given: InputPaths, sets: Sequence[Path | None]) -> InputPaths:
    """Return the inputs of a round: for each species its optimisation set, or None for that of the input."""
    if given.species:
        species = [
            named if path is None else replace(named, optimisation_set=path)
            for named, path in zip(given.species, sets, strict=True)
        ]
        return replace(given, species=tuple(species))
    if sets[0] is None:
        return given
    return InputPaths(optimisation_set=sets[0], relion_version=given.relion_version, tilts=given.tilts)


def round_settings(
    settings: PolishSettings, folder: Path, inputs: InputPaths, range_px: int, *, resume: bool, first: bool
) -> AlignSettings:
    """Return the settings of one round's alignment."""
    align = settings.align
    cutoffs = [align.weights.freq_cutoff_angstrom]
    if first:
        cutoffs.append(settings.initial_resolution_angstrom)
    known = [cutoff for cutoff in cutoffs if cutoff is not None]
    return replace(
        align,
        inputs=inputs,
        windows=replace(align.windows, range_px=range_px),
        weights=replace(align.weights, freq_cutoff_angstrom=max(known, default=None)),
        run=replace(
            align.run,
            output_folder=folder,
            only_do_unfinished=resume,
            pipeline_folder=None,
            dry_run=False,
            evaluate=False,
        ),
    )


def round_evidence(verdict: Verdict | None) -> RoundEvidence | None:
    """Return what a round keeps of its verdict."""
    if verdict is None:
        return None
    return RoundEvidence(
        outcome=verdict.outcome,
        gain_per_pair=verdict.gain_per_pair,
        standard_error_per_pair=verdict.standard_error_per_pair,
        agreement_before=verdict.agreement_before,
        agreement_after=verdict.agreement_after,
    )


def changes(statistics: Mapping[str, TomogramStatistics]) -> dict[str, float]:
    """Return the root mean square changes over all tomograms, as fields of `Round`."""
    every = list(statistics.values())

    def rms(values: Sequence[float]) -> float:
        return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0

    return {
        "shift_angstrom": rms([s.rms_shift_angstrom for s in every]),
        "angle_degrees": rms([s.rms_angle_degrees for s in every]),
        "position_angstrom": rms([s.rms_position_angstrom for s in every]),
        "moved_angstrom": rms([s.evidence.moved_angstrom for s in every if s.evidence is not None]),
    }


def turned_particles(settings: AlignSettings, statistics: Mapping[str, TomogramStatistics]) -> bool:
    """Return whether orientations were refined, and did not go back to the input in every tomogram."""
    if not settings.joint.orientations:
        return False
    judged = [[group.helps for group in s.groups if group.group == ORIENTATIONS] for s in statistics.values()]
    return any(all(helps) for helps in judged)


def kept_groups(statistics: Mapping[str, TomogramStatistics]) -> tuple[tuple[str, int], ...]:
    """Return in how many tomograms each group of unknowns was kept."""
    counts: dict[str, int] = {}
    for each in statistics.values():
        if each.motion is not None:
            counts["motion"] = counts.get("motion", 0) + each.motion.helps
        for group in each.groups:
            counts[group.group] = counts.get(group.group, 0) + group.helps
    return tuple(counts.items())
