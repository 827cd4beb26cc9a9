"""The modes of a Gaussian process of motion that images can move: a basis of space and time.

A mode is an eigenvector of the particles' covariance that follows one of a few courses over the exposure.
Fine modes in space matter for slow courses only, and fast courses for coarse modes only, so that the modes
that count are far fewer than particles times tilt images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from tomopolish.models import motion_kernels
from tomopolish.models.courses import on_threads, paths
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.models.leading_inverse import FieldCoefficients, LeadingInverse, inverse_for_fields
from tomopolish.models.motion_inverse import DiagonalInverse, Followed, MotionInverse
from tomopolish.models.protocols import StepByProducts
from tomopolish.shapes import Array, Float, Float32, Int

CAUTION = 2.0
"""Factor on the information of an average particle's images, since some show more than others."""
UNREPRESENTED = 1e-6
"""Share of a field's velocities, squared, that leading modes need not represent."""
PANEL_ROWS = 150
"""Particles of a panel, below which a product gains nothing from a thread of its own."""
MAX_PANELS = 16
SIMILAR = 0.8
"""Courses are multiplied together where the shortest has at least this share of the longest's modes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LeadingModes(StepByProducts):
    """Motion in the leading modes of a Gaussian process; `of` chooses them.

    Coefficients are one vector, course after course, of the leading modes of space; their prior is ½Σc².

    Attributes
    ----------
    factor
        L of the process, px: modes of space, largest variance first.
    courses
        Orthonormal courses of whitened velocities over time step and component, columns.
    counts
        Number of leading modes of space that follow each course; descending.
    chronological, step_scales
        As in the process.
    own_px2
        Variance of a component of each particle's velocity in a typical step, by the process.
    threads
        Threads over which products are spread; results do not depend on them.
    """

    factor: Float[Array, "P K"]
    courses: Float[Array, "T Q"]
    counts: Int[Array, "Q"]
    chronological: Int[Array, "F"]
    step_scales: Float[Array, "steps"]
    own_px2: Float[Array, "P"]
    threads: int = 1

    @classmethod
    def of(
        cls,
        process: GaussianProcessMotion,
        time: Float[Array, "T T"],
        tolerance_px: float,
        followed: Float[Array, "J P 3"],
        threads: int = 1,
    ) -> LeadingModes:
        """Choose the modes without which trajectories change by less than the tolerance.

        A mode of prior variance 1 about which images have the information s is moved by them with variance
        s / (1 + s). Modes are left out, least movement first, as long as the root mean square of the offsets
        that they would have been moved by stays below the tolerance.

        Parameters
        ----------
        time
            Information of an average particle's images about its velocities, by time step and component.
        tolerance_px
            Root mean square over particles and tilt images.
        followed
            Velocities of particles that projections can follow. They are represented in every course, because
            priors alone decide between them and the projections.
        """
        information, courses = np.linalg.eigh(time)
        variances = process.variances_px2
        seen = CAUTION * np.outer(variances, np.maximum(information, 0))
        square = np.sum(paths(courses, process.step_scales) ** 2, axis=0)
        offsets = len(process.factor) * len(process.chronological)
        moved = np.outer(variances, square) / offsets * seen / (1 + seen)
        ascending = np.sort(moved, axis=None)
        beyond = int(np.searchsorted(np.cumsum(ascending), tolerance_px**2, side="right"))
        threshold = ascending[min(beyond, len(ascending) - 1)]
        counts = np.count_nonzero(moved >= threshold, axis=0)
        counts = np.maximum(counts, _needed_for(followed, process.factor, variances))
        order = np.argsort(-counts, kind="stable")
        order = order[counts[order] > 0]
        return cls(
            factor=np.asfortranarray(process.factor[:, : counts.max()]),
            courses=np.ascontiguousarray(courses[:, order]),
            counts=counts[order],
            chronological=process.chronological,
            step_scales=process.step_scales,
            own_px2=np.einsum("pk,pk->p", process.factor, process.factor),
            threads=threads,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,), the number of modes."""
        return (int(self.counts.sum()),)

    def offsets_px(self, coefficients: Float[Array, "N"], rough: bool = False) -> Float[Array, "F P 3"]:
        """Return each particle's offset from its static position in each tilt image (file order), px."""
        offsets = np.empty((len(self.chronological), len(self.factor), 3))
        factor = self._rough_factor if rough else self.factor
        tables = [self._table(coefficients, *block).astype(factor.dtype) for block in self._blocks]

        def move(panel: slice) -> None:
            along = np.empty((panel.stop - panel.start, len(self.counts)))
            for (begin, end), table in zip(self._blocks, tables, strict=True):
                along[:, begin:end] = factor[panel, : len(table)] @ table
            motion_kernels.place(along @ self._offsets_of_courses.T, panel.start, self.chronological, offsets)

        on_threads(move, self._panels, self.threads)
        return offsets

    def adjoint(self, gradient: Float[Array, "F P 3"], rough: bool = False) -> Float[Array, "N"]:
        """Return the gradient with respect to the coefficients from that with respect to the offsets."""

        def along(panel: slice) -> Array:
            gathered = np.empty((panel.stop - panel.start, 3 * (len(self.chronological) - 1)))
            motion_kernels.gather(gradient, panel.start, self.chronological, gathered)
            return np.asarray(gathered @ self._offsets_of_courses)

        return self._onto_modes(along, self._rough_factor if rough else self.factor)

    def coefficients(self, offsets_px: Float[Array, "F P 3"]) -> Float[Array, "N"]:
        """Return the coefficients of the offsets' velocities; exact where the modes can represent them."""
        velocities = np.diff(offsets_px[self.chronological], axis=0) / self.step_scales[:, None, None]
        along = velocities.swapaxes(0, 1).reshape(len(self.factor), -1) @ self.courses
        onto_modes = self._onto_modes(lambda panel: along[panel], self.factor)
        return onto_modes / self._of_each(self._variances_px2)

    def near_inverse(
        self,
        time: Float[Array, "T T"],
        prior: float,
        followed: Followed,
        near: MotionInverse | None = None,
    ) -> LeadingInverse:
        """Return an approximate inverse of the coefficients' curvature; see `MotionModel`."""
        if isinstance(near, LeadingInverse):
            fields = near.fields
        else:
            fields = FieldCoefficients.of(
                followed.fields, self.factor, self._variances_px2, self.courses, self.counts
            )
        information = np.maximum(np.sum(self.courses * (time @ self.courses), axis=0), 0)
        curvature = prior + self._of_each(self._variances_px2) * np.repeat(information, self.counts)
        return LeadingInverse(
            apart=DiagonalInverse(curvature=curvature),
            fields=fields,
            of_fields=inverse_for_fields(fields.independent, followed.curvature, prior),
        )

    @cached_property
    def _rough_factor(self) -> Float32[Array, "P K"]:
        return np.asfortranarray(self.factor, dtype=np.float32)

    @cached_property
    def _variances_px2(self) -> Float[Array, "K"]:
        return np.asarray(np.sum(self.factor**2, axis=0))

    @cached_property
    def _offsets_of_courses(self) -> Float[Array, "T Q"]:
        """Offset in each later tilt image and component, for each course of velocities."""
        return paths(self.courses, self.step_scales)

    @cached_property
    def _blocks(self) -> tuple[tuple[int, int], ...]:
        """First and last course of each block of courses that are multiplied together."""
        bounds = [0]
        for number, count in enumerate(self.counts):
            if count < SIMILAR * self.counts[bounds[-1]]:
                bounds.append(number)
        return tuple(pairwise([*bounds, len(self.counts)]))

    @cached_property
    def _starts(self) -> Int[Array, "Q"]:
        """Index of each course's first coefficient."""
        return np.cumsum(self.counts) - self.counts

    def _of_each(self, by_mode: Float[Array, "K"]) -> Float[Array, "N"]:
        """Return the values of the modes of space for each coefficient."""
        return np.concatenate([by_mode[:count] for count in self.counts])

    def _table(self, coefficients: Array, begin: int, end: int) -> Float[Array, "n w"]:
        """Return a block's coefficients by mode of space and course, with zeros where there are none."""
        table = np.zeros((self.counts[begin], end - begin), order="F")
        for column, course in enumerate(range(begin, end)):
            count, start = self.counts[course], self._starts[course]
            table[:count, column] = coefficients[start : start + count]
        return table

    def _onto_modes(self, along: Callable[[slice], Array], factor: Array) -> Float[Array, "N"]:
        """Multiply Lᵀ with values of particles for each course, which `along` returns for a panel."""

        def project(panel: slice) -> list[Array]:
            values, rows = along(panel).astype(factor.dtype), factor[panel]
            return [rows[:, : self.counts[begin]].T @ values[:, begin:end] for begin, end in self._blocks]

        projected = on_threads(project, self._panels, self.threads)
        result = np.empty(self.shape)
        for number, (begin, end) in enumerate(self._blocks):
            total = np.sum([panel[number] for panel in projected], axis=0)
            for column, course in enumerate(range(begin, end)):
                count, start = self.counts[course], self._starts[course]
                result[start : start + count] = total[:count, column]
        return result

    @cached_property
    def left_out_px2(self) -> Float[Array, "F P 3"]:
        """Prior variance of offsets less that of the chosen modes."""
        shares = np.zeros((len(self.factor), len(self.counts)))
        covered, done = np.zeros(len(self.factor)), 0
        for course in reversed(range(len(self.counts))):
            more = self.factor[:, done : self.counts[course]]
            covered += np.einsum("pk,pk->p", more, more)
            shares[:, course], done = covered, self.counts[course]
        steps = np.repeat(np.cumsum(self.step_scales**2), 3)
        left = np.outer(self.own_px2, steps) - shares @ np.square(self._offsets_of_courses).T
        variances = np.empty((len(self.chronological), len(self.factor), 3))
        motion_kernels.place(np.maximum(left, 0.0), 0, self.chronological, variances)
        return variances

    @cached_property
    def _panels(self) -> list[slice]:
        """Panels of particles, which do not depend on the threads."""
        count = len(self.factor)
        panels = min(MAX_PANELS, max(1, count // PANEL_ROWS))
        return [slice(*bounds) for bounds in pairwise(count * n // panels for n in range(panels + 1))]


def _needed_for(fields: Float[Array, "J P 3"], factor: Float[Array, "P K"], variances: Array) -> int:
    """Return the number of leading modes of space that represent all fields of velocities."""
    needed = 1
    for field in fields:
        left = np.sum(field**2) - np.cumsum(np.sum((field.T @ factor) ** 2, axis=0) / variances)
        needed = max(needed, 1 + int(np.count_nonzero(left > UNREPRESENTED * np.sum(field**2))))
    return min(needed, len(variances))
