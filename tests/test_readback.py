"""The output of a run is read by the next run: trajectories, warps, and all that depends on them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

import tomopolish
from small_project import compute_windows, make_settings
from tomopolish.cli import run
from tomopolish.dataset.model import Alignment, Deformation, Particles, TiltSeries
from tomopolish.imaging.windows import window_samples
from tomopolish.models.deformation import deformation_from
from tomopolish.physics.geometry import project_trajectories
from tomopolish.settings.alignment import DeformationSettings, MotionSettings
from tomopolish.simulate.evaluate import evaluate_project
from tomopolish.simulate.parts import (
    AcquisitionSettings,
    CompanionSettings,
    MoleculeSettings,
    NoiseSettings,
    PlantedErrors,
    PlantedMotion,
    PlantedWarp,
    SimulationSettings,
    SpecimenSettings,
    write_project,
)
from tomopolish.solve import uncertainty
from tomopolish.solve.surface import evaluate_surface, smooth_surface

BOX, REACH, PIXEL = 32, 8, 3.0
MOLECULE = MoleculeSettings(box_px=BOX, blobs=60, blob_sigma_px=0.8)
SMALL = SimulationSettings(
    seed=5,
    molecule=MOLECULE,
    acquisition=AcquisitionSettings(image_size_px=(184, 176), tilt_step_degrees=8.0),
    specimen=SpecimenSettings(particles=16, thickness_angstrom=200.0),
    noise=NoiseSettings(pair_snr=80.0),
    errors=PlantedErrors(max_displacement_px=5.0),
)
MOTION = MotionSettings(velocity_scale=0.25, distance_scale=30.0)
FIT: Any = {"held_out_fraction": 0.0}
MOVING = ["--motion", "--s_vel", "0.25", "--s_div", "30"]
LIGHT = ["--no_report", "--hold_out", "0"]
SET = "optimisation_set.star"


@dataclass(frozen=True, eq=False)
class Workshop:
    """A simulated project, and runs in it."""

    folder: Path

    def align(self, out: str, *options: str, source: str = SET, status: int = 0) -> Path:
        box = () if "--b" in options else ("--b", str(BOX))
        words = ["--i", source, *box, "--r", str(REACH), *LIGHT, "--o", out, *options]
        assert run(["align", *words]) == status
        return self.folder / out

    def load(self, out: str = ".") -> tuple[TiltSeries, Particles]:
        return tomopolish.load(self.folder / out / SET).first.load("TS_01")

    def log_likelihood(self, out: str = ".", *, still: bool = False) -> float:
        """Of the geometry that a set holds, on the windows of the project's input."""
        dataset = tomopolish.load(self.folder / SET).first
        windows = compute_windows(*dataset.load("TS_01"), dataset.references(), make_settings(BOX, REACH))
        series, particles = self.load(out)
        if still:
            particles = replace(particles, trajectories_px=None)
        moved = where((series, particles)) - windows.anchors_px
        return float(evaluate_surface(smooth_surface(windows), moved).value.sum())


@pytest.fixture(scope="module", autouse=True)
def without_standard_errors() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncertainty, "PROBES", ((np.inf, 1),))
        yield


def workshop(folder: Path, settings: SimulationSettings) -> Iterator[Workshop]:
    write_project(folder, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Workshop(folder)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    planted = PlantedMotion(velocity_scale=0.25, distance_scale=30.0)
    yield from workshop(tmp_path_factory.mktemp("moving"), replace(SMALL, motion=planted))


@pytest.fixture(scope="module")
def warped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    planted = PlantedWarp(model="spline", amplitude_px=1.5)
    yield from workshop(tmp_path_factory.mktemp("warped"), replace(SMALL, warp=planted))


@pytest.fixture
def project(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """One of the above, as the working directory."""
    found: Workshop = request.getfixturevalue(request.param)
    monkeypatch.chdir(found.folder)
    return found


def positions_2d(
    projections_px: np.ndarray,
    positions_px: np.ndarray,
    trajectories_px: np.ndarray | None,
    deformation: Deformation | None,
    size_px: tuple[int, int],
) -> np.ndarray:
    points = np.broadcast_to(positions_px, (len(projections_px), *positions_px.shape))
    if trajectories_px is not None:
        points = points + np.moveaxis(trajectories_px, 1, 0)
    q = project_trajectories(projections_px, points)[..., :2]
    if deformation is None:
        return q
    model, coefficients = deformation_from(deformation, size_px)
    return q + model.displacement_px(q, coefficients)


def where(read: tuple[TiltSeries, Particles]) -> np.ndarray:
    series, particles = read
    return positions_2d(
        series.projections_px,
        particles.positions_px,
        particles.trajectories_px,
        series.deformation,
        series.image_size_px,
    )


def rms(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(np.square(vectors), axis=-1))))


