"""The accuracy study: its cases, that it resumes where it stopped, and its criteria on small cases."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tomopolish.physics.geometry import rotation_vector
from tomopolish.settings.alignment import FitSettings, MotionSettings, WindowSettings
from tomopolish.simulate.acquisition import tilt_angles_degrees
from tomopolish.simulate.parts import PlantedMotion, PlantedWarp
from tomopolish.solve import uncertainty
from tomopolish.solve.problem import predicted_positions

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def accuracy() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.setattr(uncertainty, "PROBES", ((np.inf, 1),))  # nothing here looks at standard errors
        yield importlib.import_module("accuracy")


@pytest.fixture(scope="module")
def cases(accuracy: ModuleType) -> ModuleType:
    return importlib.import_module("accuracy_cases")


@pytest.fixture(scope="module")
def net_rotation(accuracy: ModuleType) -> ModuleType:
    return importlib.import_module("accuracy_net_rotation")


def tiny(case: Any, particles: int = 16) -> Any:
    """The same case on small images with few particles and tilts."""
    simulation = replace(
        case.simulation,
        molecule=replace(case.simulation.molecule, box_px=32, blobs=60, blob_sigma_px=0.8),
        acquisition=replace(
            case.simulation.acquisition,
            image_size_px=(171, 160),
            tilt_range_degrees=50.0,
            tilt_step_degrees=5.0,
        ),
        specimen=replace(
            case.simulation.specimen,
            particles=particles,
            tomogram_size_px=(171, 161, 60),
            thickness_angstrom=150.0,
        ),
        errors=replace(case.simulation.errors, max_displacement_px=5.4),
    )
    windows = replace(case.align.windows, box_px=32, range_px=6)
    return replace(case, simulation=simulation, align=replace(case.align, windows=windows))


def tiny_motion(cases: ModuleType) -> Any:
    """Strong images of particles that move independently of each other."""
    case = tiny(cases.static_case(0), particles=10)
    motion = {"velocity_scale": 0.25, "distance_scale": 30.0}
    return replace(
        case,
        simulation=replace(case.simulation, motion=PlantedMotion(**motion)),
        align=replace(case.align, motion=MotionSettings(**motion)),
    )


def test_the_static_study_covers_what_it_claims(accuracy: ModuleType) -> None:
    study = accuracy.STUDIES["static"]
    cases = [study.case(seed) for seed in range(study.seeds)]
    simulations = [case.simulation for case in cases]
    assert len(cases) >= 20 and len({s.seed for s in simulations}) == len(cases)
    particles = [s.specimen.particles for s in simulations]
    assert (min(particles), max(particles)) == (30, 100)
    tilts = [len(tilt_angles_degrees(s.acquisition)) for s in simulations]
    assert (min(tilts), max(tilts)) == (31, 61)
    assert {s.acquisition.hand for s in simulations} == {-1.0, 1.0}
    assert len({s.acquisition.dose_scheme for s in simulations}) == 3
    assert len({s.molecule.seed for s in simulations}) > 5
    sizes = np.array([(*s.acquisition.image_size_px, *s.specimen.tomogram_size_px) for s in simulations])
    odd = (sizes % 2).mean(axis=0)
    assert ((odd > 0.2) & (odd < 0.8)).all()
    axes = np.array([s.acquisition.tilt_axis_degrees for s in simulations])
    assert np.ptp(np.histogram(axes % 360, bins=6, range=(0, 360))[0]) <= 4
    snrs = [s.noise.pair_snr for s in simulations]
    assert (min(snrs), max(snrs)) == (5.0, 100.0)
    reach = [c.simulation.errors.max_displacement_px / c.align.windows.range_px for c in cases]
    assert max(reach) == pytest.approx(0.9) and np.mean(np.array(reach) > 0.89) > 0.6


def test_an_interrupted_study_goes_on_where_it_stopped(
    accuracy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def measure(seed: int) -> dict[str, Any]:
        measured.append(seed)
        if seed == 2 and measured.count(2) == 1:
            raise KeyboardInterrupt
        return {"seed": seed, "figure": seed / 7}

    study = accuracy.Study(case=lambda seed: seed, measure=measure, seeds=4)
    monkeypatch.setitem(accuracy.STUDIES, "static", study)
    with pytest.raises(KeyboardInterrupt):
        accuracy.run_study("static", tmp_path, range(4), lambda _: None)
    path = tmp_path / "static.jsonl"
    with path.open("a") as handle:
        handle.write('{"seed": 2, "fig')
    records = accuracy.run_study("static", tmp_path, range(4), lambda _: None)
    assert measured == [0, 1, 2, 2, 3]
    assert [records[s]["figure"] for s in range(4)] == [s / 7 for s in range(4)]
    assert [json.loads(line) for line in path.read_text().splitlines()] == list(records.values())


@pytest.mark.parametrize("seed", [0, 2])
def test_a_run_from_the_input_is_as_good_as_one_from_the_truth(
    accuracy: ModuleType, cases: ModuleType, tmp_path: Path, seed: int
) -> None:
    record = accuracy.measure_static(tiny(cases.static_case(seed)))
    assert record["input_angstrom"] > 5 * record["run_angstrom"]
    assert record["ratio"] == record["run_angstrom"] / record["truth_start_angstrom"]
    assert record["ratio"] < 1.1
    assert abs(record["log_likelihood_over_truth_start"]) < 0.5
    text = accuracy.markdown({"static": [record, {**record, "ratio": 1.3}]})
    assert "| 1 of 2 |" in text and "**1.300**" in text and f"{record['run_angstrom']:.3f}" in text


def test_the_net_rotation_study_covers_what_it_claims(accuracy: ModuleType) -> None:
    study = accuracy.STUDIES["net_rotation"]
    cases = [study.case(seed) for seed in range(study.seeds)]
    seen = {(c.simulation.specimen.particles, c.input_errors.name): 0 for c in cases}
    assert len(seen) == 45 and study.seeds == 8 * 45
    assert len({(c.simulation.seed, *key) for c in cases for key in [c.input_errors.name]}) == 8 * 5


@pytest.mark.parametrize(
    ("particles", "turned", "most"),
    [(1, False, 1.0), (2, False, 1.0), (3, False, 1.0), (9, False, 1.0), (24, False, 1.0), (24, True, 0.25)],
)
def test_views_turn_only_where_positions_tell_that_they_must(
    accuracy: ModuleType, net_rotation: ModuleType, particles: int, turned: bool, most: float
) -> None:
    case = net_rotation.net_rotation_case(9)  # the usual errors
    simulation = tiny(case, particles=particles).simulation
    errors = replace(case.input_errors, axis_degrees=-1.7 * turned, tilt_degrees=2.2 * turned)
    case = replace(
        case,
        simulation=replace(
            simulation, errors=replace(case.simulation.errors, position_px=0.7 if turned else 1.5)
        ),
        align=replace(case.align, windows=WindowSettings(box_px=32, range_px=12)),
        input_errors=errors,
    )
    record = accuracy.measure_net_rotation(case)
    assert record["input_net_degrees"] > (2.0 if turned else 0.02)
    assert record["run_net_degrees"] <= max(1.2 * most * record["input_net_degrees"], 0.05)
    assert record["run_angstrom"] < (0.3 if particles > 1 else 1.0) * record["input_angstrom"]
    assert "1 of 1 runs end within" in accuracy.markdown({"net_rotation": [record]})


def test_a_vector_stands_for_the_true_geometry(accuracy: ModuleType, cases: ModuleType) -> None:
    """A start at the truth begins with every pair exactly where it really is, motion and warp included."""
    case = tiny_motion(cases)
    case = replace(
        case,
        simulation=replace(
            case.simulation,
            warp=PlantedWarp(model="Fourier", amplitude_px=0.5),
            errors=replace(case.simulation.errors, max_displacement_px=7.0),
        ),
        align=replace(case.align, deformation=cases.DeformationSettings(model="Fourier")),
    )
    tomogram = accuracy.simulate(case)
    truth = tomogram.truth
    problem = accuracy.start_at_truth(tomogram, case.align).problem
    vector = accuracy.parameters_of(
        problem,
        tomogram,
        truth.projections_px,
        truth.positions_px,
        truth.trajectories_px,
        truth.deformation,
    )
    q = predicted_positions(problem, problem.layout.unpack(vector))
    np.testing.assert_allclose(q, np.swapaxes(truth.positions_2d_px, 0, 1), atol=1e-6)
    turn = truth.projections_px[:, :3, :3] @ np.swapaxes(tomogram.series.projections_px[:, :3, :3], 1, 2)
    np.testing.assert_allclose(problem.layout.unpack(vector).angles, rotation_vector(turn))


def test_motion_lowers_the_error_of_moving_particles(accuracy: ModuleType, cases: ModuleType) -> None:
    record = accuracy.measure_models(tiny_motion(cases))
    assert record["run_angstrom"] < 0.9 * record["without_motion_angstrom"]
    assert record["ratio"] < 1.1
    assert "1 of 1 seeds more accurate than without motion" in accuracy.markdown({"motion": [record]})


@pytest.mark.parametrize("own", [False, True], ids=["one warp", "one each"])
@pytest.mark.parametrize("model", ["linear", "spline", "Fourier"])
def test_the_planted_warp_is_found(accuracy: ModuleType, cases: ModuleType, model: str, own: bool) -> None:
    case = tiny(cases.static_case(0), particles=24)
    warp = PlantedWarp(model=model, grid=(2, 2), amplitude_px=1.5, per_frame=own)
    asked = cases.DeformationSettings(model=model, grid=(2, 2), per_frame=own)
    case = replace(
        case,
        simulation=replace(case.simulation, warp=warp),
        align=replace(case.align, deformation=asked),
    )
    record = accuracy.measure_models(case)
    assert record["run_angstrom"] < record["without_warp_angstrom"]
    assert record["ratio"] < 1.1


def test_references_of_another_intensity_give_the_same_trajectories(
    accuracy: ModuleType, cases: ModuleType
) -> None:
    case = tiny_motion(cases)
    record = accuracy.measure_scale(case)
    error = record["run_trajectory_angstrom"]
    assert record["weak_to_strong_angstrom"] < 0.02 * error
    for factor in (0.1, 10.0):
        changed = record[f"times_{factor:g}"]
        # The right references are left alone, the wrong ones scaled to fit: a little off for that reason.
        assert changed["trajectory_difference_angstrom"] < 0.25 * error
        assert changed["scale"] * factor == pytest.approx(record["scale"], rel=0.02)
    # Taken as they are, such references would have decided how far the particles may move.
    fixed = replace(case.align, fit=FitSettings(reference_scale=1.0))
    tomogram = accuracy.simulate(case)
    weak = replace(
        tomogram,
        references=replace(tomogram.references, half_maps=tomogram.references.half_maps * np.float32(0.1)),
    )
    apart = accuracy.align(weak, fixed).alignment.trajectories_px
    apart = apart - accuracy.align(tomogram, fixed).alignment.trajectories_px
    assert np.sqrt(np.mean(np.sum(apart**2, axis=-1))) * 3.0 > 0.5 * error


def test_the_dirt_study_has_each_kind_alone_and_a_mix_of_all(accuracy: ModuleType) -> None:
    dirt = importlib.import_module("accuracy_dirt")
    alone = [kind for name, kind in dirt.KINDS.items() if name not in ("mix", "clean")]
    usual = asdict(type(dirt.MIX)())
    for name, value in asdict(dirt.MIX).items():
        users = [kind for kind in alone if asdict(kind)[name] != usual[name]]
        assert value == usual[name] or (len(users) == 1 and asdict(users[0])[name] == value)
    study = accuracy.STUDIES["dirt"]
    cases = [study.case(seed) for seed in range(study.seeds)]
    assert {(c.kind, c.simulation.seed) for c in cases} == {
        (kind, 700 + i) for kind in dirt.KINDS for i in range(study.seeds // len(dirt.KINDS))
    }


def test_dirt_is_measured_with_and_without_it(accuracy: ModuleType) -> None:
    dirt = importlib.import_module("accuracy_dirt")
    case = dirt.dirt_case(2)
    simulation = replace(
        case.simulation,
        acquisition=replace(case.simulation.acquisition, image_size_px=(401, 380), tilt_step_degrees=8.0),
        specimen=replace(case.simulation.specimen, particles=20),
        dirt=replace(case.simulation.dirt, false_particles=0.3, blank_images=1),
    )
    case = replace(case, simulation=simulation)
    record = accuracy.measure_dirt(case)
    assert record["particles"] == 26 and record["removed"]
    assert record["without_good_angstrom"] < 0.3 * record["input_good_angstrom"]
    assert record["ratio"] == record["run_good_angstrom"] / record["without_good_angstrom"] > 0.9
    assert record["run_angstrom"] > record["run_good_angstrom"]  # the blank image cannot be aligned
    cut = dirt.without_bad(accuracy.simulate(case))
    assert len(cut.particles) == 20 and len(cut.series.left_out) == 1
    flags = asdict(dirt.FlagCounts(bad=6, bad_flagged=5, good=20, good_flagged=1))
    flags |= {"bin_counts": (4, *(0,) * 9), "bin_good": (1, *(0,) * 9)}
    text = accuracy.markdown({"dirt": [{**record, "particle_flags": flags}]})
    assert "5 of 6 (83.3 %) | 1 of 20 (5.0 %)" in text and "| 0.0 to 0.1 | 1 of 4 (25 %) | – |" in text


@pytest.mark.parametrize("premise", ["inverted", "mirrored", "identical half maps", "random positions"])
def test_wrong_premises_are_wrong(accuracy: ModuleType, premise: str) -> None:
    premises = importlib.import_module("accuracy_premises")
    case = premises.premise_case(list(premises.PREMISES).index(premise))
    simulation = replace(
        case.simulation,
        acquisition=replace(case.simulation.acquisition, image_size_px=(300, 280), tilt_step_degrees=20.0),
        specimen=replace(case.simulation.specimen, particles=12),
    )
    case = replace(case, simulation=simulation)
    right = accuracy.simulate(case)
    wrong = premises.PREMISES[premise](right, case)
    maps, changed = right.references.half_maps, wrong.references.half_maps
    if premise == "inverted":
        np.testing.assert_array_equal(changed, -maps)
    elif premise == "mirrored":
        np.testing.assert_array_equal(changed[:, 5, 7, 20], maps[:, 5, 7, -20])
    elif premise == "identical half maps":
        np.testing.assert_array_equal(changed[0], changed[1])
        record = accuracy.measure_premise(case)
        assert record["premise"] == premise and record["sentence"]
        text = accuracy.markdown({"premises": [record]})
        assert f"| {premise} | {int(record['helped'])} of 1 |" in text and record["sentence"] in text
    else:
        stated = wrong.truth.input_positions_px
        assert stated is not None
        assert np.linalg.norm(stated - right.truth.positions_px, axis=1).mean() > 20
