"""Sentences on the rounds of a run while it is carried out; with several species they name each."""

from __future__ import annotations

from collections.abc import Sequence

from tomopolish.physics.fourier import FSC_THRESHOLD
from tomopolish.plain_text import counted, listed
from tomopolish.results.rounds import Round, gained, mean_fsc


def resolution(each: Round) -> str:
    """Say which resolution the half maps of a round reach."""
    if not each.resolves:
        which = "" if each.is_single else f" of {listed(each.unresolved)}"
        return f"half maps{which} agree at no resolution"
    return f"FSC {FSC_THRESHOLD:g} at {resolutions(each)}"


def resolutions(each: Round, chosen: Sequence[bool] | None = None) -> str:
    """Return the resolution of each species, or of the chosen ones, joined as in a sentence."""
    parts = [
        f"{maps.resolution_angstrom[0]:.2f} Å" + ("" if each.is_single else f" ({maps.name})")
        for number, maps in enumerate(each.species)
        if chosen is None or chosen[number]
    ]
    return listed(parts)


def references(before: Round, from_input: Sequence[bool]) -> str:
    """Say against which references a round refines: those of the input, or half maps of the round before."""
    made = [not is_own for is_own in from_input]
    own = "the input's references"
    if not any(made):
        return own
    half_maps = f"half maps of round {before.number} ({resolutions(before, made)})"
    return f"{own} and {half_maps}" if any(from_input) else half_maps


def gain(rounds: Sequence[Round]) -> str:
    """Say what the last round gained."""
    last, values = rounds[-1], mean_fsc(rounds)
    how = "gained" if gained(rounds, len(rounds) - 1) else "did not gain"
    changes = [
        f"{before:.3f} → {after:.3f}" + ("" if last.is_single else f" ({maps.name})")
        for maps, before, after in zip(last.species, values[-2], values[-1], strict=True)
    ]
    return (
        f"Round {last.number} {how}: {resolution(last)}, {resolution(rounds[-2])} before; mean FSC "
        f"{listed(changes)}"
    )


def failures(rounds: Sequence[Round]) -> list[str]:
    """Say which tomograms failed, in which rounds and why, and that this makes the exit status 1."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for each in rounds:
        for failure in each.failures:
            numbers.setdefault(failure, []).append(str(each.number))
    if not numbers:
        return []
    count = counted(len({name for name, _ in numbers}), "tomogram")
    return [
        *(
            f"{name} failed in round{'s' if len(failed) > 1 else ''} {listed(failed)}: {reason}"
            for (name, reason), failed in numbers.items()
        ),
        f"The exit status is 1, because {count} failed; a failed tomogram keeps its earlier values",
    ]
