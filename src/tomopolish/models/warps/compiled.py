"""What warps with compiled loops have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import ModuleType
from typing import ClassVar

import numpy as np

from tomopolish.shapes import Float

Array = np.ndarray


class CompiledWarp(ABC):
    """A deformation model (`models.protocols`) whose loops over pairs are compiled.

    A subclass names the module of its kernels — `displace`, `functions`, `differentiate`, `collect` —
    and says which constants and which view of the coefficients they take. Coefficients
    run over component (dx, dy) first; both components are sums of the same functions.
    """

    kernels: ClassVar[ModuleType]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Shape of the coefficients."""

    @abstractmethod
    def _constants(self) -> tuple[Array, ...]:
        """Arguments of every kernel after the positions."""

    @abstractmethod
    def _view(self, coefficients: Array) -> Array:
        """View the coefficients as the kernels see them."""

    @property
    def unit_px(self) -> float:
        """Coefficients are displacements, or (of splines) slopes over the distance of two nodes."""
        return 1.0

    def displacement_px(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2"]:
        """Displacement at the positions."""
        out = np.empty(positions_px.shape)
        view = self._view(_matching(coefficients, positions_px))
        self.kernels.displace(np.ascontiguousarray(positions_px), *self._constants(), view, out)
        return out

    def functions(self, positions_px: Float[Array, "F P 2"]) -> Float[Array, "F P m"]:
        """Functions φ at the positions: displacements are Σ_m φ_m c_m of either component's coefficients."""
        out = np.empty((*positions_px.shape[:2], *self._view(np.empty(self.shape)).shape[2:]))
        self.kernels.functions(np.ascontiguousarray(positions_px), *self._constants(), out)
        return out.reshape(*out.shape[:2], -1)

    def jacobian(
        self, positions_px: Float[Array, "F P 2"], coefficients: Float[Array, "G n"]
    ) -> Float[Array, "F P 2 2"]:
        """∂g_i/∂q_j at the positions."""
        out = np.empty((*positions_px.shape, 2))
        view = self._view(_matching(coefficients, positions_px))
        self.kernels.differentiate(np.ascontiguousarray(positions_px), *self._constants(), view, out)
        return out

    def adjoint(
        self, positions_px: Float[Array, "F P 2"], gradient: Float[Array, "F P 2"]
    ) -> Float[Array, "G n"]:
        """Gradient with respect to the coefficients, given that with respect to the displacements."""
        out = _matching(np.zeros(self.shape), positions_px)
        positions, forces = np.ascontiguousarray(positions_px), np.ascontiguousarray(gradient)
        self.kernels.collect(positions, *self._constants(), forces, self._view(out))
        return out


def _matching(coefficients: Array, positions_px: Array) -> Array:
    """Contiguous coefficients; the kernels rely on one row, or one for each tilt image."""
    if len(coefficients) not in (1, len(positions_px)):
        raise ValueError(f"{len(coefficients)} warps do not fit {len(positions_px)} tilt images")
    return np.ascontiguousarray(coefficients)
