"""Base class of warps with compiled loops."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import ClassVar

import numpy as np

from tomopolish.shapes import Array, Float


class CompiledWarp(ABC):
    """A deformation model (`models.protocols`) whose loops over pairs are compiled.

    A subclass names the module of its kernels (`functions`, `differentiate`) and provides their constants
    and their view of the coefficients. Coefficients run over component (dx, dy) first; both components are
    sums of the same functions.
    """

    kernels: ClassVar[ModuleType]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Shape of the coefficients."""

    @abstractmethod
    def _constants(self) -> tuple[Array, ...]:
        """Return the arguments of every kernel after the positions."""

    @abstractmethod
    def _view(self, coefficients: Array) -> Array:
        """View the coefficients in the shape that the kernels take."""

    @property
    def unit_px(self) -> float:
        """1: coefficients are displacements, or slopes per grid spacing of a spline."""
        return 1.0

    def displacement_px(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2"]:
        """Return the displacement at the positions."""
        by_component = _matching(coefficients, positions_px).reshape(len(coefficients), 2, -1)
        by_component = np.broadcast_to(by_component, (len(positions_px), *by_component.shape[1:]))
        out = np.empty(positions_px.shape)
        for tilt, own in enumerate(by_component):  # functions of one image at a time take little memory
            np.matmul(self.functions(positions_px[tilt : tilt + 1])[0], own.T, out=out[tilt])
        return out

    def functions(self, positions_px: Float[Array, "F P 2"]) -> Float[Array, "F P m"]:
        """Return functions φ at the positions: either component of the displacements is Σ_m φ_m c_m."""
        out = np.empty((*positions_px.shape[:2], *self._view(np.empty(self.shape)).shape[2:]))
        self.kernels.functions(np.ascontiguousarray(positions_px), *self._constants(), out)
        return out.reshape(*out.shape[:2], -1)

    def jacobian(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2 2"]:
        """Return ∂g_i/∂q_j at the positions."""
        out = np.empty((*positions_px.shape, 2))
        view = self._view(_matching(coefficients, positions_px))
        self.kernels.differentiate(np.ascontiguousarray(positions_px), *self._constants(), view, out)
        return out

    def adjoint(
        self, positions_px: Float[Array, "F P 2"], gradient: Float[Array, "F P 2"]
    ) -> Float[Array, "G n"]:
        """Return the gradient with respect to the coefficients from that with respect to displacements."""
        out = _matching(np.zeros(self.shape), positions_px)
        by_component = out.reshape(len(out), 2, -1)
        for tilt, forces in enumerate(gradient):
            warp = by_component[tilt if len(out) > 1 else 0]
            warp += forces.T @ self.functions(positions_px[tilt : tilt + 1])[0]
        return out


def _matching(coefficients: Array, positions_px: Array) -> Array:
    """Return contiguous coefficients; raises ValueError unless they have one row, or one per tilt image."""
    if len(coefficients) not in (1, len(positions_px)):
        raise ValueError(f"{len(coefficients)} warps do not fit {len(positions_px)} tilt images")
    return np.ascontiguousarray(coefficients)
