"""An image that turns out to be unusable while it is read is as good as one that was left out before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from small_project import make_particles, make_references, make_series, make_settings
from tomopolish import pipeline
from tomopolish.dataset.model import LeftOutTilt, TiltSeries, Tomogram
from tomopolish.progress import SilentProgress
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import (
    AlignSettings,
    DeformationSettings,
    FitSettings,
    MotionSettings,
    WeightSettings,
)

BOXES = (32, 40)
LOST = 2
KINDS = {
    "static": {},
    "motion": {"motion": MotionSettings(velocity_scale=1.0, distance_scale=50.0)},
    "warp": {"deformation": DeformationSettings(model="linear", per_frame=True)},
    "noise per image": {"weights": WeightSettings(per_frame_noise=True)},
    "no noise": {"weights": WeightSettings(whiten=False)},
    "shifts of micrographs": {"fit": FitSettings(shift_only=True)},
}


def align(series: TiltSeries, settings: AlignSettings) -> TomogramResult:
    """Refine particles of two structures, in boxes of two sizes."""
    rng = np.random.default_rng(4)
    centre = np.array(series.tomogram_size_px) / 2
    species = tuple(
        make_particles(rng, centre + rng.uniform(-0.5, 0.5, (6, 3)) * [60, 60, 20]) for _ in BOXES
    )
    prepared = []
    for box in BOXES:
        windows = replace(settings.windows, box_px=box)
        prepared.append(pipeline.prepare(make_references(rng, 32), replace(settings, windows=windows)))
    return pipeline.align_tomogram(
        Tomogram(series=series, species=species), prepared, settings, SilentProgress()
    )


@pytest.mark.parametrize("kind", ["static", "shifts of micrographs"])
def test_weights_beyond_single_precision_cost_the_image(kind: str) -> None:
    rng = np.random.default_rng(5)
    images = rng.normal(size=(6, 150, 170)).astype(np.float32)
    series = make_series(rng, images)
    bfactor = series.ctf.bfactor_angstrom2.copy()
    bfactor[LOST] = -9500.0
    series = replace(series, ctf=replace(series.ctf, bfactor_angstrom2=bfactor))
    result = align(series, make_settings(BOXES[0], 6, **KINDS[kind]))
    assert [one.tilt for one in result.left_out] == [LOST]
    assert "B factor" in result.left_out[0].reason
    assert np.isfinite(result.alignment.projections_px).all()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_late_counts_as_what_was_known_before(kind: str) -> None:
    rng = np.random.default_rng(3)
    images = rng.normal(size=(6, 150, 170)).astype(np.float32)
    settings = make_settings(BOXES[0], 6, **KINDS[kind])
    broken = images.copy()
    broken[LOST, 20:60] = np.nan
    found_late = align(make_series(rng, broken), settings)
    known = LeftOutTilt(tilt=LOST, reason="it is known")
    rng = np.random.default_rng(3)
    rng.normal(size=images.shape)
    series = make_series(rng, images, left_out=(known,))
    known_before = align(series, settings)
    for one, other in zip(found_late.alignments, known_before.alignments, strict=True):
        np.testing.assert_allclose(one.projections_px, other.projections_px, atol=2e-4)
        np.testing.assert_allclose(one.positions_px, other.positions_px, atol=2e-4)
        assert one.errors is not None and one.errors.visible_particles[LOST] == 0
        assert (one.trajectories_px is None) == (kind != "motion")
    assert [one.tilt for one in found_late.left_out] == [LOST]
    np.testing.assert_array_equal(found_late.alignment.projections_px[LOST], series.projections_px[LOST])
    assert "finite" in found_late.left_out[0].reason
    assert sum("left out" in sentence for sentence in found_late.statistics.warnings) == 1
    moved = np.abs(found_late.alignment.projections_px - series.projections_px).max(axis=(1, 2))
    assert (np.delete(moved, LOST) > 0).all()
