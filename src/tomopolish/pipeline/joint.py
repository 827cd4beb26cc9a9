"""Joint refinement of orientations, defocus, scale and B factor with the geometry of one tomogram.

See docs/dev/conventions.md, Joint refinement. Each group of unknowns is judged by held-out pairs, and put
back where it does not raise their likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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
from tomopolish.physics.geometry import rotation_vector
from tomopolish.pipeline.joint_images import HeldOutValues, JointImages, judge
from tomopolish.pipeline.joint_priors import LARGEST_WIDTHS, ORIENTATIONS, Priors
from tomopolish.pipeline.joint_state import JointState
from tomopolish.results.tomogram import GroupEvidence
from tomopolish.settings.joint import JointSettings
from tomopolish.shapes import Float
from tomopolish.solve.joint import (
    PARTICLE,
    JointPrior,
    JointStep,
    NormalEquations,
    estimated_width,
    joint_step,
)

Array = np.ndarray

COARSEST = 12.0
"""Fourier px of the first level: there, turns of 6° change the view of a particle by less than a period."""

FINER = 1.5
"""Ratio of the limits of successive levels."""

FINE_STEPS, SHORTENINGS = 12, 4
"""Maximum number of steps at all frequencies, and of attempts to shorten one."""
ENOUGH = 0.2
"""Rise of the log-posterior per particle that is too small for another pass: a step that predicts so little,
which is still taken, moves the unknowns by a quarter of their standard errors."""
WIDTH_ROUNDS, WIDTH_TOLERANCE = 3, 0.05
"""Maximum number of estimates of the priors' widths from one pass, and the relative change that ends them."""

LARGEST_TURN, LARGEST_SHIFT_PX = float(np.deg2rad(3.0)), 3.0
"""Steps beyond them are shortened."""
LARGEST_STEPS = {
    SCALE: 0.5,
    BFACTOR: 50.0,
    DEFOCUS: 1500.0,
    ASTIGMATISM: 1000.0,
    ASTIGMATISM_ASIDE: 1000.0,
    PHASE_SHIFT: 30.0,
}

