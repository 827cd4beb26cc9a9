"""Evaluation against a truth: the reference runs' known errors, and planted ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_project import errors_of
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import open_dataset
from tomopolish.errors import InputError
from tomopolish.physics.geometry import rotation_from_vector
from tomopolish.simulate.evaluate import evaluate_project, input_geometry
from tomopolish.simulate.geometry_errors import Geometry, geometry_errors
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    MoleculeSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
    Truth,
    read_truth,
    simulate_tomogram,
    write_project,
)

SETTINGS = SimulationSettings(
    seed=2,
    molecule=MoleculeSettings(box_px=32, blobs=40),
    acquisition=AcquisitionSettings(image_size_px=(151, 160), tilt_step_degrees=15.0),
    specimen=SpecimenSettings(particles=7, thickness_angstrom=300.0, min_distance_px=15.0),
    motion=PlantedMotion(velocity_scale=0.2),
    warp=PlantedWarp(amplitude_px=1.0),
)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return simulate_tomogram(SETTINGS).truth


def _exact(truth: Truth) -> Geometry:
    return Geometry(
        projections_px=truth.projections_px,
        particles=np.arange(len(truth.positions_px)),
        positions_px=truth.positions_px,
        trajectories_px=truth.trajectories_px,
        deformation=truth.deformation,
    )


@pytest.mark.parametrize(("run", "expected"), [("static", 0.478), ("motion", 0.477), ("r4_static", 0.478)])
def test_reproduces_the_errors_of_the_small_reference_runs(mini: Path, run: str, expected: float) -> None:
    before = mini / ("optimisation_set_r4.star" if run.startswith("r4") else "optimisation_set.star")
    evaluation = evaluate_project(mini / "relion" / run, mini / "truth.json", before=before)
    assert evaluation.rms_2d_before_angstrom == pytest.approx(10.40, abs=0.005)
    assert evaluation.rms_2d_after_angstrom == pytest.approx(expected, abs=0.0005)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ("static", 0.405),
        ("motion", 0.395),
        ("deformation_spline", 0.405),
        ("deformation_Fourier", 0.408),
        ("r4_motion", 0.395),
    ],
)
def test_reproduces_the_errors_of_the_larger_reference_runs(golden: Path, run: str, expected: float) -> None:
    before = golden / ("optimisation_set_r4.star" if run.startswith("r4") else "optimisation_set.star")
    evaluation = evaluate_project(golden / "relion" / run, golden / "truth.json", before=before)
    assert evaluation.rms_2d_before_angstrom == pytest.approx(11.16, abs=0.005)
    assert evaluation.rms_2d_after_angstrom == pytest.approx(expected, abs=0.0006)
    assert [t.tomogram for t in evaluation.tomograms] == ["TS_01", "TS_02"]
    for tomogram in evaluation.tomograms:
        assert tomogram.before is not None
        assert tomogram.after.rms_2d_angstrom < 0.1 * tomogram.before.rms_2d_angstrom
        assert tomogram.after.rms_angle_degrees < 0.5 * tomogram.before.rms_angle_degrees


def test_the_truth_has_no_error(truth: Truth) -> None:
    errors = geometry_errors(truth, _exact(truth))
    assert errors.visible_pairs == truth.visible.sum() > 0
    for value in (
        errors.rms_2d_angstrom,
        errors.rms_shift_angstrom,
        errors.rms_position_angstrom,
        errors.rms_trajectory_angstrom,
        errors.rms_angle_degrees,
        errors.rms_view_degrees,
        errors.net_rotation_degrees,
    ):
        assert value == pytest.approx(0, abs=1e-5)


def test_a_rotation_and_shift_of_everything_is_no_error(truth: Truth) -> None:
    turn = rotation_from_vector(np.array([0.02, -0.05, 0.03]))
    about, shift = np.array([70.0, 90.0, 40.0]), np.array([3.0, -2.0, 1.0])
    exact = _exact(truth)
    projections = exact.projections_px.copy()
    projections[:, :3, :3] = exact.projections_px[:, :3, :3] @ turn.T
    projections[:, :3, 3] += exact.projections_px[:, :3, :3] @ about - projections[:, :3, :3] @ (
        about + shift
    )
    turned = replace(
        exact,
        projections_px=projections,
        positions_px=(exact.positions_px - about) @ turn.T + about + shift,
        trajectories_px=exact.trajectories_px @ turn.T,
    )
    errors = geometry_errors(truth, turned)
    assert errors.rms_2d_angstrom == pytest.approx(0, abs=1e-8)
    assert errors.rms_position_angstrom == pytest.approx(0, abs=1e-5)
    assert errors.rms_angle_degrees == pytest.approx(0, abs=1e-5)
    assert errors.rms_trajectory_angstrom == pytest.approx(0, abs=1e-5)
    # the orientations have not turned along
    angle = np.rad2deg(np.linalg.norm([0.02, -0.05, 0.03]))
    assert errors.net_rotation_degrees == pytest.approx(angle)
    assert errors.rms_view_degrees == pytest.approx(angle)


def test_planted_errors_are_measured_in_their_units(truth: Truth) -> None:
    exact, pixel = _exact(truth), truth.pixel_size_angstrom
    tilts = len(exact.projections_px)
    shifted = exact.projections_px.copy()
    shifted[:, 0, 3] += np.where(np.arange(tilts) % 2, 0.3, -0.3)
    without_warp = replace(truth, deformation=None, positions_2d_px=_unwarped(truth))
    errors = geometry_errors(without_warp, replace(exact, projections_px=shifted, deformation=None))
    assert errors.rms_2d_angstrom == pytest.approx(0.3 * pixel)
    assert errors.rms_shift_angstrom == pytest.approx(0.3 * pixel)
    assert errors.rms_position_angstrom == pytest.approx(0, abs=1e-5)
    still = geometry_errors(truth, replace(exact, trajectories_px=None))
    assert still.rms_trajectory_angstrom > 0.1
    unwarped = geometry_errors(truth, replace(exact, deformation=None))
    assert unwarped.rms_2d_angstrom == pytest.approx(1.0 * pixel, rel=0.4)


def _unwarped(truth: Truth) -> np.ndarray:
    plain = replace(_exact(truth), deformation=None)
    return np.swapaxes(plain.positions_2d_px(truth.image_size_px), 0, 1)


def test_angle_and_position_errors_are_those_planted() -> None:
    settings = replace(
        SETTINGS,
        motion=None,
        warp=None,
        acquisition=AcquisitionSettings(image_size_px=(600, 600), tilt_step_degrees=2.0),
        specimen=SpecimenSettings(particles=60, min_distance_px=20.0),
        errors=PlantedErrors(shift_px=0.0, angle_degrees=0.3, position_px=2.0),
    )
    tomogram = simulate_tomogram(settings)
    stated = input_geometry(tomogram.truth)
    assert stated is not None
    errors = geometry_errors(tomogram.truth, stated)
    assert errors.rms_angle_degrees == pytest.approx(0.3 * np.sqrt(3), rel=0.12)
    assert errors.rms_position_angstrom == pytest.approx(2.0 * np.sqrt(3) * 3.0, rel=0.12)
    # independent errors leave little net rotation, so that views are as far off as angles
    assert errors.rms_view_degrees == pytest.approx(0.3 * np.sqrt(3), rel=0.12)
    assert 0.01 < errors.net_rotation_degrees < 3 * 0.3 * np.sqrt(3 / 61)


def test_invisible_pairs_do_not_count(truth: Truth) -> None:
    assert 0 < truth.visible.sum() < truth.visible.size
    moved = np.where(truth.visible[..., None], truth.positions_2d_px, -500.0)
    errors = geometry_errors(truth, _exact(truth))
    assert geometry_errors(
        replace(truth, positions_2d_px=moved), _exact(truth)
    ).rms_2d_angstrom == pytest.approx(errors.rms_2d_angstrom, abs=1e-9)
    w, h = truth.image_size_px
    inside = (truth.positions_2d_px >= 16) & (truth.positions_2d_px <= np.array([w - 16, h - 16]))
    np.testing.assert_array_equal(truth.visible, inside.all(axis=-1))


def test_alignments_in_memory_and_on_disk_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SETTINGS, motion=None, warp=None, tomograms=2)
    write_project(tmp_path / "project", settings)
    dataset = open_dataset(Path("optimisation_set.star"), working_directory=tmp_path / "project")
    truths = read_truth(tmp_path / "project" / "truth.json")
    alignments, in_memory = {}, {}
    for name in ("TS_01", "TS_02"):
        series, particles = dataset.load(name)
        alignments[name] = Alignment(
            tomogram=name,
            projections_px=(series.projections_px + truths[name].projections_px) / 2,
            rows=particles.rows,
            positions_px=particles.positions_px + 0.5,
        )
        in_memory[name] = errors_of(truths[name], alignments[name], particles)
    dataset.write(Path("out"), alignments, motion=False)
    # From the project's folder, as RELION's users work, and from anywhere else.
    for folder in (tmp_path / "project", tmp_path):
        monkeypatch.chdir(folder)
        evaluation = evaluate_project(tmp_path / "project" / "out", tmp_path / "project" / "truth.json")
        assert evaluation.visible_pairs == sum(errors.visible_pairs for errors in in_memory.values())
        for tomogram in evaluation.tomograms:
            memory = in_memory[tomogram.tomogram]
            assert tomogram.after.rms_2d_angstrom == pytest.approx(memory.rms_2d_angstrom, rel=1e-4)
        line = evaluation.summary()
        assert f"{evaluation.rms_2d_after_angstrom:.3f} Å after" in line and "2 tomogram(s)" in line


def test_particles_are_matched_by_name(truth: Truth) -> None:
    tomogram = simulate_tomogram(SETTINGS)
    order = np.array([4, 0, 6])
    alignment = Alignment(
        tomogram="TS_01",
        projections_px=truth.projections_px,
        rows=tomogram.particles.rows[order],
        positions_px=truth.positions_px[order],
        trajectories_px=truth.trajectories_px[order],
        deformation=truth.deformation,
    )
    errors = errors_of(truth, alignment, tomogram.particles)
    assert errors.rms_2d_angstrom == pytest.approx(0, abs=1e-9)
    assert errors.visible_pairs == truth.visible[order].sum()


def test_results_that_do_not_belong_to_the_truth_are_refused(truth: Truth, tmp_path: Path) -> None:
    exact = _exact(truth)
    with pytest.raises(InputError, match="tilt images"):
        geometry_errors(truth, replace(exact, projections_px=exact.projections_px[1:], trajectories_px=None))
    tomogram = simulate_tomogram(SETTINGS)
    strangers = replace(tomogram.particles, names=tuple(f"other/{i}" for i in range(7)))
    alignment = Alignment(
        tomogram="TS_01",
        projections_px=truth.projections_px,
        rows=strangers.rows,
        positions_px=truth.positions_px,
    )
    with pytest.raises(InputError, match="knows none"):
        errors_of(truth, alignment, strangers)
    nameless = replace(truth, particle_names=None)
    fewer = replace(alignment, rows=strangers.rows[:3], positions_px=truth.positions_px[:3])
    with pytest.raises(InputError, match="3 particles, the truth 7"):
        errors_of(nameless, fewer, strangers)


def test_a_project_with_another_truth_is_refused(mini: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, motion=None, warp=None)
    write_project(tmp_path, settings)
    text = (tmp_path / "truth.json").read_text().replace('"TS_01":', '"TS_77":')
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(InputError, match="knows none of these tomograms"):
        evaluate_project(mini / "relion" / "static", tmp_path / "truth.json", working_directory=mini)
    with pytest.raises(InputError, match="file not found"):
        evaluate_project(mini / "nowhere", mini / "truth.json")
