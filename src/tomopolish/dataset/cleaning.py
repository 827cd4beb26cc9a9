"""Choice of the particles and tilt images that a set keeps, by their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tomopolish.dataset.project import Dataset
from tomopolish.dataset.relion.scores import ReadScores
from tomopolish.dataset.relion.tomograms import TomogramSet
from tomopolish.dataset.species import Project
from tomopolish.errors import InputError
from tomopolish.shapes import Array, Bool

SAME_SET = "give the scores that were written beside this set"


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """Which scores cost an item its place.

    Attributes
    ----------
    min_probability
        Particles of a lower probability are left out; None: probabilities do not count.
    flagged
        Whether flagged particles are left out.
    tilts
        Whether flagged tilt images are left out.
    """

    min_probability: float | None
    flagged: bool
    tilts: bool


@dataclass(frozen=True, kw_only=True)
class ChosenParticles:
    """Choice among the particles of one species.

    Attributes
    ----------
    reasons
        Why each particle is left out, in the order of the set; empty where it remains.
    unscored
        Tomograms without scores, whose particles remain.
    emptied
        Tomograms of which no particle remains.
    """

    reasons: tuple[str, ...]
    unscored: tuple[str, ...]
    emptied: tuple[str, ...]

    @property
    def remains(self) -> Bool[Array, "rows"]:
        """Whether each particle remains."""
        return np.array([not reason for reason in self.reasons], dtype=bool)

    def counts(self) -> Counter[str]:
        """Return the number of particles that are left out for each reason."""
        return Counter(filter(None, self.reasons))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Choice among the particles and tilt images of a project.

    Attributes
    ----------
    particles
        Of each species, in the project's order.
    tilts
        Tomogram → why each tilt image is left out, in the order of its rows; empty where it remains. Only
        tomograms with scores.
    flagged_tilts
        Number of tilt images that are flagged.
    without_tilts
        Tomograms of which no tilt image would remain: all of them remain, and no particle does.
    """

    particles: tuple[ChosenParticles, ...]
    tilts: Mapping[str, tuple[str, ...]]
    flagged_tilts: int
    without_tilts: tuple[str, ...]

    @property
    def lost_tilts(self) -> dict[str, Bool[Array, "F"]]:
        """Tomogram → whether each tilt image remains, of tomograms that lose some."""
        return {
            name: np.array([not reason for reason in reasons], dtype=bool)
            for name, reasons in self.tilts.items()
            if any(reasons)
        }

    def tilt_counts(self) -> Counter[str]:
        """Return the number of tilt images that are left out for each reason."""
        return Counter(reason for reasons in self.tilts.values() for reason in reasons if reason)


def choose(project: Project, scores: Sequence[ReadScores], criteria: Criteria) -> Choice:
    """Return the particles and tilt images that remain, by the scores of each species.

    Raises InputError when scores belong to another set, or no particle of a species would remain.
    """
    known = project.first.tomograms
    flags = {name: reasons for name, reasons in _flagged_tilts(scores).items() if name in known}
    tilts = {name: reasons if criteria.tilts else ("",) * len(reasons) for name, reasons in flags.items()}
    if criteria.tilts:
        _check_lengths(known, tilts, scores[0].source)
    without_tilts = [name for name, reasons in tilts.items() if reasons and all(reasons)]
    for name in without_tilts:
        tilts[name] = ("",) * len(tilts[name])
    particles = []
    for species, of_species in zip(project.species, scores, strict=True):
        chosen = _particles(species.dataset, of_species, criteria, without_tilts)
        if all(chosen.reasons):
            raise InputError(
                project.named(
                    species,
                    f"no particle would remain: {listed_counts(chosen.counts())}; give a lower "
                    "--min_probability without --drop_flagged, or leave --drop_tilts out",
                )
            )
        particles.append(chosen)
    return Choice(
        particles=tuple(particles),
        tilts=tilts,
        flagged_tilts=sum(bool(reason) for reasons in flags.values() for reason in reasons),
        without_tilts=tuple(without_tilts),
    )


