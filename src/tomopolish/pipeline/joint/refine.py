"""Joint refinement of orientations, defocus, scale and B factor with the geometry of one tomogram.

See docs/dev/conventions.md, Joint refinement. Each group of unknowns is judged by held-out pairs, and put
back where it does not raise their likelihood.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.imaging.derivatives import (
    ALWAYS,
    ASTIGMATISM,
    ASTIGMATISM_ASIDE,
    BFACTOR,
    DEFOCUS,
    GEOMETRY,
    PHASE_SHIFT,
    SCALE,
)
from tomopolish.pipeline.joint.errors import with_all_sources
from tomopolish.pipeline.joint.held_out import judge
from tomopolish.pipeline.joint.images import JointImages
from tomopolish.pipeline.joint.overfit import without_overfitting
from tomopolish.pipeline.joint.priors import ORIENTATIONS
from tomopolish.pipeline.joint.shared import blur_by_turns, envelopes_at, shared_errors
from tomopolish.pipeline.joint.state import JointState
from tomopolish.pipeline.joint.steps import Point, Refiner
from tomopolish.plain_text import listed
from tomopolish.results.tomogram import Evidence, GroupEvidence
from tomopolish.settings.joint import JointSettings
from tomopolish.shapes import Array
from tomopolish.solve.joint import JointStep

TEST_DEFOCUS_ANGSTROM, TEST_PHASE = 500.0, 0.25
TEST_BFACTOR_ANGSTROM2, TEST_DAMPING = 50.0, 0.1
"""Defocus and B factor are refined where these changes turn the CTF's phase (radians), and damp the
prediction, by at least this much at the references' resolution; else faults of the references decide."""

LITTLE = 1.0
"""Log-likelihood per unknown that groups may lose as they are put back, for the model of one step to hold:
the changes are then errors of about one standard error, since each unknown fits ½ of noise."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JointFit:
    """The result of a joint refinement.

    Attributes
    ----------
    state, chosen
        With only those changes of orientations and optics that were asked for and that help, and their names.
    groups
        What the held-out pairs say of each group of unknowns.
    evidence
        What they say of the state that was refined without them, against the input; None without such pairs.
    sigmas
        Standard errors of what was asked for: ``orientations`` (P, 3), degrees, and of unknowns of the optics
        (F,); 0 where they are those of the input.
    shared
        The part of those of ln s and B that comes from errors that all images share (`shared`).
    blur_px2
        Variance of pairs' 2D positions, both axes together, that blurs as the errors of orientations do.
    passes
        Number of passes over the images.
    limit
        Largest frequency of the last passes, 1/px.
    """

    state: JointState
    chosen: tuple[str, ...]
    groups: tuple[GroupEvidence, ...]
    evidence: Evidence | None
    sigmas: Mapping[str, Array]
    shared: Mapping[str, Array]
    blur_px2: float
    warnings: tuple[str, ...]
    passes: int
    limit: float


def refine_jointly(images: JointImages, start: JointState, wanted: JointSettings) -> JointFit:
    """Refine orientations and optics with the geometry, from a state whose geometry is refined.

    Scale and B factor are estimated along in any case: without them defocus drifts.
    """
    groups, warnings = _groups(images, wanted)
    free = (SCALE, BFACTOR, *(name for names in groups.values() for name in names))
    refiner = Refiner(images=images, start=start, free=free)
    state, limits = start, refiner.limits()
    images = refiner.images = images.keeping(limits[-1])
    for limit in limits[:-1]:  # the equations at the next level show where a step went
        equations = refiner.look(state, limit, held_out=False)
        state = refiner.moved(state, refiner.step(state, equations, variances=False))
    point = refiner.descend(state, limits[-1], held_out=False)
    judged: tuple[GroupEvidence, ...] = ()
    gained: Evidence | None = None
    if images.held_out is not None and len(images.held_out.tilts):
        point, judged, gained = _judged(refiner, point, groups, limits[-1])
    refused = refiner.priors.put_back
    chosen = [n for names in groups.values() for n in names if n not in refused]
    envelopes = envelopes_at(refiner, point, limits[-1])
    state = without_overfitting(refiner, point, envelopes, refiner.moved(point.state, point.step))
    step = with_all_sources(refiner, point, limits[-1])
    shared = shared_errors(envelopes)
    asked = _unknowns(wanted)
    state = state.with_optics_of(chosen)
    if ORIENTATIONS not in chosen:
        state = replace(state, rotations=images.tomogram.particles.rotations)
    return JointFit(
        state=state,
        chosen=tuple(chosen),
        groups=judged,
        evidence=gained,
        sigmas=_sigmas(step, state.names, shared, asked, chosen),
        shared={name: sigma * (name in chosen) for name, sigma in shared.items() if name in asked},
        blur_px2=blur_by_turns(point.equations, step.particle_variance[:, :3]),
        warnings=(*warnings, *_put_back(images, judged), *_at_bounds(refiner, chosen)),
        passes=refiner.passes,
        limit=limits[-1],
    )


def _at_bounds(refiner: Refiner, chosen: Sequence[str]) -> list[str]:
    """Return a warning of unknowns that differ from the input by as much as a prior allows at most."""
    reached = refiner.priors.at_bounds(chosen)
    if not reached:
        return []
    name = refiner.images.tomogram.series.name
    return [
        f"joint refinement of {name} changed {listed(reached)}, as much as it allows: check these in the "
        "input, and refine the result once more"
    ]


def _groups(images: JointImages, wanted: JointSettings) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return the unknowns of each group that is refined, and warnings of those that cannot be."""
    groups: dict[str, tuple[str, ...]] = {}
    series = images.tomogram.series
    last = max(r.weight.last_shell / r.box_px for r in images.references) / series.pixel_size_angstrom
    turn = np.pi * series.microscope.wavelength_angstrom * TEST_DEFOCUS_ANGSTROM * last**2
    damping = TEST_BFACTOR_ANGSTROM2 * last**2 / 4
    unresolved = []
    if wanted.orientations:
        groups[ORIENTATIONS] = (ORIENTATIONS,)
    refine_bfactor = wanted.tilt_bfactor and damping >= TEST_DAMPING
    scaling = (SCALE,) * wanted.tilt_scale + (BFACTOR,) * refine_bfactor
    if scaling:
        groups["scale and B factor"] = scaling
    if wanted.tilt_bfactor and not refine_bfactor:
        unresolved.append("B factors")
    for is_wanted, name, unknowns in (
        (wanted.defocus, "defocus", (DEFOCUS,)),
        (wanted.astigmatism, "astigmatism", (ASTIGMATISM, ASTIGMATISM_ASIDE)),
    ):
        if is_wanted and turn >= TEST_PHASE:
            groups[name] = unknowns
        elif is_wanted:
            unresolved.append(name)
    if wanted.phase_shift:
        groups["phase shift"] = (PHASE_SHIFT,)
    return groups, [
        f"{' and '.join(unresolved)} of {series.name} stay as they were: the references reach "
        f"{1 / last:.1f} Å, which hardly shows them"
    ] * bool(unresolved)


