"""Boxes cut from tilt images, against the definition (spec §5)."""

from __future__ import annotations

import numpy as np
import pytest
import spec_windows
from hypothesis import given
from hypothesis import strategies as st

from tomopolish.correlation.kernels_cpu import extract_boxes
from tomopolish.correlation.windows import box_mask

IMAGE = np.random.default_rng(1).normal(7, 2, (50, 70)).astype(np.float32)


def extract(image: np.ndarray, centres: np.ndarray, box: int) -> np.ndarray:
    mask = box_mask(box)
    corners = np.floor(centres + 0.5).astype(np.int64) - box // 2
    boxes = np.empty((len(centres), box, box), dtype=np.float32)
    extract_boxes(image, corners, mask.falloff, mask.outside, boxes)
    return boxes


@given(x=st.floats(-30, 100), y=st.floats(-30, 80), box=st.sampled_from([16, 18, 32]))
def test_box_anywhere_inside_across_and_beyond_the_edges(x: float, y: float, box: int) -> None:
    q = np.array([x, y])
    expected, first = spec_windows.cut_box(IMAGE, q, box)
    np.testing.assert_array_equal(first, np.floor(q + 0.5) - box // 2)
    np.testing.assert_allclose(extract(IMAGE, q[None], box)[0], expected, atol=2e-5)


@pytest.mark.parametrize("box", [16, 32, 48])
def test_a_flat_image_leaves_nothing_and_a_pedestal_does_not_matter(box: int) -> None:
    flat = np.full((60, 60), 123.5, dtype=np.float32)
    assert not extract(flat, np.array([[30.0, 30.0]]), box).any()
    q = np.array([[30.2, 25.4]])
    np.testing.assert_allclose(extract(IMAGE + 100, q, box), extract(IMAGE, q, box), atol=1e-3)


def test_every_box_of_a_batch_is_its_own() -> None:
    centres = np.array([[30.0, 25.0], [2.0, 3.0], [30.0, 25.0], [69.0, 49.0]])
    together = extract(IMAGE, centres, 16)
    for box, centre in zip(together, centres, strict=True):
        np.testing.assert_array_equal(box, extract(IMAGE, centre[None], 16)[0])
    assert not np.array_equal(together[0], together[1])
