"""Alignment files read back, and projections rebuilt from what the formats' documentation says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_project import make_series
from tomopolish.dataset.images import MrcImages
from tomopolish.dataset.model import TiltSeries
from tomopolish.dataset.mrc import read_header, write_stack
from tomopolish.output.exports.aretomo import RawStack, aretomo_model, raw_stack, write_aretomo
from tomopolish.output.exports.imod import imod_model, write_imod
from tomopolish.output.exports.warp import warp_model, write_warp
from tomopolish.physics.geometry import project, relion5_projections

SIZES = [(192, 160), (191, 163), (190, 161)]
"""(w, h): even, odd, and mixed."""
TOMOGRAM = (210, 175, 91)
AXES = [0.0, 85.3, -94.0, 179.5]
TILTS = 9


def make(size: tuple[int, int], axis: float, hand: float, pitch: float) -> tuple[TiltSeries, np.ndarray]:
    """A tilt series whose files list its images neither by tilt nor by exposure, and points in it."""
    rng = np.random.default_rng([*size, int(axis * 10) % 3600, int(pitch * 10)])
    angles = np.stack(
        [
            pitch * rng.uniform(-1, 1, TILTS),
            rng.permutation(np.linspace(-60, 60, TILTS)) + rng.normal(size=TILTS),
            axis + rng.normal(size=TILTS),
        ],
        axis=-1,
    )
    series = make_series(
        rng,
        np.zeros((TILTS, size[1], size[0]), dtype=np.float32),
        projections_px=relion5_projections(angles, 9 * rng.normal(size=(TILTS, 2)), size, TOMOGRAM),
        tomogram_size_px=TOMOGRAM,
        hand=hand,
    )
    return series, rng.uniform(0, 1, (30, 3)) * TOMOGRAM


def cosine(degrees: np.ndarray) -> np.ndarray:
    return np.cos(np.deg2rad(degrees))[:, None]


def sine(degrees: np.ndarray) -> np.ndarray:
    return np.sin(np.deg2rad(degrees))[:, None]


def tilted(points: np.ndarray, tilt: np.ndarray, xtilt: np.ndarray) -> np.ndarray:
    """x and y of points, from the centre, tilted about x and then y; written out, file order."""
    x, y, z = points.T
    y, z = y * cosine(xtilt) - z * sine(xtilt), y * sine(xtilt) + z * cosine(xtilt)
    return np.stack([x * cosine(tilt) + z * sine(tilt), y], axis=-1)


def middle(size: tuple[int, ...]) -> np.ndarray:
    return (np.array(size) - 1) / 2


def raw_from_aligned(xf: np.ndarray, aligned: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Undo a .xf file's lines: coordinates from the middle of the aligned image, to those in the raw one."""
    matrices, shifts = xf[:, :4].reshape(-1, 2, 2), xf[:, 4:]
    return np.linalg.solve(matrices[:, None], (aligned - shifts[:, None])[..., None])[..., 0] + centre


@pytest.mark.parametrize("hand", [1.0, -1.0])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("size", SIZES)
def test_imod_sees_every_point_where_we_do(
    size: tuple[int, int], axis: float, hand: float, tmp_path: Path
) -> None:
    series, points = make(size, axis, hand, pitch=3.0)
    write_imod(tmp_path, "TS", imod_model(series))
    xf, tlt, xtilt = (np.loadtxt(tmp_path / f"TS.{end}") for end in ("xf", "tlt", "xtilt"))
    aligned = tilted(points - middle(TOMOGRAM), tlt, xtilt)
    found = raw_from_aligned(xf, aligned, middle(size))
    assert np.abs(found - project(series.projections_px, points)[..., :2]).max() < 1e-3


def read_aln(path: Path) -> tuple[list[str], np.ndarray]:
    lines = path.read_text().splitlines()
    rows = np.array([line.split() for line in lines if not line.startswith("#")], dtype=float)
    return [line for line in lines if line.startswith("#")], rows


