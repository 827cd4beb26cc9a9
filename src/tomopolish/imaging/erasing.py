"""Gold beads and other strong objects in a tilt image, which are replaced by their surroundings.

A bead beside a particle resembles the particle's low frequencies more than the particle itself does, in every
tilt image, and draws it away. Objects are found by means of small blocks of pixels, whose noise is that of a
pixel over the edge of a block: what is denser than the specimen for the size of a block stands out of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from tomopolish.imaging.devices import Correlator
from tomopolish.imaging.held_out import HeldOutWindows
from tomopolish.imaging.micrograph import predict_boxes
from tomopolish.imaging.windows import TiltTask, chunks
from tomopolish.physics.fourier import column_multiplicity
from tomopolish.shapes import Array, Bool, Float, Float32, Int

BLOCKS = 16
"""Blocks along the edge of a box."""
STRONG, WEAK = 8.0, 3.0
"""Deviations from the surroundings, in standard deviations of blocks: where an object is, and how far it
reaches."""
STRONGER = 2.0
"""Smallest deviation of an object, over that of ordinary particles: a particle is no object."""
CELL = 8
"""Blocks along the edge of a cell, half a box; surroundings are medians of cells."""
CELLS = 5
"""Cells along the edge of the surroundings."""
MOST_ERASED = 0.2
"""Share of an image beyond which strong objects are a part of the specimen."""


def compare_without_objects(
    task: TiltTask,
    noisy: Bool[Array, "P"],
    values: Float32[Array, "P n n"],
    power: Float[Array, "P"],
    held_out: HeldOutWindows,
    correlator: Correlator,
) -> bool:
    """Compare noisy pairs of one tilt image again, in the image without its strong objects.

    The power of a pair becomes that of the part of its prediction that nothing hides.

    Parameters
    ----------
    noisy
        Pairs whose box holds more noise than others.
    values, power, held_out
        Windows of the tilt image; those of noisy pairs are replaced.

    Returns
    -------
    Whether the image has such objects.
    """
    pairs = np.flatnonzero(noisy)
    if not len(pairs):
        return False
    ordinary = task.geometry.visible[task.tilt] & ~noisy
    erased = erase_objects(task.image, task.reference.box_px, task.geometry.anchors_px[task.tilt, ordinary])
    if erased is None:
        return False
    image, hidden = erased
    visible = np.zeros_like(task.geometry.visible)
    visible[task.tilt] = noisy
    again = replace(task, image=image, geometry=replace(task.geometry, visible=visible))
    chosen = np.flatnonzero(noisy[held_out.particles])
    of_noisy = held_out.at(chosen)
    correlator.correlate_tilt(again, values, power, of_noisy)
    shown = np.ones(len(noisy))
    shown[pairs] = _shown_shares(task, pairs, hidden)
    power *= shown
    held_out.values[chosen] = of_noisy.values
    held_out.power[chosen] = of_noisy.power * shown[of_noisy.particles]
    return True


def erase_objects(
    image: Float32[Array, "h w"], box_px: int, particles_px: Float[Array, "N 2"]
) -> tuple[Float32[Array, "h w"], Bool[Array, "h w"]] | None:
    """Return a tilt image whose strong objects are replaced by their surroundings, and what they hide.

    The latter has a margin of a block, since the positions of particles are not known better.

    Parameters
    ----------
    particles_px
        Positions (x, y) of particles whose boxes are ordinary.

    Returns
    -------
    None where there is no object, or so many that they are what the image shows.
    """
    edge = max(box_px // BLOCKS, 1)
    means = _block_means(image, edge)
    surroundings = _surroundings(means)
    deviation = np.abs(means - surroundings)
    spread = float(np.median(deviation)) / 0.6745
    strong = deviation > max(STRONG * spread, STRONGER * _of_particles(deviation, particles_px / edge))
    if not strong.any():
        return None
    erased = ndimage.binary_propagation(strong, mask=deviation > WEAK * spread)
    erased = ndimage.binary_dilation(erased, np.ones((3, 3), dtype=bool))
    if erased.mean() > MOST_ERASED:
        return None
    # The last blocks reach to the image's edge.
    rows, columns = (
        np.minimum(np.arange(n) // edge, m - 1) for n, m in zip(image.shape, means.shape, strict=True)
    )
    result = image.copy()
    y, x = np.nonzero(erased[rows][:, columns])
    result[y, x] = surroundings[rows[y], columns[x]]
    hidden = ndimage.binary_dilation(erased, np.ones((3, 3), dtype=bool))
    return result, hidden[rows][:, columns]


def _of_particles(deviation: Float[Array, "m n"], places: Float[Array, "N 2"]) -> float:
    """Return the largest deviation near most particles: the upper quartile; 0 without particles."""
    if not len(places):
        return 0.0
    near = ndimage.maximum_filter(deviation, BLOCKS // 2)
    column, row = np.clip(places.astype(np.int64), 0, np.array(near.shape[::-1]) - 1).T
    return float(np.quantile(near[row, column], 0.75))


def _shown_shares(task: TiltTask, pairs: Int[Array, "B"], hidden: Bool[Array, "h w"]) -> Float[Array, "B"]:
    """Return the share of each pair's predicted power that lies beside the hidden pixels."""
    frequencies, box_px = task.frequencies, task.reference.box_px
    twice = column_multiplicity(box_px)[: frequencies.weight.shape[2]]
    amplitude = np.sqrt(frequencies.signal_weight / twice).astype(np.float32)
    weighted = replace(task, frequencies=replace(frequencies, weight=amplitude))
    shares = []
    for chunk in chunks(pairs, box_px):
        boxes, batch = predict_boxes(weighted, chunk)
        for box, (x, y) in zip(boxes, batch.corners, strict=True):
            square = box**2
            inside = (
                np.clip(np.arange(at, at + box_px), 0, n - 1)
                for at, n in zip((y, x), hidden.shape, strict=True)
            )
            shares.append(1 - square[hidden[np.ix_(*inside)]].sum() / max(float(square.sum()), 1e-30))
    return np.array(shares)


def _block_means(image: Float32[Array, "h w"], edge: int) -> Float[Array, "m n"]:
    """Return the means of whole blocks of edge × edge pixels."""
    h, w = (n // edge for n in image.shape)
    sums = image[: h * edge].reshape(h, edge, -1).sum(axis=1, dtype=np.float64)
    means: Array = sums[:, : w * edge].reshape(h, w, edge).sum(axis=2) / edge**2
    return means


def _surroundings(means: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """Return the median of the cells about each block, between cells by linear interpolation."""
    shape = [-(-n // CELL) for n in means.shape]
    missing = [(0, c * CELL - n) for c, n in zip(shape, means.shape, strict=True)]
    padded = np.pad(means, missing, mode="symmetric")
    cells = np.median(padded.reshape(shape[0], CELL, shape[1], CELL), axis=(1, 3))
    smooth = ndimage.median_filter(cells, CELLS, mode="nearest")
    places = [(np.arange(n) + 0.5) / CELL - 0.5 for n in means.shape]
    grid = np.meshgrid(*places, indexing="ij")
    result: Array = ndimage.map_coordinates(smooth, grid, order=1, mode="nearest")
    return result
