"""Held-out pairs: how they are drawn, that nothing of a fit depends on them, and what they say of it."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from relion_runs import open_project
from small_project import Stack, align_one, compute_windows, make_settings
from tomopolish import pipeline
from tomopolish.dataset.model import Particles, References, TiltSeries
from tomopolish.imaging.held_out import (
    LEFT_PER_PARTICLE,
    LEFT_PER_TILT,
    HeldOutWindows,
    choose_held_out,
    join_held_out,
)
from tomopolish.imaging.windows import CorrelationWindows
from tomopolish.pipeline import fit as fit_module
from tomopolish.pipeline.evidence import evidence
from tomopolish.pipeline.memory import WindowMemory
from tomopolish.results.tomogram import Evidence, TomogramResult
from tomopolish.results.verdict import verdict
from tomopolish.run.store import ResultsStore
from tomopolish.settings.alignment import AlignSettings, FitSettings
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    SimulationSettings,
    SpecimenSettings,
    simulate_tomogram,
)
from tomopolish.simulate.structure import build_structure
from tomopolish.solve.surface import DisplacementSurface, smooth_surface

SETTINGS = make_settings(32, 6)


def align(
    series: TiltSeries, particles: Particles, references: References, settings: AlignSettings = SETTINGS
) -> TomogramResult:
    prepared = pipeline.prepare(references, settings)
    return align_one(series, particles, prepared, settings)


def simulated(
    seed: int, error: float = 0.0, pair_snr: float = 10.0, particles: int = 16, noise_only: bool = False
) -> tuple[TiltSeries, Particles, References]:
    """13 small tilt images, whose input errors are so many times the simulation's usual ones."""
    planted = PlantedErrors()
    settings = SimulationSettings(
        seed=seed,
        molecule=MoleculeSettings(box_px=32, seed=seed % 5, blobs=40),
        acquisition=AcquisitionSettings(
            image_size_px=(160, 160), tilt_step_degrees=9.0, tilt_range_degrees=54.0
        ),
        specimen=SpecimenSettings(
            particles=particles, tomogram_size_px=(160, 160, 80), thickness_angstrom=200.0,
            edge_margin_px=18.0, min_distance_px=8.0,
        ),
        errors=PlantedErrors(
            shift_px=error * planted.shift_px,
            angle_degrees=error * planted.angle_degrees,
            position_px=error * planted.position_px,
        ),
        noise=NoiseSettings(pair_snr=pair_snr),
    )  # fmt: skip
    structure = build_structure(settings)
    tomogram = simulate_tomogram(settings, 0, structure)
    images = np.stack([tomogram.images.read(tilt) for tilt in range(len(tomogram.series))])
    if noise_only:
        images = np.random.default_rng(seed).standard_normal(images.shape).astype(np.float32)
    return replace(tomogram.series, images=Stack(images)), tomogram.particles, structure.references


def found_evidence(result: TomogramResult) -> Evidence:
    assert result.statistics.evidence is not None
    return result.statistics.evidence


@pytest.mark.parametrize(("fraction", "share"), [(None, 0.1), (0.3, 0.3)])
def test_so_many_pairs_are_drawn(fraction: float | None, share: float) -> None:
    visible = np.random.default_rng(1).random((41, 60)) < 0.8
    held = choose_held_out(visible, fraction, 7)
    assert not held[~visible].any()
    assert held.sum() == round(share * visible.sum())
    np.testing.assert_array_equal(held, choose_held_out(visible, fraction, 7))
    assert (held != choose_held_out(visible, fraction, 8)).any()


def test_every_tilt_image_and_particle_keeps_enough_pairs() -> None:
    visible = np.random.default_rng(2).random((9, 8)) < 0.6
    kept = visible & ~choose_held_out(visible, 0.5, 0)
    for axis, least in ((1, LEFT_PER_TILT), (0, LEFT_PER_PARTICLE)):
        before, after = visible.sum(axis=axis), kept.sum(axis=axis)
        assert (after >= np.minimum(before, least)).all()
    assert kept.sum() < visible.sum()
    assert not choose_held_out(visible[:, :2], 0.5, 0).any()