class TestTrajectories:
    """`motion.star`, read by the next run (docs/dev/conventions.md, Objective)."""

    @pytest.fixture(autouse=True)
    def _runs(self, moving: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(moving.folder)
        self.project = moving
        if not (moving.folder / "one").exists():
            moving.align("one", *MOVING)

    def test_all_that_is_refined_is_read_back(self) -> None:
        """Exactly where every particle was seen, not only nearly."""
        aligned = tomopolish.align(tomopolish.load(SET), box_px=BOX, range_px=REACH, **FIT, motion=MOTION)
        aligned.write("api")
        a: Alignment = aligned.results["TS_01"].alignment
        read = self.project.load("api")
        refined = positions_2d(
            a.projections_px, a.positions_px, a.trajectories_px, a.deformation, read[0].image_size_px
        )
        assert np.abs(where(read) - refined).max() < 2e-5
        before = where(self.project.load())
        assert rms(refined - before) > 1

    def test_the_likelihood_is_that_of_the_run_that_wrote_them(self) -> None:
        aligned = tomopolish.align(tomopolish.load(SET), box_px=BOX, range_px=REACH, **FIT, motion=MOTION)
        gained = aligned.results["TS_01"].statistics.log_likelihood_gain
        before = self.project.log_likelihood()
        assert self.project.log_likelihood("one") - before == pytest.approx(gained, rel=1e-5)
        # what the particles' motion explains is lost where their trajectories are not read
        assert self.project.log_likelihood("one", still=True) - before < 0.95 * gained

    @pytest.mark.parametrize("files", ["set", "parts"])
    def test_what_is_kept_stays_at_the_optimum(self, files: str, capsys: pytest.CaptureFixture[str]) -> None:
        if files == "set":
            source, options = f"one/{SET}", []
        else:
            source = SET
            options = ["--p", "one/particles.star", "--t", "one/tomograms.star", "--mot", "one/motion.star"]
        capsys.readouterr()
        out = self.project.align(f"kept_{files}", *options, "--const_p", "--const_a", source=source)
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("TS_01  "))
        assert 0 <= float(row.split()[3]) < 10  # nats gained, of more than 3,000
        before, after = self.project.load("one"), self.project.load(out.name)
        np.testing.assert_allclose(after[1].positions_px, before[1].positions_px, atol=1e-5)
        np.testing.assert_allclose(after[1].trajectories_px, before[1].trajectories_px, atol=1e-5)
        assert rms(where(after) - where(before)) * PIXEL < 0.2

    def test_without_motion_they_are_kept_and_with_it_replaced(self) -> None:
        before = self.project.load("one")[1].trajectories_px
        assert before is not None
        self.project.align("static", source=f"one/{SET}")
        kept = self.project.load("static")[1].trajectories_px
        assert kept is not None
        # all positions may turn together, and trajectories turn along
        assert rms(kept - before) < 0.01 * rms(before)
        assert (self.project.folder / "static/Trajectories/TS_01_x8.ply").exists()
        self.project.align("again", *MOVING, source=f"one/{SET}")
        again = self.project.load("again")[1].trajectories_px
        assert again is not None
        assert 0.01 * rms(before) < rms(again - before) < 0.3 * rms(before)
        # a prior that allows nothing replaces them by nothing
        self.project.align("frozen", "--motion", "--s_vel", "1e-6", source=f"one/{SET}")
        frozen = self.project.load("frozen")[1].trajectories_px
        assert frozen is not None and rms(frozen) < 1e-3

    def test_a_rerun_without_motion_leaves_none_behind(self) -> None:
        folder = self.project.align("reused", *MOVING, "--diag")
        (folder / "Trajectories/notes.txt").write_text("mine")
        (folder / "mine.star").write_text("mine")
        gone = [
            "motion.star", "Trajectories/TS_01_x1.ply", "Trajectories/TS_01_x8.ply", "CCsum_TS_01.mrc",
            "diag_TS_01_frq_weight.mrc",
        ]  # fmt: skip
        assert all((folder / name).exists() for name in gone)
        self.project.align("reused")
        assert not any((folder / name).exists() for name in gone)
        assert {"mine.star", "particles.star", "uncertainty.star", "tomograms.star"} <= {
            path.name for path in folder.iterdir()
        }
        assert (folder / "Trajectories/notes.txt").read_text() == "mine"
        assert "Trajectories" not in (folder / SET).read_text()
        assert self.project.load("reused")[1].trajectories_px is None


