"""Joint refinement: planted errors of views and optics are put right, and nothing moves without evidence."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

from small_project import Stack, align_one, make_settings
from tomopolish import pipeline
from tomopolish.dataset.model import Particles, TiltSeries, Tomogram
from tomopolish.dataset.screening import screened
from tomopolish.imaging import devices
from tomopolish.imaging.derivatives import ALWAYS, BFACTOR, DEFOCUS, GEOMETRY, SCALE
from tomopolish.imaging.devices import CpuCorrelator
from tomopolish.imaging.kept_spectra import kept_bytes
from tomopolish.imaging.weights import frequency_weights
from tomopolish.physics.geometry import (
    mean_rotation,
    project,
    rotation_from_vector,
    rotation_vector,
    tomogram_centre_px,
)
from tomopolish.pipeline import PreparedReferences
from tomopolish.pipeline.joint import refine as joint
from tomopolish.pipeline.joint.held_out import HeldOutPairs
from tomopolish.pipeline.joint.images import JointImages
from tomopolish.pipeline.joint.overfit import (
    determined_unknowns,
    gradient_by_noise,
    without_overfitting,
)
from tomopolish.pipeline.joint.shared import envelopes_at, shared_errors
from tomopolish.pipeline.joint.state import JointState
from tomopolish.pipeline.joint.steps import Point, Refiner
from tomopolish.pipeline.joint.tomogram import taking_part
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import DeformationSettings, MotionSettings, WindowSettings
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.simulated_structure import MoleculeSettings
from tomopolish.settings.simulation import (
    AcquisitionSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
)
from tomopolish.simulate.structure import build_structure
from tomopolish.simulate.tomogram import simulate_tomogram
from tomopolish.simulate.truth import Truth
from tomopolish.solve import uncertainty

BOX = 48
EVERYTHING = JointSettings(orientations=True, defocus=True, tilt_scale=True, tilt_bfactor=True)
SIMULATION = SimulationSettings(
    seed=4,
    molecule=MoleculeSettings(box_px=BOX, resolution_px=2.6, blob_sigma_px=0.8, diameter_fraction=0.65),
    acquisition=AcquisitionSettings(
        image_size_px=(360, 340), pixel_size_angstrom=3.0, tilt_step_degrees=10.0, bfactor_angstrom2=80.0
    ),
    specimen=SpecimenSettings(particles=24),
    errors=PlantedErrors(shift_px=1.0, position_px=1.0, known_shift_px=1.0),
    noise=NoiseSettings(pair_snr=200.0),
)


@dataclass(frozen=True, eq=False)
class Planted:
    """A tomogram, and the same with wrong orientations, defocus and B factors."""

    true_series: TiltSeries
    series: TiltSeries
    particles: Particles
    references: PreparedReferences
    truth: Truth

    def view_errors(self, rotations: np.ndarray | None) -> np.ndarray:
        """Angle, degrees, by which each particle's orientation is off, without the net turn."""
        assert rotations is not None
        turns = rotation_vector(rotations @ np.swapaxes(self.truth.rotations, 1, 2))
        return np.rad2deg(np.linalg.norm(turns - np.median(turns, axis=0), axis=1))


def plant(degrees: float, defocus: float, bfactor: float) -> Planted:
    rng = np.random.default_rng(11)
    simulated = simulate_tomogram(SIMULATION, 0, build_structure(SIMULATION))
    images = Stack(np.stack([simulated.images.read(tilt) for tilt in range(len(simulated.series))]))
    series, particles = replace(simulated.series, images=images), simulated.particles
    changes = defocus * rng.normal(size=len(series))
    ctf = replace(
        series.ctf,
        defocus_u_angstrom=series.ctf.defocus_u_angstrom + changes,
        defocus_v_angstrom=series.ctf.defocus_v_angstrom + changes,
        bfactor_angstrom2=series.ctf.bfactor_angstrom2 - rng.uniform(0, bfactor, len(series)),
    )
    turns = np.deg2rad(degrees) * rng.normal(size=(len(particles), 3))
    return Planted(
        true_series=series,
        series=replace(series, ctf=ctf),
        particles=replace(particles, rotations=particles.rotations @ rotation_from_vector(turns)),
        references=pipeline.prepare(
            build_structure(SIMULATION).references, make_settings(BOX, 8, joint=EVERYTHING)
        ),
        truth=simulated.truth,
    )


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def align(planted: Planted, joint: JointSettings, **settings: Any) -> TomogramResult:
    return align_one(
        planted.series, planted.particles, planted.references, make_settings(BOX, 8, joint=joint, **settings)
    )


