"""Steps of a joint refinement of one tomogram, and the levels of resolution at which they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tomopolish.imaging.derivatives import (
    ASTIGMATISM,
    ASTIGMATISM_ASIDE,
    BFACTOR,
    DEFOCUS,
    GEOMETRY,
    PHASE_SHIFT,
    SCALE,
)
from tomopolish.physics.geometry import rotation_vector
from tomopolish.pipeline.joint.images import JointImages
from tomopolish.pipeline.joint.priors import (
    FIRST_WIDTHS,
    HAVE_A_MEAN,
    LARGEST_WIDTHS,
    ORIENTATIONS,
    Priors,
)
from tomopolish.pipeline.joint.state import JointState
from tomopolish.shapes import Array, Bool, Float
from tomopolish.solve.joint import (
    PARTICLE,
    JointPrior,
    JointStep,
    NormalEquations,
    estimated_mean,
    estimated_width,
    estimated_widths,
    joint_step,
)
from tomopolish.solve.outliers import SHOWN

COARSEST = 12.0
"""Fourier px of the first level: there, turns of 6° change the view of a particle by less than a period."""

FINER = 2.0
"""Ratio of the limits of successive levels, about."""

FINE_STEPS, SHORTENINGS = 12, 4
"""Maximum number of steps at all frequencies, and of attempts to shorten one."""
ENOUGH = 1.0
"""Rise of the log-posterior per particle that is too small for another pass: a step that predicts so little,
which is still taken, moves the unknowns by about half their standard errors."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """A state with its equations, and the step from there."""

    state: JointState
    equations: NormalEquations
    step: JointStep


@dataclass(eq=False)
class Refiner:
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
        turns = self.priors.turn_precisions(self.images.tomogram.owner)
        own = np.stack([turns] * 3 + [np.full(len(turns), px)] * 3, axis=-1)
        shared = np.array([arm**2 * px] * 3 + [px] * 2 + [self.priors.precision(n) for n in names])
        free = [not fit.const_angles] * 3 + [not fit.const_shifts] * 2 + [n in self.free for n in names]
        return JointPrior(
            particle_precision=self.images.particle_weights[:, None] * own,
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

    def frames(self, state: JointState) -> Float[Array, "P 3 3"] | None:
        """Return the particles' rotations where projections can turn with all of them; else None."""
        can_turn = ORIENTATIONS in self.free and not self.images.settings.fit.const_angles
        return state.rotations if can_turn else None

    def step(
        self,
        state: JointState,
        equations: NormalEquations,
        *,
        variances: bool = True,
        without_net_turn: bool = False,
    ) -> JointStep:
        """Return the step from a state; `without_net_turn` concerns variances (`joint_step`)."""
        frames = self.frames(state) if without_net_turn else None
        step = joint_step(
            equations, self.prior(), *self.departures(state), variances=variances, frames=frames
        )
        # Variances are those that particles would have if they certainly showed their references.
        own = step.particle_variance * self.images.particle_weights[:, None]
        return replace(step, particle_variance=own)

    def look(self, state: JointState, limit: float, *, held_out: bool) -> NormalEquations:
        """Return the equations at a state; see `JointImages.equations`."""
        self.passes += 1
        return self.images.equations(state, limit, held_out=held_out)

    def moved(self, state: JointState, step: JointStep, factor: float = 1.0) -> JointState:
        """Return the state after a step that is not too long."""
        return state.moved(*_shortened(step, state.names, factor), self.images.tomogram)

    def descend(self, state: JointState, limit: float, *, held_out: bool) -> Point:
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
        return Point(state=state, equations=equations, step=step)

    def informed_step(self, state: JointState, equations: NormalEquations) -> JointStep:
        """Return the step from a state, with the means and widths of the priors that it suggests."""
        for _ in range(WIDTH_ROUNDS):
            step = self.step(state, equations)
            before, self.priors = self.priors, self.estimated_priors(state, equations, step)
            if before.agree_with(self.priors, WIDTH_TOLERANCE):
                self.priors = before  # the step's own
                return step
        return self.step(state, equations)

    def estimated_priors(self, state: JointState, equations: NormalEquations, step: JointStep) -> Priors:
        """Return the priors that the point suggests to which a step leads."""
        after = state.moved(step.particles, step.tilts, self.images.tomogram)
        seen = np.asarray(self.images.visible.any(axis=1))
        if not seen.any():
            return self.priors
        widths, turn_widths = dict(self.priors.widths), self.priors.turn_widths
        if ORIENTATIONS in self.free:
            shown = self.images.visible.any(axis=0) & (self.images.particle_weights >= SHOWN)
            widths[ORIENTATIONS], turn_widths = estimated_widths(
                after.turns(self.images.tomogram)[shown],
                step.particle_variance[shown, :3],
                self.images.tomogram.owner[shown],
                turn_widths or (widths[ORIENTATIONS],) * len(self.images.tomogram.species),
                (FIRST_WIDTHS[ORIENTATIONS], LARGEST_WIDTHS[ORIENTATIONS]),
            )
        means, departures = self._estimated_means(after, equations, seen)
        for i, name in enumerate(state.names):
            if name in self.free and name not in self.priors.put_back:
                variances = step.tilt_variance[seen, GEOMETRY + i]
                scale = (FIRST_WIDTHS[name], LARGEST_WIDTHS[name])
                widths[name] = estimated_width(departures[:, i], variances, widths[name], scale)
        return replace(self.priors, widths=widths, means=means, turn_widths=turn_widths)

    def _estimated_means(
        self, state: JointState, equations: NormalEquations, seen: Bool[Array, "F"]
    ) -> tuple[dict[str, float], Float[Array, "N U"]]:
        """Return the priors' means that a state suggests, and how far its optics are from them.

        Parameters
        ----------
        equations
            At that state, or close to it.
        seen
            Tilt images that count.
        """
        priors = self.priors
        means = {**priors.means}
        departures = state.optics[seen] - [priors.mean(name) for name in state.names]
        names = [n for n in HAVE_A_MEAN if n in self.free and n not in priors.put_back]
        columns = [state.names.index(name) for name in names]
        places = np.add(columns, GEOMETRY)
        if names:
            change, follow = estimated_mean(
                equations.tilts[np.ix_(np.flatnonzero(seen), places, places)],
                np.array([priors.precision(name) for name in names]),
                departures[:, columns],
                (
                    np.array([LARGEST_WIDTHS[name] ** -2 for name in names]),
                    np.array([priors.mean(name) for name in names]),
                ),
            )
            departures[:, columns] += follow - change
            means |= {name: priors.mean(name) + float(by) for name, by in zip(names, change, strict=True)}
        return means, departures

    def limits(self) -> list[float]:
        """Return the limits of successive levels, 1/px, coarse to fine."""
        finest = max(r.weight.last_frequency / r.box_px for r in self.images.references)
        box_px = max(r.box_px for r in self.images.references)
        if ORIENTATIONS not in self.free:
            return [finest]
        steps = max(round(np.log(finest * box_px / COARSEST) / np.log(FINER)), 1)
        return [*np.geomspace(COARSEST / box_px, finest, steps, endpoint=False), finest]


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