@pytest.fixture(scope="module")
def windows() -> tuple[CorrelationWindows, CorrelationWindows]:
    """A tomogram's windows, and those of the same particles in the opposite half sets."""
    series, particles, references = simulated(3, error=1.0)
    other = replace(particles, half_set=1 - particles.half_set)
    return tuple(compute_windows(series, p, references, SETTINGS) for p in (particles, other))


def test_held_out_pairs_are_compared_with_the_other_half_map(windows) -> None:
    mine, swapped = windows
    held = mine.held_out
    place = (held.tilts, held.particles)
    assert len(held) >= 40 and mine.visible[place].all()
    # Two compiled loops compute them, which may round the last bit of float32 differently on some processors.
    rounding = 1e-6 * np.abs(swapped.values).max()
    np.testing.assert_allclose(held.values, swapped.values[place], rtol=0, atol=rounding)
    np.testing.assert_allclose(held.power, swapped.power[place], rtol=1e-6)
    assert np.abs(held.values - mine.values[place]).max() > 0


def test_a_first_fit_sees_nothing_of_held_out_pairs_and_they_come_back(windows) -> None:
    mine, _ = windows
    place = (mine.held_out.tilts, mine.held_out.particles)
    for consume in (False, True):
        memory = WindowMemory.of(replace(mine, values=mine.values.copy()))
        known = memory.windows
        assert not known.visible[place].any() and not known.values[place].any()
        assert (
            known.visible.sum()
            == memory.pairs - len(mine.held_out)
            == mine.visible.sum() - len(mine.held_out)
        )
        memory.scale(np.full(mine.visible.shape[1], 2.0))
        with ThreadPoolExecutor(1) as pool:
            make = memory.consume_into_surfaces if consume else memory.surfaces
            surface = memory.put_back(make(0.0, pool))
        expected = smooth_surface(replace(mine, values=2 * mine.values))
        rounding = 5e-5 * np.abs(expected.coefficients).max()
        np.testing.assert_allclose(surface.coefficients, expected.coefficients, rtol=0, atol=rounding)
        np.testing.assert_array_equal(surface.visible, mine.visible)
        np.testing.assert_array_equal(memory.windows.visible, mine.visible)
        assert memory.holds_windows != consume
        if memory.holds_windows:
            np.testing.assert_allclose(memory.windows.values, 2 * mine.values, atol=rounding)


def test_the_geometry_that_is_judged_does_not_depend_on_the_held_out_images(windows) -> None:
    """Whatever the held-out pairs show, the first fit, and so what is asked of them, is the same."""
    mine, _ = windows
    series, particles, references = simulated(3, error=1.0)
    place = (mine.held_out.tilts, mine.held_out.particles)
    scrambled = mine.values.copy()
    scrambled[place] = np.random.default_rng(0).normal(0, 5, scrambled[place].shape)
    found = []
    for values in (mine.values, scrambled):
        with pytest.MonkeyPatch.context() as patch:
            changed = replace(mine, values=values.copy())
            patch.setattr(pipeline.align, "correlation_windows", lambda *_, given=changed: given)
            found.append(align(series, particles, references))
    # How far pairs moved in the end is that of the final fit.
    mine, other = (replace(found_evidence(f), moved_angstrom=0.0, error_angstrom=0.0) for f in found)
    assert mine == other
    moved = found[0].alignment.positions_px - found[1].alignment.positions_px
    assert np.abs(moved).max() > 0.1  # the final fit does take all pairs