@pytest.fixture(scope="module")
def wrong() -> Planted:
    return plant(3.0, 600.0, 80.0)


@pytest.fixture(scope="module")
def found(wrong: Planted) -> TomogramResult:
    return align(wrong, EVERYTHING)


@pytest.fixture(scope="module")
def alone(wrong: Planted) -> TomogramResult:
    """The geometry refined alone."""
    return align_one(wrong.series, wrong.particles, wrong.references, make_settings(BOX, 8))


def test_planted_errors_are_put_right(wrong: Planted, found: TomogramResult) -> None:
    alignment = found.alignment
    before = np.median(wrong.view_errors(wrong.particles.rotations))
    assert np.median(wrong.view_errors(alignment.rotations)) < 0.4 * before
    true, given = wrong.true_series.ctf, wrong.series.ctf
    assert alignment.optics.defocus_angstrom is not None and alignment.optics.bfactor_angstrom2 is not None
    for refined, stated, right in (
        (alignment.optics.defocus_angstrom[:, 0], given.defocus_u_angstrom, true.defocus_u_angstrom),
        (alignment.optics.bfactor_angstrom2, given.bfactor_angstrom2, true.bfactor_angstrom2),
    ):
        assert rms(refined - right) < 0.6 * rms(stated - right)
    assert {group.group for group in found.statistics.groups} == {
        "orientations",
        "scale and B factor",
        "defocus",
    }
    assert found.statistics.evidence is not None
    assert found.statistics.evidence.gain > 5 * found.statistics.evidence.standard_error


def test_errors_of_new_unknowns_are_about_right(wrong: Planted, found: TomogramResult) -> None:
    errors, alignment = found.alignment.errors, found.alignment
    assert errors is not None and errors.orientations_degrees is not None
    expected = np.linalg.norm(errors.orientations_degrees, axis=1)
    ratio = np.median(wrong.view_errors(alignment.rotations)) / np.median(expected)
    assert 0.4 < ratio < 2.5
    assert errors.defocus_angstrom is not None and alignment.optics.defocus_angstrom is not None
    off = alignment.optics.defocus_angstrom[:, 0] - wrong.true_series.ctf.defocus_u_angstrom
    assert 0.4 < np.sqrt(np.mean((off / errors.defocus_angstrom) ** 2)) < 2.5


def test_errors_of_the_geometry_count_from_the_input(alone: TomogramResult, found: TomogramResult) -> None:
    """The last fit starts where the joint refinement ended, which does not say how far the input was off."""
    for name in ("positions_angstrom", "shifts_angstrom", "angles_degrees"):
        joint, static = (np.median(getattr(result.alignment.errors, name)) for result in (found, alone))
        assert 0.6 * static < joint < 1.5 * static


@pytest.mark.parametrize("wanted", [EVERYTHING, JointSettings(tilt_scale=True)], ids=["views", "scale"])
def test_the_net_rotation_is_that_of_a_refinement_of_geometry_alone(
    wanted: JointSettings, wrong: Planted, alone: TomogramResult, found: TomogramResult
) -> None:
    """Orientations, where they are refined, take up the rest, so that views stay as they were refined."""
    result = found if wanted is EVERYTHING else align(wrong, wanted)
    static, refined = (r.alignment.projections_px[:, :3, :3] for r in (alone, result))
    between = np.swapaxes(static, 1, 2) @ refined
    assert np.rad2deg(np.linalg.norm(rotation_vector(mean_rotation(between)))) < 0.02