def aretomo_sees(rows: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where a .aln file sees points, in the order of the raw stack."""
    found = np.full((len(rows), len(points), 2), np.nan)
    for sec, rot, _, tx, ty, *_, tilt in rows:
        x, y = tilted(points - middle(TOMOGRAM), np.array([tilt]), np.zeros(1))[0].T
        c, s = np.cos(np.deg2rad(rot)), np.sin(np.deg2rad(rot))
        found[int(sec)] = np.stack([c * x - s * y + tx, s * x + c * y + ty], axis=-1) + middle(size)
    return found


@pytest.mark.parametrize("hand", [1.0, -1.0])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("size", SIZES)
def test_aretomo_sees_every_point_where_we_do(
    size: tuple[int, int], axis: float, hand: float, tmp_path: Path
) -> None:
    series, points = make(size, axis, hand, pitch=0.0)
    write_aretomo(tmp_path, "TS", aretomo_model(series, points), raw_stack(series))
    header, rows = read_aln(tmp_path / "TS.aln")
    assert f"# RawSize = {size[0]} {size[1]} {TILTS}" in header
    assert (np.diff(rows[:, -1]) > 0).all()
    found = aretomo_sees(rows, points, size)
    assert np.abs(found - project(series.projections_px, points)[..., :2]).max() < 1e-3


def warp_sees(xf: np.ndarray, angles: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Warp's import of .xf and .tlt files, and its projection, as warpylib has them (there in Å)."""
    matrices = xf[:, :4].reshape(-1, 2, 2)
    axis = np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0])
    offset = np.einsum("fji,fj->fi", matrices, -xf[:, 4:])
    found = []
    for a, t, o in zip(axis, np.deg2rad(angles), offset, strict=True):
        cb, sb, cg, sg = np.cos(t), np.sin(t), np.cos(-a), np.sin(-a)
        matrix = np.array([[cg * cb, sg, -cg * sb], [-sg * cb, cg, sg * sb]])
        found.append((points - np.array(TOMOGRAM) / 2) @ matrix.T + o + np.array(size) / 2)
    return np.array(found)


@pytest.mark.parametrize("hand", [1.0, -1.0])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("size", SIZES)
def test_warp_sees_every_point_where_we_do(
    size: tuple[int, int], axis: float, hand: float, tmp_path: Path
) -> None:
    series, points = make(size, axis, hand, pitch=0.0)
    write_warp(tmp_path, "TS", warp_model(series, points))
    found = warp_sees(np.loadtxt(tmp_path / "TS.xf"), np.loadtxt(tmp_path / "TS.tlt"), points, size)
    assert np.abs(found - project(series.projections_px, points)[..., :2]).max() < 1e-3


def test_what_aretomo_and_warp_cannot_hold_is_the_residual(tmp_path: Path) -> None:
    size = SIZES[1]
    series, points = make(size, 85.3, -1.0, pitch=3.0)
    aretomo, warp = aretomo_model(series, points), warp_model(series, points)
    write_aretomo(tmp_path, "TS", aretomo, raw_stack(series))
    write_warp(tmp_path, "TS", warp)
    _, rows = read_aln(tmp_path / "TS.aln")
    xf, tlt = np.loadtxt(tmp_path / "TS.xf"), np.loadtxt(tmp_path / "TS.tlt")
    wanted = project(series.projections_px, points)[..., :2]
    for model, found in (
        (aretomo, aretomo_sees(rows, points, size)),
        (warp, warp_sees(xf, tlt, points, size)),
    ):
        left = np.linalg.norm(found - wanted, axis=-1)
        np.testing.assert_allclose(left, model.residual_px(series.projections_px, points), atol=1e-3)
        assert left.max() > 1


def dark_frames(path: Path) -> list[tuple[int, int, float]]:
    lines = [line.partition("=")[2].split() for line in read_aln(path)[0] if "DarkFrame" in line]
    return [(int(place), int(section), float(tilt)) for place, section, tilt in lines]