def listed_counts(counts: Mapping[str, int]) -> str:
    """Return numbers with their reasons, the largest first: ``3 (picked twice), 1 (not visible)``."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{number} ({reason})" for reason, number in ordered)


def _flagged_tilts(scores: Sequence[ReadScores]) -> dict[str, tuple[str, ...]]:
    """Return why each tilt image is flagged by all species with scores of its tomogram; empty if not.

    Species that were refined together have the same flags; of others, one may see what another does not.
    """
    flags: dict[str, tuple[str, ...]] = {}
    for of_species in scores:
        for name, (_, reasons) in of_species.tilts.items():
            before = flags.get(name, reasons)
            if len(before) != len(reasons):
                raise InputError(
                    f"{of_species.source}: {name} has {len(reasons)} tilt images, but {len(before)} in "
                    f"{scores[0].source}; give scores of species that were refined together"
                )
            flags[name] = tuple(a if a and b else "" for a, b in zip(before, reasons, strict=True))
    return flags


def _check_lengths(tomograms: TomogramSet, tilts: Mapping[str, tuple[str, ...]], source: str) -> None:
    for name, reasons in tilts.items():
        table = tomograms.series(name)
        if len(table) != len(reasons):
            raise InputError(
                f"{source}: {name} has {len(reasons)} tilt images, but {len(table)} in {table.source}; "
                f"{SAME_SET}"
            )


def _particles(
    dataset: Dataset, scores: ReadScores, criteria: Criteria, without_tilts: Sequence[str]
) -> ChosenParticles:
    particles, reasons = dataset.particles, [""] * len(dataset.particles)
    _check_names(dataset, scores)
    scored = {tomogram for tomogram, _ in scores.particles}
    unscored, emptied = [], []
    for tomogram, rows in particles.rows_by_tomogram.items():
        if tomogram in without_tilts:
            of_rows = ["no tilt image would remain"] * len(rows)
        elif tomogram in scored:
            of_rows = [_reason(scores, (tomogram, particles.names[row]), criteria) for row in rows]
        else:
            unscored.append(tomogram)
            continue
        for row, reason in zip(rows, of_rows, strict=True):
            reasons[row] = reason
        if all(of_rows):
            emptied.append(tomogram)
    return ChosenParticles(reasons=tuple(reasons), unscored=tuple(unscored), emptied=tuple(emptied))


def _reason(scores: ReadScores, key: tuple[str, str], criteria: Criteria) -> str:
    """Return why a particle is left out; empty where it remains."""
    probability, reason = scores.particles[key]
    least = criteria.min_probability
    is_improbable = least is not None and probability < least
    if reason and (criteria.flagged or is_improbable):
        return reason
    return f"probability below {least:g}" if is_improbable else ""


def _check_names(dataset: Dataset, scores: ReadScores) -> None:
    """Raise InputError where the scores are of other particles.

    A run scores all particles of a tomogram or none. A set that was cleaned before has fewer.
    """
    particles, counts = dataset.particles, Counter(tomogram for tomogram, _ in scores.particles)
    shown = dataset.files.shown("particles")
    scored = {tomogram: rows for tomogram, rows in particles.rows_by_tomogram.items() if counts[tomogram]}
    if not scored:
        raise InputError(f"{scores.source}: none of its tomograms is in {shown}; {SAME_SET}")
    for tomogram, rows in scored.items():
        names = [particles.names[row] for row in rows]
        missing = next((name for name in names if (tomogram, name) not in scores.particles), None)
        if missing is not None:
            raise InputError(
                f"{scores.source}: {tomogram} has scores, but not of its particle {missing} in {shown}; "
                f"{SAME_SET}"
            )
        if particles.naming.fault is not None and counts[tomogram] != len(rows):
            raise InputError(
                f"{scores.source}: {tomogram} has {counts[tomogram]} particles, but {len(rows)} in {shown}, "
                f"where they have no names by which their scores could be found; {SAME_SET}"
            )
