"""Spectra of boxes cut from tilt images, against the definition and NumPy's transform.

See docs/dev/conventions.md, Correlation windows.
"""

from __future__ import annotations

import numpy as np
import pytest
import spec_windows
from hypothesis import given
from hypothesis import strategies as st

from tomopolish.imaging.fft_plan import factors, fft_plan
from tomopolish.imaging.kernels.boxes import box_spectra
from tomopolish.imaging.windows import box_mask

IMAGE = np.random.default_rng(1).normal(7, 2, (50, 70)).astype(np.float32)


def spectra(image: np.ndarray, centres: np.ndarray, box: int, used: int | None = None) -> np.ndarray:
    """Half planes [box, sign of ky, |ky|, kx] of boxes about 2D positions."""
    mask = box_mask(box)
    used = used or box // 2 + 1
    corners = np.floor(centres + 0.5).astype(np.int64) - box // 2
    parts = np.full((len(centres), 2, 2, used, used), np.nan, dtype=np.float32)
    box_spectra(image, corners, mask.falloff, mask.inside, *fft_plan(box).tables, parts)
    return parts[:, 0] + 1j * parts[:, 1].astype(complex)


def signed(transform: np.ndarray, used: int) -> np.ndarray:
    """The same of an rfft2's result; row −0 is left empty."""
    rows = np.arange(used)
    both = np.stack([transform[rows, :used], transform[-rows, :used]])
    both[1, 0] = 0
    return both


@given(x=st.floats(-30, 100), y=st.floats(-30, 80), box=st.sampled_from([16, 18, 32]))
def test_box_anywhere_inside_across_and_beyond_the_edges(x: float, y: float, box: int) -> None:
    q = np.array([x, y])
    expected, first = spec_windows.cut_box(IMAGE, q, box)
    np.testing.assert_array_equal(first, np.floor(q + 0.5) - box // 2)
    found = spectra(IMAGE, q[None], box)[0]
    np.testing.assert_allclose(found, signed(np.fft.rfft2(expected), box // 2 + 1), atol=4e-6 * box**2)


@pytest.mark.parametrize("box", [2, 4, 6, 8, 10, 12, 14, 20, 22, 26, 30, 54, 60, 98, 120, 130, 142, 154, 200])
def test_every_even_length_whatever_its_factors(box: int) -> None:
    """Some with more than 64 lanes, which are done in strips; only the requested frequencies."""
    assert np.prod(factors(box)) == box
    image = np.random.default_rng(box).normal(size=(220, 230)).astype(np.float32)
    used = max(1, box // 3)
    found = spectra(image, np.array([[115.0, 110.0]]), box, used)[0]
    expected = signed(np.fft.rfft2(spec_windows.cut_box(image, np.array([115.0, 110.0]), box)[0]), used)
    np.testing.assert_allclose(found, expected, atol=2e-6 * box * np.sqrt(factors(box)[-1]))


@pytest.mark.parametrize("box", [16, 32, 48])
def test_a_flat_image_leaves_nothing_and_a_pedestal_does_not_matter(box: int) -> None:
    flat = np.full((60, 60), 123.5, dtype=np.float32)
    assert not spectra(flat, np.array([[30.0, 30.0]]), box).any()
    q = np.array([[30.2, 25.4]])
    np.testing.assert_allclose(spectra(IMAGE + 100, q, box), spectra(IMAGE, q, box), atol=1e-5 * box**2)


def test_every_box_of_a_batch_is_its_own() -> None:
    centres = np.array([[30.0, 25.0], [2.0, 3.0], [30.0, 25.0], [69.0, 49.0]])
    together = spectra(IMAGE, centres, 16)
    for box, centre in zip(together, centres, strict=True):
        np.testing.assert_array_equal(box, spectra(IMAGE, centre[None], 16)[0])
    assert not np.array_equal(together[0], together[1])
