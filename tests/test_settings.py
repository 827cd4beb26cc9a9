"""Options: RELION's defaults, and a sentence for everything that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from tomopolish.errors import InputError
from tomopolish.settings.alignment import (
    AlignSettings,
    DeformationSettings,
    FitSettings,
    InputPaths,
    MotionSettings,
    RunSettings,
    WeightSettings,
    WindowSettings,
)
from tomopolish.settings.cluster import ClusterSettings
from tomopolish.settings.joint import JointSettings
from tomopolish.settings.wording import in_python, naming_options

SETTINGS = AlignSettings(
    inputs=InputPaths(optimisation_set=Path("optimisation_set.star")),
    windows=WindowSettings(box_px=96),
    run=RunSettings(output_folder=Path("out")),
)
STAR = Path("some.star")


def test_defaults_are_relions() -> None:
    assert (SETTINGS.windows.range_px, SETTINGS.windows.padding, SETTINGS.windows.range_penalty) == (20, 1, 0)
    assert (SETTINGS.windows.min_frame, SETTINGS.windows.max_frame) == (0, None)
    assert SETTINGS.weights == WeightSettings(
        freq_cutoff_angstrom=None, fsc_thresh_width=5, hp_sigma=None, srp=0, cutoff_fraction=0.02
    )
    assert SETTINGS.weights.whiten and not SETTINGS.weights.whiten_abs
    assert (MotionSettings().velocity_scale, MotionSettings().distance_scale) == (0.5, 5000)
    assert (DeformationSettings().model, DeformationSettings().grid) == ("spline", (3, 3))
    assert SETTINGS.run.threads == 1


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        SETTINGS.run = RunSettings(output_folder=Path("elsewhere"))  # type: ignore[misc]


REFUSED = {
    "views without noise weights": (
        lambda: replace(
            SETTINGS, joint=JointSettings(orientations=True), weights=WeightSettings(whiten=False)
        ),
        "--no_whiten and --whiten_abs exclude a joint refinement (orientations)",
    ),
    "optics by shifts alone": (
        lambda: replace(SETTINGS, joint=JointSettings(defocus=True), fit=FitSettings(shift_only=True)),
        "--shift_only excludes a joint refinement (defocus)",
    ),
    "no input": (InputPaths, "--i"),
    "parts without references": (lambda: InputPaths(particles=STAR, tomograms=STAR), "--ref1 and --ref2"),
    "only half a reference": (
        lambda: InputPaths(particles=STAR, tomograms=STAR, half_map1=STAR),
        "--ref2 must be given",
    ),
    "odd box": (lambda: WindowSettings(box_px=97), "--b 97"),
    "tiny box": (lambda: WindowSettings(box_px=8), "--b 8"),
    "negative box": (lambda: WindowSettings(box_px=-96), "--b -96"),
    "a box larger than any image": (lambda: WindowSettings(box_px=5000), "--b 5000 is above 4096"),
    "days of oversampling": (lambda: WindowSettings(box_px=96, padding=64), "--pad 64 is above 8"),
    "endless penalty": (lambda: WindowSettings(box_px=96, range_penalty=1e200), "--range_reg 1e+200"),
    "no range": (lambda: WindowSettings(box_px=96, range_px=0), "--r 0"),
    "range beyond the box": (lambda: WindowSettings(box_px=32), "--r 20 does not fit into --b 32"),
    "negative penalty": (lambda: WindowSettings(box_px=96, range_penalty=-1), "--range_reg"),
    "NaN penalty": (lambda: WindowSettings(box_px=96, range_penalty=float("nan")), "--range_reg"),
    "undersampling": (lambda: WindowSettings(box_px=96, padding=0.5), "--pad 0.5"),
    "negative frame": (lambda: WindowSettings(box_px=96, min_frame=-1), "--min_frame -1"),
    "no frame left": (lambda: WindowSettings(box_px=96, min_frame=5, max_frame=5), "--max_frame 5"),
    "zero resolution": (lambda: WeightSettings(freq_cutoff_angstrom=0), "--freq_cutoff"),
    "negative flank": (lambda: WeightSettings(fsc_thresh_width=-1), "--fsc_thresh_width"),
    "endless flank": (lambda: WeightSettings(fsc_thresh_width=1e9), "--fsc_thresh_width 1e+09"),
    "high-pass beyond any box": (lambda: WeightSettings(hp_sigma=1e5), "--hp 100000"),
    "a single frequency": (lambda: WeightSettings(srp=-400), "--srp -400"),
    "zero high-pass": (lambda: WeightSettings(hp_sigma=0), "--hp"),
    "no frequency left": (lambda: WeightSettings(cutoff_fraction=1), "--cutoff_fract"),
    "whitening and not": (lambda: WeightSettings(whiten=False, whiten_abs=True), "--no_whiten"),
    "negative iterations": (lambda: FitSettings(max_iterations=-3), "--it -3"),
    "days of iterations": (lambda: FitSettings(max_iterations=2_000_000), "--it 2e+06 is above 100000"),
    "absurd scale": (lambda: FitSettings(reference_scale=1e30), "--ref_scale 1e+30"),
    "absurd velocity": (lambda: MotionSettings(velocity_scale=1e40), "--s_vel 1e+40"),
    "absurd distance": (lambda: MotionSettings(distance_scale=1e40), "--s_div 1e+40"),
    "days of warping": (lambda: DeformationSettings(grid=(3, 900)), "--def_h 900 is above 20"),
    "absurd regulariser": (lambda: DeformationSettings(regulariser=1e60), "--def_reg 1e+60"),
    "absurd threads": (lambda: RunSettings(output_folder=Path("out"), threads=10**6), "--j 1e+06"),
    "absurd workers": (lambda: ClusterSettings(workers=10**7), "--workers 1e+07"),
    "by particles alone": (lambda: FitSettings(shift_only_by_particles=True), "--shift_only"),
    "only the fixed": (lambda: FitSettings(shift_only=True, const_shifts=True), "--const_s"),
    "no motion": (lambda: MotionSettings(velocity_scale=0), "--s_vel"),
    "no distance": (lambda: MotionSettings(distance_scale=-5), "--s_div"),
    "no eigen-deformation": (lambda: MotionSettings(max_deformations=0), "--max_ed 0"),
    "unknown warp": (lambda: DeformationSettings(model="cubic"), "linear, spline or Fourier"),
    "no grid": (lambda: DeformationSettings(grid=(1, 3)), "--def_w 1"),
    "no grid at all": (lambda: DeformationSettings(model="linear", grid=(0, 3)), "--def_w 0"),
    "negative regulariser": (lambda: DeformationSettings(regulariser=-1), "--def_reg"),
    "no thread": (lambda: RunSettings(output_folder=Path("out"), threads=0), "--j 0"),
    "output is a file": (lambda: RunSettings(output_folder=Path(__file__)), "is a file"),
    "shifts and motion": (
        lambda: replace(SETTINGS, fit=FitSettings(shift_only=True), motion=MotionSettings()),
        "--shift_only and --motion",
    ),
    "shifts and warps": (
        lambda: replace(SETTINGS, fit=FitSettings(shift_only=True), deformation=DeformationSettings()),
        "--shift_only and --deformation",
    ),
    "motion of fixed particles": (
        lambda: replace(SETTINGS, fit=FitSettings(const_positions=True), motion=MotionSettings()),
        "--motion and --const_p",
    ),
    "all fixed": (
        lambda: replace(
            SETTINGS, fit=FitSettings(const_positions=True, const_angles=True, const_shifts=True)
        ),
        "nothing to refine",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_by_name(case: str) -> None:
    construct, text = REFUSED[case]
    with naming_options(), pytest.raises(InputError) as caught:
        construct()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", REFUSED)
def test_python_hears_of_arguments(case: str) -> None:
    with pytest.raises(InputError) as caught:
        REFUSED[case][0]()
    assert "--" not in str(caught.value) and "-1 for" not in str(caught.value)


@pytest.mark.parametrize(
    ("construct", "sentence"),
    [
        (
            lambda: WindowSettings(box_px=30, range_px=18),
            "range_px=18 does not fit into box_px=30: the range can be at most half of the box, 15",
        ),
        (
            lambda: WeightSettings(whiten=False, whiten_abs=True),
            "whiten=False and whiten_abs=True contradict each other: give one of them",
        ),
        (
            lambda: MotionSettings(max_deformations=0),
            "max_deformations=0 keeps no deformation: give 1 or more, or None for all",
        ),
        (
            lambda: FitSettings(reference_scale=-2.0),
            "reference_scale=-2.0 is not a valid factor: give None, or a number above 0",
        ),
        (
            lambda: FitSettings(max_iterations=-7),
            "max_iterations=-7 allows no iteration: give 1 or more, or None for as many as are needed",
        ),
        (
            lambda: DeformationSettings(grid=(4, 70)),
            "grid[1]=70 is above 20, the largest value allowed: no tilt image can determine such a fine "
            "warp; 2 to 6 are usual",
        ),
    ],
)
def test_sentences_in_python_read_as_such(construct: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        construct()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("option", "argument"),
    [
        ("give --device cpu, or auto", "give device cpu, or auto"),
        ("--o out would replace a.star: give --overwrite", "output_folder out would replace a.star: give "
         "overwrite=True"),
        ("'squeue --me' shows them", "'squeue --me' shows them"),
        ("file-name--b 3", "file-name--b 3"),
        ("box_px=3, or None for all", "box_px=3, or None for all"),
    ],
)  # fmt: skip
def test_only_options_are_reworded(option: str, argument: str) -> None:
    assert in_python(option) == argument == in_python(argument)


def test_fixed_parameters_may_leave_a_warp_to_refine() -> None:
    everything = FitSettings(const_positions=True, const_angles=True, const_shifts=True)
    assert replace(SETTINGS, fit=everything, deformation=DeformationSettings()).deformation is not None


@pytest.mark.parametrize("name", ["a\nb", "a\r", "q' x\" y", "\ud800"])
def test_paths_that_no_set_can_name_are_refused_before_the_run(name: str) -> None:
    path = Path(f"folder {name}")
    with pytest.raises(InputError, match=r"output_folder .*no STAR file can hold"):
        RunSettings(output_folder=path)
    with pytest.raises(InputError, match=r"optimisation_set .*no STAR file can hold"):
        InputPaths(optimisation_set=path)
    with pytest.raises(InputError, match=r"half_map1 .*no STAR file can hold"):
        InputPaths(optimisation_set=STAR, half_map1=path)


@pytest.mark.parametrize("name", ["a b", "it's", 'a" b', "e\x1b[31m", "é\udcff", "日本"])
def test_other_odd_paths_are_accepted(name: str) -> None:
    RunSettings(output_folder=Path(name))
    InputPaths(optimisation_set=Path(name))


def test_a_linear_warp_needs_no_grid() -> None:
    assert DeformationSettings(model="linear", grid=(1, 1)).grid == (1, 1)