def _judged(
    refiner: Refiner, point: Point, groups: Mapping[str, tuple[str, ...]], limit: float
) -> tuple[Point, tuple[GroupEvidence, ...], Evidence]:
    """Let held-out pairs judge each group, put back what does not help, and let them take part from there.

    Returns
    -------
    The point, and the step from there, of all pairs; what held-out pairs say of each group, for which the
    state after the step is compared with that in which the group is put back and all other unknowns respond;
    and what they say of that state against the input.
    """
    images, widths = refiner.images, refiner.priors
    states = [refiner.moved(point.state, point.step)]
    for names in groups.values():
        refiner.priors = replace(widths, put_back=names)
        states.append(_put_back_at(refiner, point))
    refiner.priors = widths
    held = images.held_out
    assert held is not None
    equations, values = images.held_out_pairs(point.state, states, limit)
    factors = np.array(images.scales)[images.given.owner[held.particles]]
    gained = judge(held.particles, values, (0, 1), factors)
    found = tuple(
        GroupEvidence(group=name, evidence=judge(held.particles, values, (i, 1)))
        for i, name in enumerate(groups, start=2)
    )
    point = replace(point, equations=point.equations.joined_with(equations))
    refused = tuple(n for group in found if not group.helps for n in groups[group.group])
    best = refiner.step(point.state, point.equations)
    if not refused:
        return replace(point, step=best), found, gained
    refiner.priors = replace(widths, put_back=refused)
    step = refiner.step(point.state, point.equations)
    rise, less = (point.equations.rise(s.particles, s.tilts) for s in (best, step))
    count = sum(step.particles[:, :3].size if n == ORIENTATIONS else len(step.tilts) for n in refused)
    if rise - less < LITTLE * count:
        return replace(point, step=step), found, gained
    return refiner.descend(_put_back_at(refiner, point), limit, held_out=True), found, gained


def _put_back_at(refiner: Refiner, point: Point) -> JointState:
    """Return the state after a step that puts unknowns back, however long it is."""
    step = refiner.step(point.state, point.equations, variances=False)
    return point.state.moved(step.particles, step.tilts, refiner.images.tomogram)


def _put_back(images: JointImages, judged: Sequence[GroupEvidence]) -> list[str]:
    """Say which groups were put back."""
    name = images.tomogram.series.name
    return [
        f"the {group.group} of {name} went back to the input: held-out pairs did not improve "
        f"({group.evidence.gain:+.1f} ± {group.evidence.standard_error:.1f} in log-likelihood)"
        for group in judged
        if not group.helps
    ]


def _sigmas(
    step: JointStep,
    names: Sequence[str],
    shared: Mapping[str, Array],
    asked: Collection[str],
    chosen: Collection[str],
) -> dict[str, Array]:
    """Return the standard errors of all unknowns that were asked for; 0 where they are those of the input.

    Parameters
    ----------
    shared
        Standard errors by what all images share, which are not among the variances of the step.
    """
    sigmas: dict[str, Array] = {ORIENTATIONS: np.rad2deg(np.sqrt(step.particle_variance[:, :3]))}
    for name, variance in zip(names, step.tilt_variance[:, GEOMETRY:].T, strict=True):
        sigmas[name] = np.sqrt(variance + shared.get(name, 0.0) ** 2)
    return {name: sigma * (name in chosen) for name, sigma in sigmas.items() if name in asked}


def _unknowns(wanted: JointSettings) -> set[str]:
    """Return the unknowns that were asked for."""
    asked = {
        ORIENTATIONS: wanted.orientations,
        DEFOCUS: wanted.defocus,
        ASTIGMATISM: wanted.astigmatism,
        PHASE_SHIFT: wanted.phase_shift,
        SCALE: wanted.tilt_scale,
        BFACTOR: wanted.tilt_bfactor,
    }
    return {name for name, is_wanted in asked.items() if is_wanted}


def optics_of(wanted: JointSettings) -> tuple[str, ...]:
    """Return the unknowns of the optics whose derivatives a refinement needs."""
    extra = (ASTIGMATISM, ASTIGMATISM_ASIDE) * wanted.astigmatism + (PHASE_SHIFT,) * wanted.phase_shift
    return (*ALWAYS, *extra)