@pytest.mark.parametrize("falling", [False, True])
def test_sections_that_the_series_leaves_out_are_dark_frames_of_the_raw_stack(
    falling: bool, tmp_path: Path
) -> None:
    series, points = make(SIZES[0], 85.3, 1.0, pitch=0.0)
    model = aretomo_model(series, points)
    left_out = [0, 4, 5, 13]
    sections = np.setdiff1d(np.arange(14), left_out)[: len(series)]
    by_tilt = np.argsort(model.tilt_degrees)[:: -1 if falling else 1]
    raw = np.empty(len(series), dtype=np.int64)
    raw[by_tilt] = sections
    write_aretomo(
        tmp_path, "TS", model, RawStack(size_px=SIZES[0], rows=np.arange(len(raw)), sections=raw, count=14)
    )
    header, rows = read_aln(tmp_path / "TS.aln")
    assert f"# RawSize = {SIZES[0][0]} {SIZES[0][1]} 14" in header
    np.testing.assert_array_equal(rows[:, 0], raw[np.argsort(model.tilt_degrees)])
    dark = dark_frames(tmp_path / "TS.aln")
    missing = [section for section in range(14) if section not in sections]
    assert sorted(section for _, section, _ in dark) == missing
    assert len(dark) + len(rows) == 14
    # Taking the named places away from all sections, in the order of the tilt, leaves the rows.
    everything = [None] * 14
    for place, section, tilt in dark:
        everything[place] = (section, tilt)
    free = iter(zip(rows[:, 0].astype(int), rows[:, -1], strict=True))
    everything = [entry or next(free) for entry in everything]
    assert [section for section, _ in everything] == list(range(14))[:: -1 if falling else 1]
    assert (np.diff([tilt for _, tilt in everything]) > 0).all()


def test_the_raw_stack_is_the_one_that_the_images_are_sections_of(tmp_path: Path) -> None:
    headers = []
    for name, count in (("a.mrc", 12), ("b.mrc", 1)):
        images = np.zeros((count, 16, 20), dtype=np.float32)
        write_stack(tmp_path / name, images, count=count, size_px=(20, 16), pixel_size_angstrom=2.0)
        headers.append(read_header(tmp_path / name))
    rng = np.random.default_rng(3)
    series = make_series(rng, np.zeros((3, 16, 20)))
    of_one = raw_stack(replace(series, images=MrcImages(sections=tuple((headers[0], n) for n in (7, 2, 11)))))
    assert (of_one.size_px, of_one.count) == ((20, 16), 12)
    assert of_one.sections.tolist() == [7, 2, 11]
    files = ((headers[0], 7), (headers[1], 0), (headers[0], 2))
    of_several = raw_stack(replace(series, images=MrcImages(sections=files)))
    assert (of_several.sections.tolist(), of_several.count) == ([0, 1, 2], 3)


def test_a_section_left_out_of_an_unordered_stack_has_no_known_tilt() -> None:
    stack = RawStack(size_px=(64, 64), rows=np.arange(3), sections=np.array([0, 1, 3]), count=4)
    assert not stack.tilts_are_ordered(np.array([0.0, 3.0, -3.0]))
    assert stack.left_out.tolist() == [2]


def test_alnfile_reads_what_we_write_and_agrees_with_our_xf(tmp_path: Path) -> None:
    alnfile = pytest.importorskip("alnfile", reason="alnfile, an independent reader, is not installed")
    size = SIZES[2]
    series, points = make(size, 85.3, 1.0, pitch=0.0)
    write_aretomo(tmp_path, "TS", aretomo_model(series, points), raw_stack(series))
    write_imod(tmp_path, "TS", imod_model(series))
    table = alnfile.read(tmp_path / "TS.aln")
    theirs = np.asarray(alnfile.df_to_xf(table))
    ours = np.loadtxt(tmp_path / "TS.xf")[np.asarray(table["sec"])]
    np.testing.assert_allclose(theirs[..., :2].reshape(-1, 4), ours[:, :4], atol=1e-7)
    np.testing.assert_allclose(theirs[..., 2], ours[:, 4:], atol=1e-4)


def test_etomofiles_reads_our_xf(tmp_path: Path) -> None:
    etomofiles = pytest.importorskip(
        "etomofiles", reason="etomofiles, an independent reader, is not installed"
    )
    series, _ = make(SIZES[0], -94.0, 1.0, pitch=1.0)
    write_imod(tmp_path, "TS", imod_model(series))
    theirs = np.asarray(etomofiles.df_to_xf(tmp_path / "TS.xf"))
    ours = np.loadtxt(tmp_path / "TS.xf")
    np.testing.assert_allclose(theirs[..., :2].reshape(-1, 4), ours[:, :4])
    np.testing.assert_allclose(theirs[..., 2], ours[:, 4:])