def test_views_do_not_change_with_the_frame(wrong: Planted) -> None:
    tomogram = Tomogram(series=wrong.series, species=(wrong.particles,))
    state = JointState.of(tomogram, ())
    W = rotation_from_vector(np.array([0.01, -0.02, 0.03]))
    refined = np.arange(len(wrong.particles)) % 2 == 0
    turned = np.where(refined[:, None, None], state.rotations @ W, state.rotations)
    after = replace(state, rotations=turned).turned(W, tomogram)
    views = wrong.series.projections_px[:, None, :3, :3]
    np.testing.assert_allclose(views @ W @ after.rotations[refined], views @ turned[refined], atol=1e-12)
    np.testing.assert_array_equal(after.rotations[~refined], wrong.particles.rotations[~refined])


def test_exact_views_and_optics_stay() -> None:
    exact = plant(0.0, 0.0, 0.0)
    alignment = align(exact, EVERYTHING).alignment
    given = exact.series.ctf
    if alignment.rotations is not None:
        turned = rotation_vector(alignment.rotations @ np.swapaxes(exact.particles.rotations, 1, 2))
        assert np.rad2deg(np.linalg.norm(turned, axis=1)).max() < 1.0
    if alignment.optics.defocus_angstrom is not None:
        assert np.abs(alignment.optics.defocus_angstrom[:, 0] - given.defocus_u_angstrom).max() < 150
    assert alignment.optics.astigmatism_degrees is None and alignment.optics.phase_shift_degrees is None


def test_groups_that_go_back_need_no_further_pass_where_they_lose_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact, equations = plant(0.0, 0.0, 0.0), JointImages.equations
    passes: Counter[int] = Counter()
    results: list[TomogramResult] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        passes[len(results)] += 1
        return equations(*arguments, **options)

    monkeypatch.setattr(JointImages, "equations", counted)
    for little in (joint.LITTLE, -np.inf):
        monkeypatch.setattr(joint, "LITTLE", little)
        results.append(align(exact, EVERYTHING))
    assert not all(group.helps for group in results[0].statistics.groups)
    assert passes[0] < passes[1]
    places, expected = (
        project(result.alignment.projections_px, result.alignment.positions_px)[..., :2] for result in results
    )
    assert rms(places - expected) < 0.02


def test_species_share_the_optics_and_have_orientations_of_their_own(wrong: Planted) -> None:
    particles, parts = wrong.particles, []
    for chosen in (np.arange(0, 16), np.arange(16, len(particles))):
        changes = {
            name: getattr(particles, name)[chosen]
            for name in ("rows", "positions_px", "rotations", "half_set", "optics_group")
        }
        parts.append(replace(particles, names=tuple(particles.names[i] for i in chosen), **changes))
    result = pipeline.align_tomogram(
        Tomogram(series=wrong.series, species=tuple(parts)),
        [wrong.references] * 2,
        make_settings(BOX, 8, joint=EVERYTHING),
        SilentProgress(),
    )
    first, second = result.alignments
    np.testing.assert_array_equal(first.optics.defocus_angstrom, second.optics.defocus_angstrom)
    assert first.rotations is not None and second.rotations is not None
    together = np.concatenate([first.rotations, second.rotations])
    before = np.median(wrong.view_errors(particles.rotations))
    assert np.median(wrong.view_errors(together)) < 0.4 * before


def test_scales_count_from_references_of_the_images_intensity(wrong: Planted, found: TomogramResult) -> None:
    references = build_structure(SIMULATION).references
    stronger = replace(references, half_maps=4 * references.half_maps)
    prepared = pipeline.prepare(stronger, make_settings(BOX, 8, joint=EVERYTHING))
    expected = found.alignment.optics.scale
    result = align(replace(wrong, references=prepared), EVERYTHING).alignment.optics.scale
    assert result is not None and expected is not None
    np.testing.assert_allclose(result / expected, np.mean(result / expected), rtol=0.02)
    assert np.mean(result / expected) == pytest.approx(1.0, abs=0.1)


