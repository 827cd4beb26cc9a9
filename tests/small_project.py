"""Random tomograms made in memory: what tests of the computation start from."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from tomopolish import pipeline
from tomopolish.dataset.model import (
    Alignment,
    Deformation,
    OpticsGroup,
    Particles,
    References,
    TiltSeries,
    Tomogram,
)
from tomopolish.imaging.backproject import Reconstruction, empty_reconstruction
from tomopolish.imaging.packed import PackedSamples
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.physics.geometry import relion5_projections
from tomopolish.physics.optics import Microscope, TiltCtf
from tomopolish.pipeline import build_problem, correlation_windows, prepare
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import AlignSettings, InputPaths, RunSettings, WindowSettings
from tomopolish.simulate.evaluate import match_particles
from tomopolish.simulate.geometry_errors import Geometry, GeometryErrors, geometry_errors
from tomopolish.simulate.truth import Truth
from tomopolish.solve.problem import Problem, predicted_positions

MICROSCOPE = Microscope(voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.1)


@dataclass(frozen=True, eq=False)
class Stack:
    """Tilt images held in memory, `[tilt, y, x]`."""

    values: np.ndarray

    @property
    def size_px(self) -> tuple[int, int]:
        return int(self.values.shape[2]), int(self.values.shape[1])

    def __len__(self) -> int:
        return len(self.values)

    def read(self, tilt: int) -> np.ndarray:
        return np.asarray(self.values[tilt], dtype=np.float32)


def make_settings(box: int, reach: int, **parts: Any) -> AlignSettings:
    """Settings that need no files."""
    return AlignSettings(
        inputs=InputPaths(optimisation_set=Path("set.star")),
        windows=parts.pop("windows", None) or WindowSettings(box_px=box, range_px=reach),
        run=parts.pop("run", None) or RunSettings(output_folder=Path("nowhere")),
        **parts,
    )


def make_tilt_ctf(tilts: int, rng: np.random.Generator) -> TiltCtf:
    return TiltCtf(
        defocus_u_angstrom=rng.uniform(20000, 40000, tilts),
        defocus_v_angstrom=rng.uniform(20000, 40000, tilts),
        defocus_angle_degrees=rng.uniform(-90, 90, tilts),
        phase_shift_degrees=rng.uniform(0, 90, tilts),
        bfactor_angstrom2=rng.uniform(0, 50, tilts),
        scale=rng.uniform(0.5, 1.5, tilts),
    )


def make_series(rng: np.random.Generator, images: np.ndarray, **changes: Any) -> TiltSeries:
    """A tilt series with random tilts, about an axis of any angle, and random optics."""
    tilts, height, width = images.shape
    size = (width + 1, height, 41)
    angles = np.stack(
        [
            rng.uniform(-3, 3, tilts),
            np.linspace(-50, 50, tilts) if tilts > 1 else np.array([20.0]),
            rng.uniform(-180, 180) + rng.uniform(-2, 2, tilts),
        ],
        axis=-1,
    )
    fields: dict[str, Any] = {
        "name": "TS",
        "projections_px": relion5_projections(angles, rng.normal(size=(tilts, 2)), (width, height), size),
        "tomogram_size_px": size,
        "pixel_size_angstrom": 3.0,
        "hand": -1.0,
        "defocus_slope": 1.0,
        "microscope": MICROSCOPE,
        "ctf": make_tilt_ctf(tilts, rng),
        "pre_exposure": 3.0 * rng.permutation(tilts),
        "bfactor_per_dose": np.zeros(tilts),
        "fractional_dose": 3.0,
        "images": Stack(images),
    }
    return TiltSeries(**(fields | changes))


def random_rotations(rng: np.random.Generator, count: int) -> np.ndarray:
    """Rotation matrices, uniformly distributed."""
    Q, R = np.linalg.qr(rng.normal(size=(count, 3, 3)))
    Q = Q * np.sign(np.diagonal(R, axis1=1, axis2=2))[:, None, :]
    Q[np.linalg.det(Q) < 0] *= -1
    return Q


def make_particles(
    rng: np.random.Generator,
    positions_px: np.ndarray,
    groups: tuple[OpticsGroup, ...] | None = None,
    trajectories_px: np.ndarray | None = None,
) -> Particles:
    count = len(positions_px)
    groups = groups or (OpticsGroup(name="all"),)
    return Particles(
        rows=np.arange(count),
        names=tuple(f"TS/{i + 1}" for i in range(count)),
        positions_px=positions_px,
        rotations=random_rotations(rng, count),
        half_set=np.arange(count) % 2,
        optics_group=np.arange(count) % len(groups),
        optics_groups=groups,
        trajectories_px=trajectories_px,
    )


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], width_px: float) -> np.ndarray:
    """Gaussian random field of unit variance, blurred over `width_px`, periodic."""
    white = np.fft.fftn(rng.normal(size=shape))
    k2 = sum(f**2 for f in np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij"))
    field = np.fft.ifftn(white * np.exp(-2 * np.pi**2 * k2 * width_px**2)).real
    return field / field.std()


def make_references(
    rng: np.random.Generator, size: int, fsc: np.ndarray | None = None, masked: bool = True
) -> References:
    """Two half maps of one random blob, with noise of their own."""
    axis = np.arange(size) - size // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    blob = smooth_noise(rng, (size,) * 3, 1.0) * np.exp(-((radius / (size / 4)) ** 2))
    maps = np.stack([blob + 0.1 * smooth_noise(rng, (size,) * 3, 0.7) for _ in range(2)])
    return References(
        half_maps=maps.astype(np.float32),
        pixel_size_angstrom=3.0,
        mask=np.clip(size / 2 - 1 - radius, 0, 1).astype(np.float32) if masked else None,
        fsc=fsc,
        fsc_box=None if fsc is None else 2 * (len(fsc) - 1),
    )


def compute_windows(
    series: TiltSeries,
    particles: Particles,
    references: References,
    settings: AlignSettings,
    threads: int = 1,
) -> CorrelationWindows:
    """The program's windows, all stages, without rounding to 16 bits."""
    with ThreadPoolExecutor(threads) as pool, without_rounding():
        prepared = prepare(references, settings)
        windows = correlation_windows(series, particles, prepared, settings, pool, SilentProgress())
    return replace(windows, values=np.asarray(windows.values))


