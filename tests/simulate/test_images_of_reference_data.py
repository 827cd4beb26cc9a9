"""The simulator's image formation against images that another program simulated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomopolish.dataset.project import open_dataset
from tomopolish.simulate.acquisition import inelastic_amplitude
from tomopolish.simulate.painter import TiltPainter
from tomopolish.simulate.parts import AcquisitionSettings, read_truth
from tomopolish.simulate.slices import slice_volume


@pytest.mark.parametrize("optimisation_set", ["optimisation_set.star", "optimisation_set_r4.star"])
def test_predictions_at_the_truth_match_the_reference_images(mini: Path, optimisation_set: str) -> None:
    dataset = open_dataset(mini / optimisation_set, working_directory=mini)
    series, particles = dataset.load("TS_01")
    truth, references = read_truth(mini / "truth.json")["TS_01"], dataset.references()
    density = (references.half_maps.mean(axis=0) * references.mask).astype(np.float32)
    true_series = replace(series, projections_px=truth.projections_px)
    painter = TiltPainter(
        volume=slice_volume(density, references.size_px**-0.5),
        series=true_series,
        particles=replace(particles, positions_px=truth.positions_px, rotations=truth.rotations),
        positions_2d_px=np.swapaxes(truth.positions_2d_px, 0, 1),
    )
    correlation, slopes = 0.0, []
    for tilt in range(len(series)):
        image, painted = (a.astype(np.float64) for a in (series.images.read(tilt), painter.paint(tilt)))
        slopes.append(np.sum(image * painted) / np.sum(painted**2))
        assert np.corrcoef(image.ravel(), painted.ravel())[0, 1] > 0.15
        correlation = correlation + np.fft.irfft2(
            np.fft.rfft2(image) * np.conj(np.fft.rfft2(painted)), s=image.shape
        )
    # The peak is at zero displacement, and stands out.
    assert np.unravel_index(np.argmax(correlation), image.shape) == (0, 0)
    assert correlation[0, 0] > 20 * np.std(correlation[20:-20, 20:-20])
    # Signs and intensities agree. The reference's high tilts are weaker, which its files do not tell;
    # half maps with noise predict a little too much.
    nominal = np.rad2deg(np.arcsin(-series.projections_px[:, 2, 0]))
    left = inelastic_amplitude(AcquisitionSettings(inelastic_loss=0.5), nominal)
    assert np.all((slopes / left > 0.83) & (slopes / left < 1.03))
