"""Predicted micrographs, and their correlation with a tilt image at every small shift (`--shift_only`).

The predicted boxes of all particles of a tilt image are summed in one image, which is then correlated with
the tilt image. Neighbouring particles are thus compared as their sum; in windows of single particles the
neighbours are noise.
"""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial

import numpy as np
import scipy.fft

from tomopolish.imaging.kernels import micrograph as micrograph_kernels
from tomopolish.imaging.weights import ReferenceWeight, shared_filters, whitening
from tomopolish.imaging.windows import PairBatch, TiltTask, chunks, pair_batch
from tomopolish.physics.fourier import column_multiplicity
from tomopolish.settings.alignment import WeightSettings
from tomopolish.shapes import Array, Float, Float32, Int

FLOOR_OF_WHITENING = 3.0
"""Multiple of the image's variance that is added to the noise power before whitening."""


def micrograph_weight(
    noise_power: Float[Array, "shells"],
    image_variance: float,
    reference: ReferenceWeight,
    box_px: int,
    settings: WeightSettings,
) -> Float[Array, "box columns"]:
    """Return the weight of every frequency of a predicted box, in one tilt image.

    The weight is 1/√(P + 3σ²) with the image's mean periodogram P and its variance σ², between no whitening
    and whitening by the noise's amplitude, since the image's power at low frequencies is mostly that of the
    particles. Form and constant were chosen for agreement with RELION's shifts on the reference data: within
    0.021 px, where 1/P differs by up to 0.4 px (docs/dev/conventions.md). All frequencies up to the end of
    the FSC's flank have equal weight, unless weighting by the reference's signal-to-noise ratio is requested.

    Parameters
    ----------
    noise_power
        Mean periodogram by shell (`noise.noise_power`).
    image_variance
        σ², in the image's units squared.
    reference
        Weight by the references' resolution.
    """
    allowed = reference.half_plane if settings.use_snr_weight else reference.half_plane > 0
    weight = allowed * shared_filters(box_px, settings)
    if not settings.whiten:
        return weight
    power = np.where(noise_power > 0, noise_power + FLOOR_OF_WHITENING * image_variance, 0.0)
    amplitude = np.sqrt(whitening(power, box_px))
    return weight * (np.sqrt(amplitude) if settings.whiten_abs else amplitude)


def add_prediction(task: TiltTask, pool: Executor, micrograph: Float32[Array, "h w"]) -> None:
    """Add the predicted images of all particles whose box reaches into the tilt image.

    Boxes are cut only by the image's edge. Results do not depend on the number of threads.

    Parameters
    ----------
    task
        One tilt image and its particles of one structure.
    pool
        Threads over which particles are spread.
    micrograph
        Predicted image so far, with dark protein; changed in place.
    """
    box_px = task.reference.box_px
    height, width = micrograph.shape
    corners = np.floor(task.geometry.anchors_px[task.tilt] + 0.5).astype(np.int64) - box_px // 2
    shown = np.flatnonzero(np.all((corners < (width, height)) & (corners > -box_px), axis=1))
    for boxes, batch in pool.map(partial(predict_boxes, task), chunks(shown, box_px)):
        for image, (x, y) in zip(boxes, batch.corners, strict=True):
            rows, columns = (
                slice(max(y, 0), min(y + box_px, height)),
                slice(max(x, 0), min(x + box_px, width)),
            )
            micrograph[rows, columns] += image[
                rows.start - y : rows.stop - y, columns.start - x : columns.stop - x
            ]


def predict_boxes(task: TiltTask, chunk: Int[Array, "B"]) -> tuple[Float32[Array, "B s s"], PairBatch]:
    """Return the predicted boxes of some particles, with dark protein."""
    shared, box_px = task.frequencies, task.reference.box_px
    batch = pair_batch(task, chunk)
    spectra = np.empty((len(chunk), box_px, shared.weight.shape[2]), dtype=np.complex64)
    micrograph_kernels.predict_spectra(
        task.reference.flat,
        task.reference.reach,
        batch.half_set,
        batch.views,
        batch.centre.astype(np.float32),
        shared.columns_used,
        shared.weight,
        batch.defocus,
        shared.phase,
        shared.odd,
        batch.optics_group,
        spectra,
    )
    # The weight includes 1/s, which makes unnormalised transforms unitary.
    rows = scipy.fft.ifft(spectra, axis=1, norm="forward", overwrite_x=True, workers=1)
    return scipy.fft.irfft(rows, n=box_px, axis=2, norm="forward", workers=1), batch


def micrograph_window(
    image: Float32[Array, "h w"],
    predicted: Float32[Array, "h w"],
    displacements_px: Float[Array, "n"],
    threads: int,
) -> Float32[Array, "n n"]:
    """Correlate an image with its prediction at small shifts, `[δy, δx]`.

    The result is Σ image(x + δ) · predicted(x), without wrapping around. Only the window is transformed back,
    by two matrix products instead of a full inverse transform.

    Parameters
    ----------
    image
        Tilt image, its mean removed.
    predicted
        Complete prediction (`add_prediction`).
    """
    reach = int(np.ceil(np.abs(displacements_px).max()))
    height, width = (scipy.fft.next_fast_len(n + reach, real=True) for n in image.shape)
    product = scipy.fft.rfft2(image, s=(height, width), workers=threads)
    prediction = scipy.fft.rfft2(predicted, s=(height, width), workers=threads)
    product *= np.conjugate(prediction, out=prediction)
    columns = np.exp(2j * np.pi / width * np.outer(np.arange(product.shape[1]), displacements_px))
    columns *= column_multiplicity(width)[:, None]
    rows = np.exp(2j * np.pi * np.outer(displacements_px, scipy.fft.fftfreq(height)))
    partial = product @ columns.astype(np.complex64)
    window: Array = (rows.astype(np.complex64) @ partial).real / np.float32(height * width)
    return window