def test_particles_that_may_be_shown_take_part_where_an_image_shows_any() -> None:
    """A misoriented particle may be put right; an image that shows nothing has no scale of its own."""
    visible = np.array([[True, True, True, False], [True, True, False, True]])
    probable = np.array([[0.99, 0.2, 0.01, 0.9], [0.3, 0.06, 0.9, 0.4]])
    expected = [[True, True, False, False], [False] * 4]
    np.testing.assert_array_equal(taking_part(visible, probable), expected)


def test_only_what_was_asked_for_changes(wrong: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncertainty, "PROBES", ((np.inf, 1),))  # how sure a motion is, is not asked here
    # Some modes of motion are left out, as those of more particles are.
    monkeypatch.setattr("tomopolish.pipeline.problem.UNSEEN_ANGSTROM", 0.5)
    monkeypatch.setattr("tomopolish.models.leading_modes.UNREPRESENTED", 0.5)
    result = align(wrong, JointSettings(orientations=True), motion=MotionSettings(), deformation=None)
    assert result.alignment.rotations is not None and result.alignment.trajectories_px is not None
    optics = result.alignment.optics
    assert all(value is None for value in vars(optics).values())
    errors = result.alignment.errors
    assert errors is not None and errors.defocus_angstrom is None and errors.relative_scale is None
    result = align(
        wrong,
        JointSettings(astigmatism=True, phase_shift=True, tilt_scale=True),
        deformation=DeformationSettings(model="linear"),
    )
    assert result.alignment.rotations is None and result.alignment.deformation is not None
    assert result.alignment.optics.bfactor_angstrom2 is None


@pytest.mark.parametrize("constant", ["positions", "angles", "shifts", "all"])
def test_geometry_that_is_constant_stays(constant: str, wrong: Planted) -> None:
    stays = {name: constant in (name, "all") for name in ("positions", "angles", "shifts")}
    fit = replace(make_settings(BOX, 8).fit, **{f"const_{name}": value for name, value in stays.items()})
    result = align(wrong, EVERYTHING, fit=fit)
    alignment, before = result.alignment, wrong.series.projections_px
    assert result.statistics.evidence is not None and result.statistics.evidence.gain > 0
    moved = np.abs(alignment.positions_px - wrong.particles.positions_px).max()
    assert (moved < 1e-9) == stays["positions"]
    turned = np.abs(alignment.projections_px[:, :3, :3] - before[:, :3, :3]).max()
    assert (turned < 1e-9) == stays["angles"]
    centre = np.append(tomogram_centre_px(wrong.series.tomogram_size_px), 1.0)
    shifted = np.abs((alignment.projections_px - before) @ centre).max()
    assert (shifted < 1e-6) == stays["shifts"]