class TestWarps:
    """Deformations of the tomogram set, kept, refined on, or refitted as another model."""

    @pytest.fixture(autouse=True)
    def _runs(self, warped: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(warped.folder)
        self.project = warped
        if not (warped.folder / "one").exists():
            warped.align("one", "--deformation")

    def deformation(self, out: str) -> Deformation:
        found = self.project.load(out)[0].deformation
        assert found is not None
        return found

    def test_without_the_option_an_input_warp_is_kept(self) -> None:
        self.project.align("kept", source=f"one/{SET}")
        kept, before = self.deformation("kept"), self.deformation("one")
        assert (kept.model, kept.grid) == (before.model, before.grid)
        np.testing.assert_array_equal(kept.coefficients, before.coefficients)
        assert rms(where(self.project.load("kept")) - where(self.project.load("one"))) * PIXEL < 0.5

    def test_the_same_model_starts_at_its_optimum(self) -> None:
        project = tomopolish.load(f"one/{SET}")
        found = tomopolish.align(
            project, box_px=BOX, range_px=REACH, **FIT, deformation=DeformationSettings()
        )
        statistics = found.results["TS_01"].statistics
        gain = self.project.log_likelihood("one") - self.project.log_likelihood()
        assert 0 <= statistics.log_likelihood_gain < 0.01 * gain
        assert statistics.evaluations <= 100 and not statistics.warnings
        found.write("again")
        assert rms(where(self.project.load("again")) - where(self.project.load("one"))) * PIXEL < 0.5

    @pytest.mark.parametrize("options", ["--def_w 5 --def_h 4", "--def_model Fourier --def_w 4 --def_h 4"])
    def test_another_grid_or_model_begins_with_the_closest_warp(
        self, options: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        out = self.project.align("other", "--deformation", *options.split(), source=f"one/{SET}")
        warned = capsys.readouterr().err
        if "Fourier" in options:
            sentence = r"warning: the input deformation of TS_01 \(spline\) is refitted as Fourier"
            assert re.match(sentence, warned) and warned.count("\n") == 1
        else:
            assert warned == ""  # the grid is not a finer one, but close enough
        asked = options.split()
        assert self.deformation(out.name).grid == (int(asked[asked.index("--def_w") + 1]), 4)
        moved = where(self.project.load(out.name)) - where(self.project.load("one"))
        planted = where(self.project.load("one")) - where(self.project.load())
        assert rms(moved) < 0.1 * rms(planted)


@pytest.fixture(scope="module")
def resting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Neither motion nor warp, and displacements that need nearly the whole range."""
    errors = PlantedErrors(max_displacement_px=0.95 * REACH)
    settings = replace(SMALL, errors=errors, molecule=MoleculeSettings(box_px=48))
    yield from workshop(tmp_path_factory.mktemp("resting"), settings)


@pytest.mark.parametrize("padding", ["2", "1.5", "1.3"])
@pytest.mark.parametrize("project", ["resting"], indirect=True)
def test_oversampled_windows_give_the_same_result(project: Workshop, padding: str) -> None:
    if not (project.folder / "unpadded").exists():
        project.align("unpadded", "--b", "48")
    project.align("padded", "--b", "48", "--pad", padding)
    apart = where(project.load("padded")) - where(project.load("unpadded"))
    assert rms(apart) < 0.02
    assert rms(where(project.load("unpadded")) - where(project.load())) > 1


@pytest.mark.parametrize("padding", [1.0, 1.3, 2.0, 4.0])
def test_oversampling_does_not_change_how_far_is_searched(padding: float) -> None:
    samples = window_samples(REACH, padding)
    assert np.diff(samples) == pytest.approx(1 / padding)
    held = samples[4:-4]  # the rest is margin for the interpolation
    assert held[0] == pytest.approx(-REACH, abs=0.5 / padding)
    assert held[-1] + 1 / padding == pytest.approx(REACH, abs=0.5 / padding)


@pytest.mark.parametrize("project", ["moving"], indirect=True)
def test_padding_that_crops_is_refused(project: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    project.align("none", "--pad", "0.5", status=2)
    assert capsys.readouterr().err == "tomopolish: --pad 0.5 would crop the windows: give 1 or more\n"


@pytest.fixture(scope="module")
def references(moving: Workshop) -> Workshop:
    """The project's references, weaker and stronger than the images are."""
    for factor in (0.1, 10):
        for half in (1, 2):
            with mrcfile.open(moving.folder / f"ref_half{half}.mrc") as file:
                values, size = file.data * np.float32(factor), file.voxel_size
            with mrcfile.new(moving.folder / f"times_{factor}_{half}.mrc", data=values) as file:
                file.voxel_size = size
    return moving


@pytest.mark.parametrize("project", ["references"], indirect=True)
def test_the_intensity_of_the_references_does_not_decide_how_far_particles_move(
    project: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    found: dict[tuple[str, str], np.ndarray] = {}
    for factor in ("0.1", "10"):
        maps = ["--ref1", f"times_{factor}_1.mrc", "--ref2", f"times_{factor}_2.mrc"]
        for scale in ("auto", str(1 / float(factor)), *(["1"] if factor == "0.1" else [])):
            out = f"times_{factor}_by_{scale}"
            project.align(out, *MOVING, *maps, "--ref_scale", scale)
            trajectories = project.load(out)[1].trajectories_px
            assert trajectories is not None
            found[factor, scale] = trajectories
            warned = capsys.readouterr().err
            if scale == "auto":
                pattern = (
                    r"the references were multiplied by (\S+) to fit the images of TS_01; give --ref_scale 1"
                )
                match = re.search(pattern, warned)
                assert match and float(match[1]) * float(factor) == pytest.approx(1, abs=0.5)
            else:
                assert warned == ""
    size = rms(found["0.1", "10.0"])
    for one, other, share in (
        (("0.1", "10.0"), ("10", "0.1"), 1e-3),
        (("0.1", "auto"), ("10", "auto"), 0.02),
        (("0.1", "auto"), ("0.1", "10.0"), 0.3),
    ):
        assert rms(found[one] - found[other]) < share * size
    # taken as they are, weak ones hold all particles back
    assert rms(found["0.1", "1"]) < 0.7 * size


def test_motion_of_several_species(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All move by the same motion model; each gets its own set with its own trajectories."""
    companion = CompanionSettings(name="fas", molecule=replace(MOLECULE, seed=1), particles=9, pair_snr=80.0)
    planted = PlantedMotion(velocity_scale=0.25, distance_scale=200.0)
    write_project(tmp_path, replace(SMALL, motion=planted, companions=(companion,)))
    (tmp_path / "ribosome").mkdir()
    (tmp_path / SET).rename(tmp_path / "ribosome" / SET)
    monkeypatch.chdir(tmp_path)
    inputs = {"ribosome": f"ribosome/{SET}", "fas": f"fas_{SET}"}
    words = ["--i", inputs["ribosome"], "--i", inputs["fas"], "--b", str(BOX), "--r", str(REACH)]
    words += ["--motion", "--s_vel", "0.25", "--s_div", "200", *LIGHT, "--o", "out"]
    assert run(["align", *words]) == 0
    for name, count in (("ribosome", 16), ("fas", 9)):
        before = tomopolish.load(inputs[name]).first.load("TS_01")
        after = tomopolish.load(f"out/{name}/{SET}").first.load("TS_01")
        trajectories = after[1].trajectories_px
        assert trajectories is not None and trajectories.shape[0] == len(after[1]) == count
        assert rms(trajectories) * PIXEL > 1
        assert f"rlnParticleNumber {count}" in re.sub(r" +", " ", Path(f"out/{name}/motion.star").read_text())
        assert set(after[1].names) == set(before[1].names)
        for magnification in (1, 8):
            assert Path(f"out/{name}/Trajectories/TS_01_x{magnification}.ply").stat().st_size > 1000
        assert f"out/{name}/motion.star" in Path(f"out/{name}/{SET}").read_text()
    assert not Path("out/motion.star").exists() and not Path("out/Trajectories").exists()
    for name, truth in (("ribosome", "truth.json"), ("fas", "fas_truth.json")):
        found = evaluate_project(Path(f"out/{name}/{SET}"), Path(truth), before=Path(inputs[name]))
        assert found.rms_2d_before_angstrom is not None
        assert found.rms_2d_after_angstrom < 0.3 * found.rms_2d_before_angstrom