def test_all_pairs_have_one_scale_however_often_it_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it never comes right, and the last correction must not stop half way."""
    series, particles, references = simulated(3, error=1.0)
    surfaces = []
    refine, corrected = fit_module.refine, np.array([2.0])

    def refine_and_look(problem, windows, *rest):  # type: ignore[no-untyped-def]
        surfaces.append(np.array(problem.surface.coefficients))
        return refine(problem, windows, *rest)

    monkeypatch.setattr(fit_module, "refine", refine_and_look)
    monkeypatch.setattr(fit_module, "intensity_scales", lambda *_: corrected)
    result = align(series, particles, references)
    corrections = fit_module.SCALE_CORRECTIONS
    windows = compute_windows(series, particles, references, SETTINGS)
    expected = 2**corrections * np.asarray(smooth_surface(windows).coefficients)
    np.testing.assert_allclose(surfaces[-1], expected, atol=2e-4 * np.abs(expected).max())
    assert f"multiplied by {2**corrections:g} " in " ".join(result.statistics.warnings)


def test_nothing_is_held_out_on_request_or_where_pairs_are_too_few(mini: Path) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    none = make_settings(48, 6, fit=FitSettings(held_out_fraction=0.0))
    without = align(series, particles, dataset.references(), none)
    assert without.statistics.evidence is None
    chosen = np.arange(2)
    fewer = replace(
        particles,
        rows=particles.rows[chosen],
        names=particles.names[:2],
        positions_px=particles.positions_px[chosen],
        rotations=particles.rotations[chosen],
        half_set=particles.half_set[chosen],
        optics_group=particles.optics_group[chosen],
    )
    assert align(series, fewer, dataset.references(), make_settings(48, 6)).statistics.evidence is None


def test_the_refined_geometry_is_that_of_all_pairs(mini: Path) -> None:
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    with_, without = (
        align(series, particles, dataset.references(), make_settings(48, 6, fit=FitSettings(**changes)))
        for changes in ({}, {"held_out_fraction": 0.0})
    )
    np.testing.assert_allclose(with_.alignment.positions_px, without.alignment.positions_px, atol=1e-6)
    assert with_.statistics.log_likelihood_gain == pytest.approx(without.statistics.log_likelihood_gain)


def test_a_final_fit_that_starts_where_the_first_one_ended_finds_the_same_optimum() -> None:
    series, particles, references = simulated(4, error=1.0, pair_snr=20.0, particles=60)
    with_, without = (
        align(series, particles, references, make_settings(32, 6, fit=FitSettings(**changes)))
        for changes in ({}, {"held_out_fraction": 0.0})
    )
    assert found_evidence(with_).pairs == round(0.1 * with_.statistics.visible_pairs)
    difference = with_.statistics.log_likelihood_gain - without.statistics.log_likelihood_gain
    assert abs(difference) < 2
    moved = with_.alignment.positions_px - without.alignment.positions_px
    assert np.median(np.linalg.norm(moved, axis=1)) < 0.05


def test_it_helped_where_there_was_something_to_gain() -> None:
    found = {str(seed): found_evidence(align(*simulated(seed, error=1.0))) for seed in range(3)}
    weighed = verdict(found)
    assert weighed is not None and weighed.helped and not weighed.worse
    assert weighed.agreement_after > weighed.agreement_before + 0.2


@pytest.mark.parametrize("noise_only", [True, False], ids=["noise alone", "the input is the truth"])
def test_where_nothing_is_to_be_gained_there_is_no_evidence_that_it_helped(noise_only: bool) -> None:
    results = {str(seed): align(*simulated(seed, noise_only=noise_only)) for seed in range(6)}
    found = {name: found_evidence(result) for name, result in results.items()}
    weighed = verdict(found)
    assert weighed is not None and not weighed.helped and not weighed.better
    # Each fit is sure to have gained on the images that it was made from.
    assert all(result.statistics.log_likelihood_gain > 10 for result in results.values())
    gain = [e.gain / e.standard_error for e in found.values()]
    assert np.mean(gain) < 1 and np.max(gain) < 3


def test_gains_are_added_up_by_particle() -> None:
    rng = np.random.default_rng(3)
    particle = np.repeat([2, 5, 9, 11], 6)
    before, after = rng.normal(size=(2, 24))
    found = evidence(particle, before, after, np.full(24, 2.0))
    gains = (after - before).reshape(4, 6).sum(axis=1)
    assert (found.particles, found.pairs) == (4, 24)
    assert found.gain == pytest.approx(gains.sum())
    assert found.standard_error == pytest.approx(2 * gains.std(ddof=1))
    assert found.agreement_after == pytest.approx(after.sum() / 48)
    assert np.isnan(evidence(np.zeros(3, dtype=int), before[:3], after[:3], np.ones(3)).standard_error)


def test_scaled_references_change_gain_and_error_alike(mini: Path) -> None:
    """Intensities cancel out of the verdict."""
    dataset = open_project(mini)
    series, particles = dataset.load("TS_01")
    references = dataset.references()
    found = [
        found_evidence(
            align(
                series,
                particles,
                replace(references, half_maps=references.half_maps * np.float32(factor)),
                make_settings(48, 6),
            )
        )
        for factor in (1.0, 20.0)
    ]
    # An estimated factor brings the references back, to within what it is worth.
    assert found[1].gain / found[1].standard_error == pytest.approx(
        found[0].gain / found[0].standard_error, rel=0.05
    )
    # The agreement is stated on the scale of the references as they were given.
    assert 20 * found[1].agreement_after == pytest.approx(found[0].agreement_after, rel=0.05)


def test_species_keep_their_particles_apart() -> None:
    def part(particles: list[int]) -> HeldOutWindows:
        count = len(particles)
        return HeldOutWindows(
            tilts=np.arange(count),
            particles=np.array(particles),
            values=np.zeros((count, 4, 4), dtype=np.float32),
            power=np.ones(count),
        )

    joined = join_held_out([part([0, 3]), None, part([1])], [5, 2, 4])
    assert joined is not None
    np.testing.assert_array_equal(joined.particles, [0, 3, 8])
    assert join_held_out([None, None], [1, 1]) is None


def test_evidence_survives_on_disk(mini: Path, tmp_path: Path) -> None:
    dataset = open_project(mini)
    result = align(*dataset.load("TS_01"), dataset.references(), make_settings(48, 6))
    store = ResultsStore(folder=tmp_path)
    store.save("TS_01", result, {})
    assert store.load("TS_01").statistics.evidence == result.statistics.evidence is not None


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_windows_that_give_their_memory_to_the_surfaces_change_nothing(
    mini: Path, monkeypatch: pytest.MonkeyPatch, scale: float
) -> None:
    """Also where the references' intensity has to be corrected, and with few pairs taken for many."""
    dataset = open_project(mini)
    series, particles = dataset.load(dataset.tomogram_names[0])
    references = dataset.references()
    references = replace(references, half_maps=references.half_maps * np.float32(scale))
    settings = make_settings(48, 6)
    prepared = pipeline.prepare(references, settings)
    monkeypatch.setattr(fit_module, "is_small", lambda pairs: False)
    one = align_one(series, particles, prepared, settings)
    beside: list[DisplacementSurface] = []
    scale_windows = WindowMemory.scale

    def make_beside(memory: WindowMemory, range_penalty: float, pool: Executor) -> DisplacementSurface:
        beside.append(memory.surfaces(range_penalty, pool))
        return beside[-1]

    def scale_both(memory: WindowMemory, factors: np.ndarray) -> None:
        scale_windows(memory, factors)
        for surface in beside:
            surface.coefficients.scale(factors)

    monkeypatch.setattr(WindowMemory, "consume_into_surfaces", make_beside)
    monkeypatch.setattr(WindowMemory, "scale", scale_both)
    other = align_one(series, particles, prepared, settings)
    assert len(beside) == 1
    np.testing.assert_allclose(one.alignment.positions_px, other.alignment.positions_px, rtol=0, atol=1e-5)
    mine, theirs = one.statistics.evidence, other.statistics.evidence
    assert mine is not None and theirs is not None
    assert mine.gain == pytest.approx(theirs.gain, rel=1e-6)
    assert one.statistics.warnings == other.statistics.warnings
    assert any("multiplied by" in w for w in one.statistics.warnings) == (scale != 1)
    for name in ("windows_before", "windows_after", "tilt_log_likelihood"):
        mine, theirs = getattr(one.record, name), getattr(other.record, name)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_pairs_that_were_held_out_come_back_even_if_all_are_of_false_particles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No evidence is left then, but the geometry is still that of all pairs."""
    series, particles, references = simulated(4, error=1.0)
    monkeypatch.setattr(fit_module, "weigh", lambda *_: None)
    result = align(series, particles, references)
    monkeypatch.undo()
    complete = align(series, particles, references)
    assert result.statistics.evidence is None and complete.statistics.evidence is not None
    np.testing.assert_array_equal(result.alignment.projections_px, complete.alignment.projections_px)
    assert result.statistics.visible_pairs == complete.statistics.visible_pairs