TEST_DEFOCUS_ANGSTROM, TEST_PHASE = 500.0, 0.25
TEST_BFACTOR_ANGSTROM2, TEST_DAMPING = 50.0, 0.1
"""Defocus and B factor are refined where these changes turn the CTF's phase (radians), and damp the
prediction, by at least this much at the references' resolution; else faults of the references decide."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JointFit:
    """The result of a joint refinement.

    Attributes
    ----------
    state, chosen
        With only those changes of orientations and optics that were asked for and that help, and their names.
    groups
        What the held-out pairs say of each group of unknowns.
    held_out
        Values of the held-out pairs at the state that was refined without them; None without such pairs.
    sigmas
        Standard errors of what was asked for: ``orientations`` (P, 3), degrees, and of unknowns of the optics
        (F,); 0 where they are those of the input.
    passes
        Number of passes over the images.
    limit
        Largest frequency of the last passes, 1/px.
    """

    state: JointState
    chosen: tuple[str, ...]
    groups: tuple[GroupEvidence, ...]
    held_out: HeldOutValues | None
    sigmas: Mapping[str, Array]
    warnings: tuple[str, ...]
    passes: int
    limit: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Point:
    """A state with its equations, and the step from there."""

    state: JointState
    equations: NormalEquations
    step: JointStep


@dataclass(eq=False)
class _Refiner:
    """One tomogram's joint refinement."""

    images: JointImages
    start: JointState
    free: tuple[str, ...]
    priors: Priors = field(default_factory=Priors)
    passes: int = 0

    def prior(self) -> JointPrior:
        """Return the priors of a step."""
        tilts = len(self.images.visible)
        fit, names = self.images.settings.fit, self.start.names
        px = 1 / self.images.settings.windows.range_px**2
        arm = 0.25 * float(np.linalg.norm(self.images.tomogram.series.tomogram_size_px))
        own = np.array([self.priors.precision(ORIENTATIONS)] * 3 + [px] * 3)
        shared = np.array([arm**2 * px] * 3 + [px] * 2 + [self.priors.precision(n) for n in names])
        free = [not fit.const_angles] * 3 + [not fit.const_shifts] * 2 + [n in self.free for n in names]
        return JointPrior(
            particle_precision=np.outer(self.images.particle_weights, own),
            tilt_precision=np.broadcast_to(shared, (tilts, len(shared))),
            particle_free=np.array([ORIENTATIONS in self.free] * 3 + [not fit.const_positions] * 3),
            tilt_free=np.multiply.outer(self.images.visible.any(axis=1), free),
        )

    def departures(self, state: JointState) -> tuple[Float[Array, "P 6"], Float[Array, "F T"]]:
        """Return the unknowns of a state, relative to their priors' means."""
        tomogram = self.images.tomogram
        own = np.concatenate(
            [state.turns(tomogram), state.positions_px - tomogram.particles.positions_px], axis=1
        )
        before = self.start.projections_px
        turned = rotation_vector(state.projections_px[:, :3, :3] @ np.swapaxes(before[:, :3, :3], 1, 2))
        means = np.array([self.priors.mean(name) for name in state.names])
        moved = np.zeros((len(turned), 2))  # shifts have no memory of where they began
        return own, np.concatenate([turned, moved, state.optics - means], axis=1)

    def objective(self, state: JointState, equations: NormalEquations) -> float:
        """Return the log-posterior up to a constant."""
        prior = self.prior()
        own, shared = self.departures(state)
        penalty = np.sum(prior.particle_precision * own**2 * prior.particle_free)
        penalty += np.sum(prior.tilt_precision * shared**2 * prior.tilt_free)
        return float(equations.log_likelihood.sum()) - 0.5 * float(penalty)

    def step(self, state: JointState, equations: NormalEquations) -> JointStep:
        """Return the step from a state."""
        step = joint_step(equations, self.prior(), *self.departures(state))
        # Variances are those that particles would have if they certainly showed their references.
        own = step.particle_variance * self.images.particle_weights[:, None]
        return replace(step, particle_variance=own)

    def look(self, state: JointState, limit: float, *, held_out: bool | None) -> NormalEquations:
        """Return the equations at a state; see `JointImages.equations`."""
        self.passes += held_out is not True
        return self.images.equations(state, limit, held_out=held_out)

    def moved(self, state: JointState, step: JointStep, factor: float = 1.0) -> JointState:
        """Return the state after a step that is not too long."""
        return state.moved(*_shortened(step, state.names, factor), self.images.tomogram)

    def descend(self, state: JointState, limit: float, *, held_out: bool | None) -> _Point:
        """Repeat steps at one resolution, which must raise the log-posterior, until they are short."""
        equations, enough = self.look(state, limit, held_out=held_out), ENOUGH * len(state.positions_px)
        step = self.informed_step(state, equations)
        for _ in range(FINE_STEPS):
            if step.predicted < enough:
                break
            value = self.objective(state, equations)
            for shortening in range(SHORTENINGS):
                trial = self.moved(state, step, 0.5**shortening)
                there = self.look(trial, limit, held_out=held_out)
                gain = self.objective(trial, there) - value
                if gain > 0:
                    break
            else:
                break
            state, equations = trial, there
            step = self.informed_step(state, equations)
            if gain < enough:
                break
        return _Point(state=state, equations=equations, step=step)

    def informed_step(self, state: JointState, equations: NormalEquations) -> JointStep:
        """Return the step from a state, with the widths of the priors that it suggests."""
        for _ in range(WIDTH_ROUNDS):
            step, before = self.step(state, equations), self.priors.widths
            self.estimate_widths(state, step)
            after = self.priors.widths
            if all(abs(after[name] - width) <= WIDTH_TOLERANCE * width for name, width in before.items()):
                break
        return self.step(state, equations)

    def estimate_widths(self, state: JointState, step: JointStep) -> None:
        """Estimate the priors' widths from the point that a step leads to."""
        after = state.moved(step.particles, step.tilts, self.images.tomogram)
        seen = self.images.visible.any(axis=1)
        if not seen.any():
            return
        widths, means = dict(self.priors.widths), dict(self.priors.means)
        if ORIENTATIONS in self.free:
            shown = self.images.visible.any(axis=0)
            widths[ORIENTATIONS] = estimated_width(
                after.turns(self.images.tomogram)[shown].ravel(),
                step.particle_variance[shown, :3].ravel(),
                widths[ORIENTATIONS],
                LARGEST_WIDTHS[ORIENTATIONS],
            )
        for i, name in enumerate(state.names):
            if name not in self.free or name in self.priors.put_back:
                continue
            values, variances = after.optics[seen, i], step.tilt_variance[seen, GEOMETRY + i]
            if name in (SCALE, BFACTOR):
                means[name] = float(np.average(values, weights=1 / variances))
            widths[name] = estimated_width(
                values - means.get(name, 0.0), variances, widths[name], LARGEST_WIDTHS[name]
            )
        self.priors = replace(self.priors, widths=widths, means=means)

    def limits(self) -> list[float]:
        """Return the limits of successive levels, 1/px, coarse to fine."""
        finest = max(r.weight.last_frequency / r.box_px for r in self.images.references)
        box_px = max(r.box_px for r in self.images.references)
        if ORIENTATIONS not in self.free:
            return [finest]
        levels = [COARSEST / box_px]
        while levels[-1] * FINER**1.2 < finest:
            levels.append(levels[-1] * FINER)
        return [*levels, finest]