def without_rounding() -> Any:
    """Context in which new windows and surfaces are float32."""

    def zeros(shape: tuple[int, ...]) -> PackedSamples:
        return PackedSamples.exactly(np.zeros(shape, dtype=np.float32))

    return mock.patch.object(PackedSamples, "zeros", zeros)


def make_windows(
    rng: np.random.Generator, tilts: int, particles: int, range_px: int, step_px: float = 1.0
) -> CorrelationWindows:
    """Smooth random windows; about one pair in eight is not visible."""
    half = round(range_px / step_px) + 4
    values = smooth_noise(rng, (tilts, particles, 2 * half, 2 * half), 0.0)
    axis = (np.arange(2 * half) - half) * step_px
    kernel = np.exp(-((axis[:, None] - axis[None, :]) ** 2) / 4) / 1.5
    values = (kernel @ values @ kernel).astype(np.float32)
    visible = rng.random((tilts, particles)) > 0.125
    values[~visible] = 0
    return CorrelationWindows(
        values=values,
        anchors_px=rng.uniform(100, 200, (tilts, particles, 2)),
        visible=visible,
        power=visible.astype(np.float64),
        range_px=range_px,
        step_px=step_px,
    )


def make_problem(
    rng: np.random.Generator,
    tilts: int = 5,
    particles: int = 4,
    range_px: int = 6,
    symmetric: bool = False,
    input_warp: bool = False,
    **settings: Any,
) -> tuple[Problem, CorrelationWindows]:
    """An alignment problem on random windows, its particles up to 2 px away from their anchors.

    `symmetric` makes every window even about displacement zero, and puts that at the predicted position: no
    pair feels a force at the input geometry. `input_warp` gives the tilt series a warp that it came with.
    """
    known = Deformation(model="linear", grid=(3, 3), coefficients=rng.normal(size=(tilts, 3)) * 0.02)
    images = np.zeros((tilts, 200, 220), dtype=np.float32)
    series = make_series(rng, images, deformation=known if input_warp else None)
    spread = rng.uniform(-0.5, 0.5, (particles, 3)) * [100, 100, 40]
    found = make_particles(rng, spread + np.array(series.tomogram_size_px) / 2)
    windows = make_windows(rng, tilts, particles, range_px)
    if symmetric:
        windows.values[..., 1:, 1:] += windows.values[..., :0:-1, :0:-1]
    problem = build_problem(series, found, windows, make_settings(48, range_px, **settings))
    q = predicted_positions(problem, problem.layout.unpack(np.zeros(problem.layout.size)))
    if not symmetric:
        q = q + rng.uniform(-2, 2, q.shape)
    return replace(problem, anchors_px=q), replace(windows, anchors_px=q)


def random_vector(problem: Problem, rng: np.random.Generator, size_px: float = 1.0) -> np.ndarray:
    """Parameters that move particles by about `size_px` in the images."""
    warp = rng.normal(size=problem.layout.warp_shape)
    if warp.size:
        warp /= np.sqrt(np.mean(problem.deformation.displacement_px(problem.anchors_px, warp) ** 2))
    return problem.layout.fill(
        angles=rng.normal(size=(problem.layout.tilts, 3)) * size_px / 60,
        shifts_px=rng.normal(size=(problem.layout.tilts, 2)) * size_px,
        positions_px=rng.normal(size=(problem.layout.particles, 3)) * size_px,
        motion=rng.normal(size=problem.layout.motion_shape) * size_px,
        warp=warp * size_px,
    )


def align_one(
    series: TiltSeries, particles: Particles, prepared: pipeline.PreparedReferences, settings: AlignSettings
) -> TomogramResult:
    """Refine one tomogram with particles of one structure."""
    tomogram = Tomogram(series=series, species=(particles,))
    return pipeline.align_tomogram(tomogram, [prepared], settings, SilentProgress())


def reconstruct(
    tomograms: Iterable[tuple[TiltSeries, Particles]], box: int, symmetry: np.ndarray, threads: int = 1
) -> Reconstruction:
    """Back-project all tomograms."""
    reconstruction = empty_reconstruction(box, symmetry)
    with ThreadPoolExecutor(threads) as pool:
        for series, particles in tomograms:
            reconstruction.add(series, particles, pool)
    return reconstruction


def errors_of(truth: Truth, alignment: Alignment, particles: Particles) -> GeometryErrors:
    """Errors of an alignment of these particles in memory, which `evaluate` finds for its files."""
    names = dict(zip(particles.rows.tolist(), particles.names, strict=True))
    return geometry_errors(
        truth,
        Geometry(
            projections_px=alignment.projections_px,
            particles=match_particles(truth, [names[int(row)] for row in alignment.rows]),
            positions_px=alignment.positions_px,
            trajectories_px=alignment.trajectories_px,
            deformation=alignment.deformation,
            left_out=tuple(image.tilt for image in alignment.left_out),
        ),
    )
