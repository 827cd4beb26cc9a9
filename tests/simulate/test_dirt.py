"""Dirt of simulated projects: each kind is what its option says, the truth names it, and the rest stays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from simulation_cases import varied

from tomopolish.dataset.project import open_dataset
from tomopolish.errors import InputError
from tomopolish.physics.geometry import rotation_vector
from tomopolish.simulate.parts import (
    DirtSettings,
    PlantedErrors,
    SimulatedTomogram,
    SimulationSettings,
    build_structure,
    read_truth,
    simulate_tomogram,
    write_project,
)
from tomopolish.simulate.truth import PickKind, TiltKind


def _dirty(settings: SimulationSettings, **dirt: object) -> SimulatedTomogram:
    return simulate_tomogram(replace(settings, dirt=DirtSettings(**dirt)))


def _of_kind(tomogram: SimulatedTomogram, kind: PickKind) -> np.ndarray:
    return np.flatnonzero([k is kind for k in tomogram.truth.particle_kinds])


@pytest.fixture(scope="module")
def sixteen(small: SimulationSettings) -> SimulationSettings:
    return varied(small, "specimen", particles=16, min_distance_px=24.0)


PICKS = {"false_particles": 0.4, "misoriented": 0.25, "misoriented_turn_degrees": 31.0, "picked_twice": 0.2}


def test_bad_picks_have_the_shares_asked_for_and_the_truth_names_them(sixteen: SimulationSettings) -> None:
    tomogram = _dirty(sixteen, **PICKS)
    counts = Counter(tomogram.truth.particle_kinds)
    assert counts == {"good": 12, "false": 6, "misoriented": 4, "duplicate": 3}
    particles, truth = tomogram.particles, tomogram.truth
    assert len(particles) == len(truth.positions_px) == len(set(particles.names)) == 25
    assert truth.particle_names == particles.names
    np.testing.assert_array_equal(particles.rows, np.arange(25))
    assert simulate_tomogram(replace(sixteen, dirt=DirtSettings(**PICKS)), 1).particles.rows[0] == 25
    # Bad ones are not all at the end of the list.
    assert truth.good_particles.sum() == 12 and not truth.good_particles[:16].all()


def test_false_particles_are_away_from_true_ones(sixteen: SimulationSettings) -> None:
    tomogram = _dirty(sixteen, false_particles=1.5)
    false, good = (_of_kind(tomogram, kind) for kind in (PickKind.FALSE, PickKind.GOOD))
    places = tomogram.truth.positions_px
    distance = np.linalg.norm(places[false][:, None] - places[good], axis=-1)
    assert len(false) == 24
    assert distance.min() >= max(24.0, build_structure(sixteen).diameter_px / 2)


def test_misoriented_particles_are_turned_by_the_angle(sixteen: SimulationSettings) -> None:
    tomogram = _dirty(sixteen, **PICKS)
    turn = tomogram.particles.rotations @ np.swapaxes(tomogram.truth.rotations, 1, 2)
    angle = np.rad2deg(np.linalg.norm(rotation_vector(turn), axis=-1))
    expected = np.zeros(len(angle))
    expected[_of_kind(tomogram, PickKind.MISORIENTED)] = 31.0
    np.testing.assert_allclose(angle, expected, atol=1e-5)


def test_particles_picked_twice_have_one_place_and_two_errors(sixteen: SimulationSettings) -> None:
    settings = replace(sixteen, errors=PlantedErrors(position_px=1.2))
    tomogram = _dirty(settings, picked_twice=0.5)
    again = _of_kind(tomogram, PickKind.DUPLICATE)
    truth = tomogram.truth
    assert truth.originals is not None
    first = truth.originals[again]
    assert len(again) == 8 and np.all(truth.good_particles[first])
    assert np.all(np.delete(truth.originals, again) == -1)
    np.testing.assert_array_equal(truth.positions_px[again], truth.positions_px[first])
    np.testing.assert_array_equal(truth.positions_2d_px[again], truth.positions_2d_px[first])
    np.testing.assert_array_equal(tomogram.particles.rotations[again], tomogram.particles.rotations[first])
    errors = tomogram.particles.positions_px - truth.positions_px
    assert 0.8 < np.std(errors[again]) < 1.7
    assert np.abs(errors[again] - errors[first]).max(axis=1).min() > 0.1


def test_true_particles_and_their_images_stay(sixteen: SimulationSettings) -> None:
    clean, dirty = simulate_tomogram(sixteen), _dirty(sixteen, **PICKS)
    true = np.flatnonzero([k in ("good", "misoriented") for k in dirty.truth.particle_kinds])
    np.testing.assert_array_equal(dirty.particles.positions_px[true], clean.particles.positions_px)
    np.testing.assert_array_equal(dirty.particles.half_set[true], clean.particles.half_set)
    np.testing.assert_array_equal(dirty.truth.positions_2d_px[true], clean.truth.positions_2d_px)
    np.testing.assert_array_equal(dirty.images.read(3), clean.images.read(3))


def test_each_kind_has_its_own_random_numbers(sixteen: SimulationSettings) -> None:
    alone = _dirty(sixteen, false_particles=0.4, blank_images=2)
    among = _dirty(
        sixteen, **PICKS, blank_images=2, beads=4, hot_pixels=5, gradient=0.3, defocus_error_angstrom=100.0
    )
    np.testing.assert_array_equal(
        alone.truth.positions_px[_of_kind(alone, PickKind.FALSE)],
        among.truth.positions_px[_of_kind(among, PickKind.FALSE)],
    )
    assert alone.truth.tilt_kinds == among.truth.tilt_kinds


def test_bad_tilt_images_are_as_many_as_asked_for(small: SimulationSettings) -> None:
    tomogram = _dirty(small, blank_images=3, covered_images=2, displaced_images=1)
    kinds = np.array([kind.value for kind in tomogram.truth.tilt_kinds])
    assert Counter(kinds) == {"good": 5, "blank": 3, "covered": 2, "displaced": 1}
    assert np.abs(tomogram.angles_degrees[kinds == "covered"]).min() >= 36
    np.testing.assert_array_equal(tomogram.truth.good_tilts, (kinds == "good") | (kinds == "displaced"))
    for dirt in (DirtSettings(blank_images=12), DirtSettings(covered_images=7)):
        with pytest.raises(InputError, match="of 11 tilt images cannot be"):
            simulate_tomogram(replace(small, dirt=dirt))


def test_displaced_images_are_off_by_the_distance(small: SimulationSettings) -> None:
    clean, dirty = simulate_tomogram(small), _dirty(small, displaced_images=2, displaced_by_px=17.0)
    moved = np.linalg.norm(dirty.truth.positions_2d_px - clean.truth.positions_2d_px, axis=-1)
    expected = np.where([kind is TiltKind.DISPLACED for kind in dirty.truth.tilt_kinds], 17.0, 0.0)
    np.testing.assert_allclose(moved, np.broadcast_to(expected, moved.shape), atol=1e-9)
    np.testing.assert_array_equal(dirty.series.projections_px, clean.series.projections_px)


def test_blank_images_show_noise_only(small: SimulationSettings) -> None:
    strong = varied(small, "noise", pair_snr=1e6)
    clean, dirty = simulate_tomogram(strong), _dirty(strong, blank_images=4)
    tilt = dirty.truth.tilt_kinds.index(TiltKind.BLANK)
    assert np.std(clean.images.read(tilt)) > 10
    assert np.std(dirty.images.read(tilt)) == pytest.approx(1, rel=0.03)
    other = dirty.truth.tilt_kinds.index(TiltKind.GOOD)
    np.testing.assert_array_equal(dirty.images.read(other), clean.images.read(other))


def test_covered_images_are_dark_and_show_nothing_on_one_side(small: SimulationSettings) -> None:
    clean, dirty = simulate_tomogram(small), _dirty(small, covered_images=2)
    for tilt in map(int, np.flatnonzero(~dirty.truth.good_tilts)):
        before, after = clean.images.read(tilt), dirty.images.read(tilt)
        untouched = np.abs(after - before) < 1e-3
        assert 0.2 < untouched.mean() < 0.8
        dark = after[~untouched] < before.min()
        assert dark.mean() > 0.6  # the rest is the soft edge
        hidden = after[~untouched][after[~untouched] < -6.5]
        assert np.std(hidden) < 0.45


def test_beads_are_dark_spheres_with_fringes_that_move_with_the_tilt(small: SimulationSettings) -> None:
    silent = varied(small, "noise", pair_snr=np.inf)
    dirt = {"beads": 5, "bead_diameter_angstrom": 60.0, "bead_contrast": 9.0}
    clean, dirty = simulate_tomogram(silent), _dirty(silent, **dirt)
    beads = dirty.truth.beads_px
    assert beads is not None and beads.shape == (5, 3)
    for tilt in (0, 5, 9):
        added = dirty.images.read(tilt) - clean.images.read(tilt)
        shown = 0
        for bead in beads:
            x, y = np.rint((dirty.truth.projections_px[tilt] @ np.append(bead, 1))[:2]).astype(int)
            if not (30 <= x < 201 - 30 and 30 <= y < 173 - 30):
                continue
            shown += 1
            assert added[y, x] < -6.0
        assert shown >= 1
        # Inside a sphere of gold it is dark; phase contrast puts bright fringes around it.
        assert 1.0 < added.max() < 0.7 * -added.min()
        assert np.median(np.abs(added)) < 0.3
    near = np.linalg.norm(beads[1::2, None] - dirty.truth.positions_px, axis=-1).min(axis=1)
    assert near.max() <= (build_structure(silent).diameter_px + 15.0) / 2 + 1e-6


def test_hot_pixels_are_bright_and_half_of_them_stay(small: SimulationSettings) -> None:
    clean, dirty = simulate_tomogram(small), _dirty(small, hot_pixels=40)
    added = [dirty.images.read(tilt) - clean.images.read(tilt) for tilt in (2, 7)]
    hot = [set(np.flatnonzero(a > 15)) for a in added]
    assert all(38 <= len(places) <= 40 for places in hot)
    assert 19 <= len(hot[0] & hot[1]) <= 22
    assert all((np.abs(a) > 1e-3).sum() == len(places) for a, places in zip(added, hot, strict=True))


def test_backgrounds_are_smooth_and_as_strong_as_asked_for(small: SimulationSettings) -> None:
    settings = varied(small, "noise", sigma=5.0)
    clean, dirty = simulate_tomogram(settings), _dirty(settings, gradient=0.6)
    added = [dirty.images.read(tilt) - clean.images.read(tilt) for tilt in (2, 7)]
    for surface in added:
        assert np.sqrt(np.mean(surface**2)) == pytest.approx(3.0, rel=1e-3)
        assert abs(surface.mean()) < 1e-2
        assert np.abs(np.diff(surface, axis=0)).max() < 0.3
    assert not np.allclose(*added, atol=0.1)


def test_defocus_errors_are_in_the_files_only(small: SimulationSettings) -> None:
    settings = varied(small, "acquisition", tilt_step_degrees=1.0)
    clean, dirty = simulate_tomogram(settings), _dirty(settings, defocus_error_angstrom=250.0)
    for name in ("defocus_u_angstrom", "defocus_v_angstrom"):
        error = getattr(dirty.series.ctf, name) - getattr(clean.series.ctf, name)
        assert np.std(error) == pytest.approx(250.0, rel=0.2)
        np.testing.assert_allclose(
            getattr(dirty.images.painter.series.ctf, name), getattr(clean.series.ctf, name), atol=1e-9
        )


def test_a_dirty_project_reads_back_with_its_truth(sixteen: SimulationSettings, tmp_path: Path) -> None:
    dirt = DirtSettings(**PICKS, blank_images=1, covered_images=1, beads=2)
    settings = replace(sixteen, tomograms=2, dirt=dirt)
    dataset = open_dataset(write_project(tmp_path, settings), working_directory=tmp_path)
    truths = read_truth(tmp_path / "truth.json")
    for index, name in enumerate(dataset.tomogram_names):
        _, particles = dataset.load(name)
        expected = simulate_tomogram(settings, index)
        np.testing.assert_allclose(particles.positions_px, expected.particles.positions_px, atol=1e-5)
        np.testing.assert_allclose(particles.rotations, expected.particles.rotations, atol=1e-6)
        assert particles.names == truths[name].particle_names
        for field in ("particle_kinds", "tilt_kinds"):
            assert getattr(truths[name], field) == getattr(expected.truth, field)
        for field in ("originals", "beads_px"):
            np.testing.assert_array_equal(getattr(truths[name], field), getattr(expected.truth, field))
        assert truths[name].settings is not None and truths[name].settings["dirt"]["beads"] == 2


def test_a_clean_truth_says_nothing_of_dirt(small: SimulationSettings) -> None:
    truth = simulate_tomogram(small).truth
    assert truth.is_clean
    content = truth.to_json()
    assert not {"particle_kinds", "originals", "tilt_kinds", "beads"} & set(content)
    assert "dirt" not in content["settings"]