def _shortened(step: JointStep, names: Sequence[str], factor: float) -> tuple[Array, Array]:
    """Return a step, parts of which are shortened to their largest length."""
    own, shared = factor * step.particles, factor * step.tilts
    for moved, end in ((own, PARTICLE), (shared, GEOMETRY)):
        for part, largest in ((slice(3), LARGEST_TURN), (slice(3, end), LARGEST_SHIFT_PX)):
            length = np.linalg.norm(moved[:, part], axis=1, keepdims=True)
            moved[:, part] /= np.maximum(length / largest, 1)
    limits = np.array([LARGEST_STEPS[name] for name in names])
    shared[:, GEOMETRY:] = np.clip(shared[:, GEOMETRY:], -limits, limits)
    return own, shared


def refine_jointly(images: JointImages, start: JointState, wanted: JointSettings) -> JointFit:
    """Refine orientations and optics with the geometry, from a state whose geometry is refined.

    Scale and B factor are estimated along in any case: without them defocus drifts.
    """
    groups, warnings = _groups(images, wanted)
    free = (SCALE, BFACTOR, *(name for names in groups.values() for name in names))
    refiner = _Refiner(images=images, start=start, free=free)
    state, limits = start, refiner.limits()
    for limit in limits[:-1]:  # the equations at the next level show where a step went
        state = refiner.moved(state, refiner.step(state, refiner.look(state, limit, held_out=False)))
    point = refiner.descend(state, limits[-1], held_out=False)
    judged: tuple[GroupEvidence, ...] = ()
    values: HeldOutValues | None = None
    if images.held_out is not None and len(images.held_out.tilts):
        judged, values = _judged(refiner, point, groups, limits[-1])
        point = _with_held_out(refiner, point, groups, judged, limits[-1])
    refused = refiner.priors.put_back
    chosen = [n for names in groups.values() for n in names if n not in refused]
    state = refiner.moved(point.state, point.step).with_optics_of(chosen)
    if ORIENTATIONS not in chosen:
        state = replace(state, rotations=images.tomogram.particles.rotations)
    return JointFit(
        state=state,
        chosen=tuple(chosen),
        groups=judged,
        held_out=values,
        sigmas=_sigmas(point.step, state.names, wanted, chosen),
        warnings=(*warnings, *_put_back(images, judged)),
        passes=refiner.passes,
        limit=limits[-1],
    )


def _with_held_out(
    refiner: _Refiner,
    point: _Point,
    groups: Mapping[str, tuple[str, ...]],
    judged: Sequence[GroupEvidence],
    limit: float,
) -> _Point:
    """Return the point, and the step from there, of all pairs; groups that do not help are put back."""
    refused = tuple(n for g in judged if not g.helps for n in groups[g.group])
    equations = point.equations.joined_with(refiner.look(point.state, limit, held_out=True))
    if not refused:
        return replace(point, equations=equations, step=refiner.step(point.state, equations))
    refiner.priors = replace(refiner.priors, put_back=refused)
    step = refiner.step(point.state, equations)
    state = point.state.moved(step.particles, step.tilts, refiner.images.tomogram)
    return refiner.descend(state, limit, held_out=None)


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
    refiner: _Refiner, point: _Point, groups: Mapping[str, tuple[str, ...]], limit: float
) -> tuple[tuple[GroupEvidence, ...], HeldOutValues]:
    """Compare the state after the step with those in which a group is put back and all unknowns respond.

    Returns
    -------
    What held-out pairs say of each group, and their values at the state after the step.
    """
    refined, states = refiner.priors, [refiner.moved(point.state, point.step)]
    for names in groups.values():
        refiner.priors = replace(refined, put_back=names)
        step = refiner.step(point.state, point.equations)
        states.append(point.state.moved(step.particles, step.tilts, refiner.images.tomogram))
    refiner.priors = refined
    held = refiner.images.held_out
    assert held is not None
    values = refiner.images.held_out_values(states, limit)
    found = [judge(held.particles, values, (i, 0)) for i in range(1, len(states))]
    evidences = tuple(
        GroupEvidence(group=name, evidence=evidence) for name, evidence in zip(groups, found, strict=True)
    )
    return evidences, values.part(0)


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
    step: JointStep, names: Sequence[str], wanted: JointSettings, chosen: Sequence[str]
) -> dict[str, Array]:
    """Return the standard errors of all unknowns that were asked for; 0 where they are those of the input."""
    asked = _unknowns(wanted)
    sigmas = {
        name: np.sqrt(step.tilt_variance[:, GEOMETRY + i]) * (name in chosen) for i, name in enumerate(names)
    }
    sigmas[ORIENTATIONS] = np.rad2deg(np.sqrt(step.particle_variance[:, :3])) * (ORIENTATIONS in chosen)
    return {name: sigma for name, sigma in sigmas.items() if name in asked}


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