@pytest.fixture(scope="module")
def images(wrong: Planted) -> JointImages:
    settings = make_settings(BOX, 8)
    noise = np.full((1, BOX // 2 + 1), 1.0)
    series, particles = screened(wrong.series), wrong.particles
    return JointImages(
        tomogram=Tomogram(series=series, species=(particles,)),
        given=Tomogram(series=series, species=(particles,)),
        references=[wrong.references],
        weights=[frequency_weights(noise, wrong.references.weight, BOX, settings.weights)],
        scales=[1.0],
        visible=np.swapaxes(wrong.truth.visible, 0, 1).copy(),
        pair_weights=np.ones((len(series), len(particles))),
        held_out=None,
        settings=settings,
        correlator=CpuCorrelator(ThreadPoolExecutor(1)),
        threads=1,
        advance=lambda: None,
    )


def errors_of_the_envelope(images: JointImages) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the curvature by ln s and B, that of `Envelopes`, and the errors that all images share."""
    start = JointState.of(images.tomogram, ALWAYS)
    refiner = Refiner(images=images, start=start, free=ALWAYS)
    limit = refiner.limits()[-1]
    equations = refiner.look(start, limit, held_out=True)
    point = Point(state=start, equations=equations, step=refiner.step(start, equations))
    envelopes = envelopes_at(refiner, point, limit)
    shared = shared_errors(envelopes)
    optics = slice(GEOMETRY, GEOMETRY + 2)
    return (
        equations.tilts[:, optics, optics],
        envelopes.curvature,
        np.stack([shared[SCALE], shared[BFACTOR]]),
    )


def test_information_on_the_envelope_is_that_of_the_images(images: JointImages) -> None:
    curvature, stated, _ = errors_of_the_envelope(images)
    np.testing.assert_allclose(stated, curvature, rtol=0.1)
    np.testing.assert_allclose(stated.mean(axis=0), curvature.mean(axis=0), rtol=0.05)


def test_noisier_half_maps_have_greater_errors_that_all_images_share(images: JointImages) -> None:
    (reference,), fraction = images.references, images.references[0].weight.signal_fraction
    assert reference.noise_extent is not None
    smaller = replace(reference, noise_extent=reference.noise_extent / 4)
    noisier = replace(reference, weight=replace(reference.weight, signal_fraction=fraction / (2 - fraction)))
    *_, usual = errors_of_the_envelope(images)
    for changed in (smaller, noisier):
        *_, greater = errors_of_the_envelope(replace(images, references=[changed], shared={}))
        assert (usual > 0).all() and (greater > 1.2 * usual).all()


def test_scales_and_b_factors_are_freed_of_the_noise_that_views_and_geometry_follow(
    wrong: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradients by them at the solution exceed those at the true views and geometry as is expected."""
    truth, optics, found = wrong.truth, slice(GEOMETRY, GEOMETRY + 2), []

    def watched(refiner: Refiner, point: Point, envelopes: Any, state: JointState) -> JointState:
        at_truth = replace(
            state,
            projections_px=truth.projections_px,
            positions_px=truth.positions_px,
            rotations=truth.rotations,
        )
        limit = refiner.limits()[-1]
        there, true = (
            refiner.look(s, limit, held_out=True).tilt_gradient[:, optics] for s in (state, at_truth)
        )
        (unknowns,) = determined_unknowns(refiner, point, envelopes)
        expected = gradient_by_noise(envelopes.species[0], unknowns)
        corrected = without_overfitting(refiner, point, envelopes, state)
        found.append((there - true, expected, corrected.optics - state.optics))
        return corrected

    monkeypatch.setattr(joint, "without_overfitting", watched)
    align(wrong, EVERYTHING)
    ((excess, expected, change),) = found
    np.testing.assert_allclose(excess.sum(axis=0), expected.sum(axis=0), rtol=0.35)
    scale, bfactor, *others = change.T
    assert (bfactor > 0).all() and not np.any(others) and np.abs(scale).max() < 0.01


STEPS = {
    "particle's rotation": ("particles", 1, 1e-3),
    "particle's position": ("particles", 5, 0.02),
    "image's rotation": ("tilts", 1, 3e-4),
    "image's shift": ("tilts", 3, 0.02),
    SCALE: ("tilts", 5, 0.01),
    BFACTOR: ("tilts", 6, 1.0),
    DEFOCUS: ("tilts", 7, 10.0),
}


@pytest.mark.parametrize("name", STEPS)
def test_equations_hold_the_gradient_of_the_log_likelihood(name: str, images: JointImages) -> None:
    kind, unknown, step = STEPS[name]
    state = JointState.of(images.tomogram, (SCALE, BFACTOR, DEFOCUS))
    at = images.equations(state, 0.45)
    particles, tilts = np.zeros((len(state.positions_px), 6)), np.zeros((len(state.optics), 8))
    if kind == "particles":
        particles[3, unknown] = step
        slope, curvature = at.particle_gradient[3, unknown], at.particles[3, unknown, unknown]
    else:
        tilts[4, unknown] = step
        slope, curvature = at.tilt_gradient[4, unknown], at.tilts[4, unknown, unknown]
    there, back = (
        images.equations(state.moved(s * particles, s * tilts, images.tomogram), 0.45) for s in (1, -1)
    )
    expected = (there.log_likelihood.sum() - back.log_likelihood.sum()) / (2 * step)
    # Depths, which shifts and turns change a little, are not differentiated, and interpolation has kinks.
    assert slope == pytest.approx(expected, abs=0.3 * np.sqrt(curvature), rel=0.04)


def test_equations_of_held_out_and_other_pairs_are_those_of_all(images: JointImages) -> None:
    tilts, particles = (chosen[::7] for chosen in np.nonzero(images.visible))
    images = replace(images, held_out=HeldOutPairs(tilts=tilts, particles=particles))
    state = JointState.of(images.tomogram, (SCALE, BFACTOR, DEFOCUS))
    shifts = np.zeros((len(state.optics), 8))
    shifts[:, 3:5] = 1.3  # boxes are cut once for all states
    moved = state.moved(np.zeros((len(state.positions_px), 6)), shifts, images.tomogram)
    alone, values = images.held_out_pairs(state, [state, moved], 0.3)
    others, all_pairs = (images.equations(state, 0.3, held_out=kind) for kind in (False, True))
    both = alone.joined_with(others)
    np.testing.assert_allclose(both.cross, all_pairs.cross, atol=1e-6 * np.abs(both.cross).max())
    np.testing.assert_allclose(both.log_likelihood, all_pairs.log_likelihood)
    assert 0 < alone.log_likelihood.sum() < 0.3 * others.log_likelihood.sum()
    before, here, there = values.log_likelihood
    np.testing.assert_array_equal(before, here)
    assert there.sum() < 0.9 * here.sum()


def test_states_are_compared_with_either_half_map(images: JointImages) -> None:
    state = JointState.of(images.tomogram, (SCALE, BFACTOR, DEFOCUS))
    turns = np.zeros((len(state.positions_px), 6))
    turns[:, :3] = 0.02
    turned = state.moved(turns, np.zeros((len(state.optics), 8)), images.tomogram)
    results, misfit = images.compared([(state, False), (state, True), (turned, False)], 0.3)
    particles = images.tomogram.species[0]
    swapped = replace(
        images.tomogram, species=(replace(particles, half_set=1 - np.asarray(particles.half_set)),)
    )
    expected = [images.equations(state, 0.3), replace(images, tomogram=swapped).equations(state, 0.3)]
    expected.append(images.equations(turned, 0.3))
    for result, right in zip(results, expected, strict=True):
        np.testing.assert_allclose(result.cross, right.cross, atol=1e-6 * np.abs(right.cross).max())
        np.testing.assert_allclose(result.log_likelihood, right.log_likelihood)
    assert misfit.components == 6 * images.visible.sum()


@dataclass(frozen=True)
class CountedStack(Stack):
    """Images that count how often each is read."""

    reads: Counter[int] = field(default_factory=Counter)

    def read(self, tilt: int) -> np.ndarray:
        self.reads[tilt] += 1
        return super().read(tilt)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_kept_transforms_change_no_equation_and_fit_into_the_memory(
    share: float, images: JointImages, wrong: Planted
) -> None:
    """Images whose boxes are all kept are read once; held-out pairs are among them."""
    stack = CountedStack(np.stack([wrong.series.images.read(tilt) for tilt in range(len(wrong.series))]))
    tilts, particles = (chosen[::7] for chosen in np.nonzero(images.visible))
    limits, busy = [0.15, 0.25, 0.45], images.visible.any(axis=1)
    bytes_of_all = kept_bytes(int(images.visible.sum()), 0.45 * BOX)
    series = screened(replace(wrong.series, images=stack))
    keeping = replace(
        images,
        tomogram=replace(images.tomogram, series=series),
        held_out=HeldOutPairs(tilts=tilts, particles=particles),
        spare_bytes=round(share * bytes_of_all),
    ).keeping(limits[-1])
    fresh = replace(images, held_out=keeping.held_out)
    state = JointState.of(images.tomogram, (SCALE, BFACTOR, DEFOCUS))
    for limit in limits:
        expected = fresh.equations(state, limit, held_out=False)
        found = keeping.equations(state, limit, held_out=False)
        errors = np.sqrt(np.diagonal(expected.tilts, axis1=1, axis2=2)[busy])
        np.testing.assert_allclose(
            found.tilt_gradient[busy] / errors, expected.tilt_gradient[busy] / errors, atol=0.05
        )
    (_, expected_values), (_, values) = (i.held_out_pairs(state, [state], 0.45) for i in (fresh, keeping))
    np.testing.assert_allclose(values.power, expected_values.power, rtol=1e-6)
    noise = np.sqrt(values.power)
    np.testing.assert_allclose(values.matched / noise, expected_values.matched / noise, atol=0.05)
    taken = sum(spectra.numbers.nbytes for spectra in keeping.kept.values())
    assert taken <= share * bytes_of_all
    read_once = sum(stack.reads[tilt] == 1 for tilt in np.flatnonzero(busy).tolist())
    assert read_once == len(keeping.keeps) == pytest.approx(share * busy.sum(), abs=1)


def test_equations_do_not_depend_on_threads(images: JointImages) -> None:
    state = JointState.of(images.tomogram, (SCALE, BFACTOR, DEFOCUS))
    alone = images.equations(state, 0.3)
    with ThreadPoolExecutor(3) as pool:
        several = replace(images, correlator=CpuCorrelator(pool), threads=3).equations(state, 0.3)
    np.testing.assert_array_equal(alone.cross, several.cross)
    np.testing.assert_array_equal(alone.tilts, several.tilts)


@dataclass(eq=False)
class CountedDevice:
    """A CUDA device whose results are the CPU's."""

    cpu: CpuCorrelator = field(default_factory=lambda: CpuCorrelator(ThreadPoolExecutor(1)))
    images_at_once: int = 1
    calls: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self.cpu, name)


def test_a_device_computes_windows_and_derivatives_in_turn(
    wrong: Planted, found: TomogramResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only device is free again whenever the next stage asks for one."""
    device, free = CountedDevice(), SimpleQueue[CountedDevice]()
    free.put(device)
    monkeypatch.setattr(devices, "cuda_devices", lambda name: (0,))
    monkeypatch.setattr(devices, "_opened", lambda indices: free)
    result = align(wrong, EVERYTHING)
    assert free.get_nowait() is device
    tilts = len(wrong.series)
    assert device.calls["correlate_tilt"] >= 2 * tilts
    assert device.calls["tilt_derivatives"] > 3 * tilts
    np.testing.assert_array_equal(result.alignment.rotations, found.alignment.rotations)


def test_without_a_visible_pair_views_and_optics_stay(wrong: Planted) -> None:
    """No tilt image is left of --min_frame: there is nothing to refine by, and nothing moves."""
    alone = align(wrong, EVERYTHING, windows=WindowSettings(box_px=BOX, range_px=8, min_frame=90)).alignment
    np.testing.assert_array_equal(alone.positions_px, wrong.particles.positions_px)
    np.testing.assert_array_equal(alone.projections_px, wrong.series.projections_px)
    if alone.rotations is not None:
        np.testing.assert_allclose(alone.rotations, wrong.particles.rotations, atol=1e-12)
    if alone.optics.defocus_angstrom is not None:
        np.testing.assert_allclose(alone.optics.defocus_angstrom[:, 0], wrong.series.ctf.defocus_u_angstrom)
