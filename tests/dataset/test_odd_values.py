"""Values that can be computed with and look wrong: a warning says what they are, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_project import make_series
from star_edits import constant_stack, drop_column, edit, noise_map, set_cell, set_column
from tomopolish.dataset.check import check_project
from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.series_checks import defocus_warnings
from tomopolish.dataset.species import Project
from tomopolish.errors import InputError

PARTICLES, TOMOGRAMS, SERIES = "particles.star", "tomograms.star", "tilt_series/TS_01.star"
Change = Callable[[np.ndarray, np.ndarray], None]


def warnings() -> list[str]:
    found = check_project(Project.of(open_dataset(Path("optimisation_set.star")), 48))
    assert all("\n" not in sentence for sentence in found)
    return found


def refusal() -> str:
    with pytest.raises(InputError) as caught:
        warnings()
    return str(caught.value)


def series_with(change: Change) -> TiltSeries:
    """A tilt series of nine images, 3 µm under focus, after `change` of U and V."""
    rng = np.random.default_rng(4)
    series = make_series(rng, np.zeros((9, 8, 8)), name="L7")
    u, v = (30000 + 500 * rng.normal(size=9) for _ in range(2))
    change(u, v)
    return replace(series, ctf=replace(series.ctf, defocus_u_angstrom=u, defocus_v_angstrom=v))


def setting(value: float, *tilts: int, of: str = "uv") -> Change:
    def change(u: np.ndarray, v: np.ndarray) -> None:
        for values in [array for letter, array in (("u", u), ("v", v)) if letter in of]:
            values[list(tilts) or slice(None)] = value

    return change


DEFOCI: dict[str, tuple[Change, str, str]] = {
    "one at zero": (setting(0, 6), "defocus of tilt image 7 of L7 is 0", "--exclude_tilts L7:7"),
    "some at zero": (setting(0, 0, 1, 2, 8), "tilt images 1–3, 9 of L7 is 0", "--exclude_tilts L7:1,2,3,9"),
    "many at zero": (setting(0, 0, 1, 2, 3, 4, 5), "tilt images 1–6 of L7", "CTF estimation failed"),
    "one axis at zero": (setting(0, 3, of="v"), "tilt image 4 of L7 is 0", "--exclude_tilts L7:4"),
    "all at zero": (setting(0), "defocus of all tilt images of L7 is 0", "run CTF estimation"),
    "micrometres": (setting(2.8), "up to 2.8 Å", "µm"),
    "overfocus": (setting(-25000), "negative", "underfocus as positive"),
    "far too high": (setting(99000, 2), "tilt image 3 of L7", "check the CTF estimation"),
    "far too low": (setting(4000, 5), "tilt image 6 of L7", "--exclude_tilts L7:6"),
}


@pytest.mark.parametrize("case", DEFOCI)
def test_odd_defoci_are_named(case: str) -> None:
    change, *expected = DEFOCI[case]
    (sentence,) = defocus_warnings(series_with(change))
    assert all(words in sentence for words in expected), sentence


@pytest.mark.parametrize("change", [setting(45000, 3), setting(15000, 3), setting(30000)])
def test_usual_defoci_are_not(change: Change) -> None:
    assert defocus_warnings(series_with(change)) == []


def test_a_defocus_of_zero_is_warned_of(project: Path) -> None:
    for label in ("rlnDefocusU", "rlnDefocusV"):
        set_cell(SERIES, "TS_01", label, 7, "0.000000")
    (sentence,) = [sentence for sentence in warnings() if "defocus" in sentence]
    assert "tilt image 8 of TS_01 is 0" in sentence


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"rlnTomoSubtomogramBinning": "4"}, "binned 4 times"),
        ({"rlnImagePixelSize": "8"}, "binned 2 times"),
        ({"rlnImagePixelSize": "10", "rlnTomoSubtomogramBinning": "2.5"}, "refined to 20 Å at best"),
    ],
)
def test_binned_particle_images_limit_orientations(cells: dict[str, str], words: str, project: Path) -> None:
    for label, value in cells.items():
        set_column(PARTICLES, "optics", label, value)
    (sentence,) = [sentence for sentence in warnings() if "binned" in sentence]
    assert words in sentence and "rlnTomoSubtomogramBinning" in sentence


@pytest.mark.parametrize("cells", [{"rlnTomoSubtomogramBinning": "1"}, {"rlnImagePixelSize": "<NA>"}, {}])
def test_unbinned_particle_images_are_nothing_to_speak_of(cells: dict[str, str], project: Path) -> None:
    for label, value in cells.items():
        set_column(PARTICLES, "optics", label, value)
    assert not [sentence for sentence in warnings() if "binned" in sentence]


def test_binned_maps_are_named_with_the_job_that_makes_others(project: Path) -> None:
    for half in (1, 2):
        noise_map(f"ref_half{half}.mrc", (48, 48, 48), pixel_size=12.0)
    said = refusal()
    assert "12.0000 Å/px (binned 3 times), but the tilt series 4.0000" in said
    assert "Reconstruct particle at binning 1" in said


def test_binned_tilt_images_are_named(project: Path) -> None:
    set_column(TOMOGRAMS, "global", "rlnTomoTiltSeriesPixelSize", "2")
    for half in (1, 2):
        noise_map(f"ref_half{half}.mrc", (48, 48, 48), pixel_size=2.0)
    drop_column("optimisation_set.star", "", "rlnTomoReferenceMaskFile", "rlnTomoReferenceFscFile")
    assert "4.0000 Å/px (binned 2 times), but the set says 2.0000" in refusal()


def test_tomograms_of_both_sides_are_listed_where_none_match(project: Path) -> None:
    edit(
        PARTICLES,
        "particles",
        lambda table: table.with_columns({"rlnTomoName": [f"L{row % 5}_Vol" for row in range(len(table))]}),
    )
    said = refusal()
    assert "('L0_Vol', 'L1_Vol', 'L2_Vol', …)" in said and "('TS_01')" in said
    assert "tomograms.star" in said and "make rlnTomoName the same in both sets" in said


def test_particles_that_were_never_refined_are_named(project: Path) -> None:
    for label in ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"):
        set_column(PARTICLES, "particles", label, "0.0")
    assert [sentence for sentence in warnings() if "all orientations are 0" in sentence]


@pytest.mark.parametrize("shape", [(1, 1, 1), (11, 4, 4), (11, 192, 192)])
def test_placeholders_say_what_works(shape: tuple[int, int, int], project: Path) -> None:
    constant_stack("dummy_tiltseries.mrc", shape)
    set_column(TOMOGRAMS, "global", "rlnTomoTiltSeriesName", "dummy_tiltseries.mrc")
    said = refusal()
    assert "placeholder" in said and "warptomo2relion" in said and "WarpTools" in said


def test_a_pixel_size_too_small_to_divide_by_is_refused(project: Path) -> None:
    set_column(TOMOGRAMS, "global", "rlnTomoTiltSeriesPixelSize", "1e-308")
    assert "rlnTomoTiltSeriesPixelSize is 1e-308, but must be at least 1e-06" in refusal()
