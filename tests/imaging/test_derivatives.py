"""Derivatives of predictions against finite differences of the log-likelihood."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pytest

from small_project import make_particles, make_references, make_series, make_settings
from tomopolish.dataset.model import OpticsGroup, Particles, TiltSeries
from tomopolish.imaging import derivatives
from tomopolish.imaging.derivatives import (
    ALWAYS,
    ASTIGMATISM,
    ASTIGMATISM_ASIDE,
    BFACTOR,
    DEFOCUS,
    PHASE_SHIFT,
    SCALE,
    Comparison,
    PairDerivatives,
    UsedFrequencies,
    tilt_derivatives,
    used_frequencies,
)
from tomopolish.imaging.frequencies import tilt_frequencies
from tomopolish.imaging.kept_spectra import KeptSpectra, kept_bytes
from tomopolish.imaging.windows import PairGeometry, TiltTask, correlate_tilt, pair_geometry
from tomopolish.physics.geometry import rotation_from_vector
from tomopolish.pipeline import PreparedReferences, prepare
from tomopolish.pipeline.joint.state import changed_ctf

BOX, TILT = 32, 1
OPTICS = (*ALWAYS, ASTIGMATISM, ASTIGMATISM_ASIDE, PHASE_SHIFT)


@dataclass(frozen=True, eq=False)
class Scene:
    """One tilt image with particles of two optics groups, one of which has aberrations."""

    series: TiltSeries
    particles: Particles
    references: PreparedReferences
    geometry: PairGeometry
    weight: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        return np.flatnonzero(self.geometry.visible[TILT])

    def task(self, limit: float = BOX, factor: np.ndarray | float = 1.0) -> tuple[TiltTask, UsedFrequencies]:
        frequencies = tilt_frequencies(
            self.series, TILT, self.weight, self.particles.optics_groups, cutoff_fraction=0.02
        )
        pixel = self.series.pixel_size_angstrom
        used = used_frequencies(frequencies, BOX, pixel, limit, OPTICS, reference_factor=factor)
        return (
            TiltTask(
                image=self.series.images.read(TILT),
                tilt=TILT,
                geometry=self.geometry,
                particles=self.particles,
                frequencies=used.frequencies,
                reference=self.references.transform,
                displacements_px=np.arange(-4, 4.0),
            ),
            used,
        )

    def derivatives(self, limit: float = BOX, factor: np.ndarray | float = 1.0) -> PairDerivatives:
        task, used = self.task(limit, factor)
        with ThreadPoolExecutor(1) as pool:
            return tilt_derivatives([Comparison(task=task, used=used)], self.seen, pool)[0]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "aberrations"])
def scene(request: pytest.FixtureRequest) -> Scene:
    rng = np.random.default_rng(5)
    images = rng.normal(size=(3, 150, 170)).astype(np.float32)
    bent = OpticsGroup(name="b", even_zernike=(0.0, 0.0, 3.0, 5.0), odd_zernike=(0.0, 0.0, 40.0))
    groups = (OpticsGroup(name="a"), bent) if request.param else (OpticsGroup(name="a"),)
    series = make_series(rng, images)
    positions = rng.uniform(-30, 30, (9, 3)) + np.array(series.tomogram_size_px) / 2
    particles = make_particles(rng, positions, groups)
    settings = make_settings(BOX, 4)
    references = prepare(make_references(rng, BOX, fsc=np.linspace(1, 0.2, BOX // 2 + 1)), settings)
    geometry = pair_geometry(series, particles, BOX, np.ones(3, dtype=bool))
    # No box moves by a pixel where a particle moves by the small steps of a difference.
    anchors = np.round(geometry.anchors_px) + rng.uniform(-0.3, 0.3, geometry.anchors_px.shape)
    weight = rng.uniform(0.5, 1.5, (BOX, BOX // 2 + 1)) * 0.02
    return Scene(series, particles, references, replace(geometry, anchors_px=anchors), weight)


def turned(axis: int) -> Callable[[Scene, float], Scene]:
    def change(scene: Scene, by: float) -> Scene:
        turn = rotation_from_vector(by * np.eye(3)[axis])
        rotations = scene.particles.rotations @ turn
        views = np.einsum("fij,pjk->fpik", scene.series.projections_px[:, :2, :3], rotations)
        return replace(scene, geometry=replace(scene.geometry, views=views.astype(np.float32)))

    return change


def shifted(axis: int) -> Callable[[Scene, float], Scene]:
    def change(scene: Scene, by: float) -> Scene:
        anchors = scene.geometry.anchors_px + by * np.eye(2)[axis]
        return replace(scene, geometry=replace(scene.geometry, anchors_px=anchors))

    return change


def with_optics(name: str) -> Callable[[Scene, float], Scene]:
    def change(scene: Scene, by: float) -> Scene:
        ctf = changed_ctf(scene.series.ctf, [name], np.full((3, 1), by))
        return replace(scene, series=replace(scene.series, ctf=ctf))

    return change


UNKNOWNS = {
    "rotation x": (turned(0), 1e-3),
    "rotation y": (turned(1), 1e-3),
    "rotation z": (turned(2), 1e-3),
    "shift x": (shifted(0), 0.05),
    "shift y": (shifted(1), 0.05),
    SCALE: (with_optics(SCALE), 0.01),
    BFACTOR: (with_optics(BFACTOR), 1.0),
    DEFOCUS: (with_optics(DEFOCUS), 20.0),
    ASTIGMATISM: (with_optics(ASTIGMATISM), 20.0),
    ASTIGMATISM_ASIDE: (with_optics(ASTIGMATISM_ASIDE), 20.0),
    PHASE_SHIFT: (with_optics(PHASE_SHIFT), 0.5),
}


def test_unknowns_are_in_the_order_of_the_derivatives() -> None:
    assert list(UNKNOWNS)[derivatives.GEOMETRY :] == list(OPTICS)


@pytest.mark.parametrize("name", UNKNOWNS)
def test_derivatives_are_those_of_the_log_likelihood(name: str, scene: Scene) -> None:
    change, step = UNKNOWNS[name]
    found = scene.derivatives()
    after, before = (change(scene, by).derivatives() for by in (step, -step))
    index = list(UNKNOWNS).index(name)
    slope = (after.log_likelihood - before.log_likelihood) / (2 * step)
    # Trilinear interpolation bends at the cells' faces, which turns of 0.001 cross in a few places.
    tolerance = 0.05 if name.startswith("rotation") else 0.01
    scale = np.sqrt(found.normal[:, index, index]).mean()
    np.testing.assert_allclose(found.gradient[:, index], slope, atol=tolerance * scale)
    power = (after.normal[:, 5, 5] - before.normal[:, 5, 5]) / (2 * step)
    expected = 2 * found.normal[:, derivatives.GEOMETRY, index]
    scale = np.sqrt(found.normal[:, 5, 5] * found.normal[:, index, index]).mean()
    np.testing.assert_allclose(expected, power, atol=tolerance * scale)


def test_changed_frequencies_are_those_of_the_changed_optics(scene: Scene) -> None:
    changes = np.array([0.2, -30.0, 400.0, 120.0, -90.0, 7.0])
    ctf = changed_ctf(scene.series.ctf, OPTICS, np.tile(changes, (3, 1)))
    task, expected = replace(scene, series=replace(scene.series, ctf=ctf)).task()
    before, used = scene.task()
    changed = used.changed(changes)
    np.testing.assert_allclose(changed.amplitude, expected.amplitude, rtol=1e-5)
    np.testing.assert_allclose(changed.image_weight, expected.image_weight, rtol=1e-5)
    parts: list[PairDerivatives] = []
    for this, frequencies in ((before, changed), (task, expected)):
        with ThreadPoolExecutor(1) as pool:
            parts += tilt_derivatives([Comparison(task=this, used=frequencies)], scene.seen, pool)
    scale = np.abs(parts[1].matched).max(axis=0)
    np.testing.assert_allclose(parts[0].matched / scale, parts[1].matched / scale, atol=1e-4)


def test_products_are_those_of_vectors(scene: Scene) -> None:
    normal = scene.derivatives().normal
    np.testing.assert_array_equal(normal, np.swapaxes(normal, 1, 2))
    values = np.linalg.eigvalsh(normal / np.sqrt(_diagonals(normal)))
    assert values.min() > -1e-5


def _diagonals(normal: np.ndarray) -> np.ndarray:
    diagonal = np.diagonal(normal, axis1=1, axis2=2)
    return diagonal[:, :, None] * diagonal[:, None, :]


def test_power_and_match_are_those_of_the_windows(scene: Scene) -> None:
    task, _ = scene.task()
    found = scene.derivatives()
    values = np.zeros((len(scene.particles), 8, 8), dtype=np.float32)
    power = np.zeros(len(scene.particles))
    with ThreadPoolExecutor(1) as pool:
        correlate_tilt(task, pool, values, power)
    np.testing.assert_allclose(found.normal[:, 5, 5], power[scene.seen], rtol=1e-5)
    np.testing.assert_allclose(
        found.matched[:, 5], values[scene.seen, 4, 4], atol=1e-4 * np.abs(values).max()
    )


def test_a_limit_leaves_frequencies_out_and_a_factor_scales_the_reference(scene: Scene) -> None:
    complete, coarse = scene.derivatives(), scene.derivatives(limit=6.0)
    assert np.all(coarse.normal[:, 5, 5] < 0.9 * complete.normal[:, 5, 5])
    doubled = scene.derivatives(factor=np.full((BOX, BOX // 2 + 1), 2.0))
    np.testing.assert_allclose(doubled.normal, 4 * complete.normal, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(doubled.matched, 2 * complete.matched, rtol=1e-4, atol=1e-3)


def test_values_alone_are_those_beside_the_derivatives(scene: Scene) -> None:
    task, used = scene.task()
    comparisons = [Comparison(task=task, used=used, values_only=only) for only in (False, True)]
    with ThreadPoolExecutor(1) as pool:
        complete, alone = tilt_derivatives(comparisons, scene.seen, pool)
    np.testing.assert_allclose(alone.log_likelihood, complete.log_likelihood, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(alone.normal[:, 5, 5], complete.normal[:, 5, 5], rtol=1e-5)


def test_kept_spectra_are_those_of_the_boxes(scene: Scene) -> None:
    """At a lower limit, and at another place of the particles, but in the boxes that were kept."""
    task, used = scene.task(limit=9.0)
    _, expected = scene.task(limit=6.0)
    coarse = used.up_to(6.0)
    np.testing.assert_array_equal(coarse.kx, expected.kx)
    np.testing.assert_array_equal(coarse.phase, expected.phase)
    moved = replace(task, geometry=replace(task.geometry, anchors_px=task.geometry.anchors_px + 0.15))
    corners = Comparison(task=task, used=used).batch(scene.seen).corners
    memory = np.zeros(kept_bytes(len(scene.seen), 9.0), dtype=np.int8)
    kept = KeptSpectra.within(memory, scene.seen, corners, used.place, used.image_weight)
    some = scene.seen[::2]
    with ThreadPoolExecutor(1) as pool:
        for this, listed, chosen in ((task, coarse, some), (moved, coarse, scene.seen), (moved, used, some)):
            (direct,) = tilt_derivatives([Comparison(task=this, used=listed)], chosen, pool)
            (again,) = tilt_derivatives([Comparison(task=this, used=listed)], chosen, pool, kept)
            errors = np.sqrt(np.diagonal(direct.normal, axis1=1, axis2=2))
            np.testing.assert_allclose(again.matched / errors, direct.matched / errors, atol=0.05)
            np.testing.assert_array_equal(again.normal, direct.normal)
