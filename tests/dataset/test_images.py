"""Tilt images and volumes: what another program wrote is read exactly, whatever its sample type."""

from __future__ import annotations

import pickle
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tomopolish.dataset.half_precision import widen
from tomopolish.dataset.images import (
    CONSTANT,
    NOT_FINITE,
    MrcImages,
    open_micrographs,
    open_stack,
)
from tomopolish.dataset.mrc import read_header, split_section, write_stack, write_volume
from tomopolish.errors import InputError, RunError

DTYPES = ["float32", "float16", "int16", "uint16", "int8"]


def make_stack(path: Path, dtype: str = "float32", shape: tuple[int, int, int] = (3, 20, 24)) -> np.ndarray:
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype) if np.dtype(dtype).kind != "f" else None
    low, high = (max(info.min, -20000), min(info.max, 60000)) if info else (-50, 50)
    data = rng.uniform(low, high, size=shape).astype(dtype)
    with mrcfile.new(path) as stack:
        stack.set_data(data)
        stack.set_image_stack()
        stack.voxel_size = 2.5
    return data


@pytest.mark.parametrize("dtype", DTYPES)
def test_stacks_of_every_type(tmp_path: Path, dtype: str) -> None:
    data = make_stack(tmp_path / "a.mrcs", dtype)
    images = open_stack(tmp_path / "a.mrcs", 3, named_in="t.star")
    assert images.size_px == (24, 20) and len(images) == 3
    for tilt in (2, 0, 1):
        image = images.read(tilt)
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, data[tilt].astype(np.float32))
    assert images.dummy_reason(1) is None
    assert read_header(tmp_path / "a.mrcs").pixel_size_angstrom == pytest.approx(2.5)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<i2", "<u2"])
def test_rows_are_read_alone(tmp_path: Path, dtype: str) -> None:
    images = np.random.default_rng(2).integers(0, 200, (3, 20, 17)).astype(dtype)
    with mrcfile.new(tmp_path / "stack.mrc") as file:
        file.set_data(images)
    stack = open_stack(tmp_path / "stack.mrc", 3, named_in="set.star")
    rows = np.empty((6, 17), dtype=np.float32)
    stack.read_into(1, rows, 9)
    np.testing.assert_array_equal(rows, images[1, 9:15].astype(np.float32))


def test_every_finite_half_there_is_is_read_exactly() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(256, -1)
    found = np.empty(halves.shape, dtype=np.float32)
    widen(halves, found)
    np.testing.assert_array_equal(found.view(np.uint32), halves.astype(np.float32).view(np.uint32))


@pytest.mark.parametrize("value", [65504, -65504, np.inf, -np.inf, np.nan])
def test_halves_that_are_no_finite_numbers_stay_so(value: float) -> None:
    halves = np.ones((5, 37), dtype=np.float16)
    halves[3, 30] = value
    found = np.empty(halves.shape, dtype=np.float32)
    widen(halves, found)
    np.testing.assert_array_equal(found, halves.astype(np.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_written_stacks_are_read_by_another_program(tmp_path: Path, dtype: str) -> None:
    data = make_stack(tmp_path / "a.mrcs", dtype)
    write_stack(
        tmp_path / "sub" / "b.mrcs",
        iter(data),
        count=3,
        size_px=(24, 20),
        pixel_size_angstrom=2.5,
        dtype=dtype,
    )
    with mrcfile.open(tmp_path / "sub" / "b.mrcs") as stack:
        np.testing.assert_array_equal(stack.data, data)
        assert stack.is_image_stack() and float(stack.voxel_size.x) == pytest.approx(2.5)
        assert float(stack.header.dmin) == data.min() and float(stack.header.dmax) == data.max()
        assert float(stack.header.rms) == pytest.approx(np.std(data, dtype=float), rel=1e-4)
    if dtype != "float16":  # a mode the validator does not know yet
        assert mrcfile.validate(str(tmp_path / "sub" / "b.mrcs"))
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["b.mrcs"]


def test_volumes_round_trip(tmp_path: Path) -> None:
    volume = np.random.default_rng(2).normal(size=(4, 5, 6)).astype(np.float32)
    write_volume(tmp_path / "v.mrc", volume, 1.5)
    file = read_header(tmp_path / "v.mrc")
    np.testing.assert_array_equal(file.read_volume(), volume)
    assert (
        file.shape == (4, 5, 6) and file.pixel_size_angstrom == pytest.approx(1.5) and file.axes == (1, 2, 3)
    )


def test_reference_stack(mini: Path) -> None:
    images = open_stack(mini / "tilt_series" / "TS_01.mrcs", 11, named_in="t.star")
    with mrcfile.open(mini / "tilt_series" / "TS_01.mrcs") as stack:
        np.testing.assert_array_equal(images.read(7), stack.data[7].astype(np.float32))


def test_foreign_headers(tmp_path: Path) -> None:
    """No MAP tag and no machine stamp; big-endian; an extended header; IMOD's unsigned bytes."""
    data = make_stack(tmp_path / "a.mrc")
    raw = (tmp_path / "a.mrc").read_bytes()
    bare = bytearray(raw)
    bare[208:216] = bytes(8)
    (tmp_path / "bare.mrc").write_bytes(bare)
    extended = bytearray(raw)
    extended[92:96] = np.int32(80).tobytes()
    (tmp_path / "extended.mrc").write_bytes(bytes(extended[:1024]) + bytes(80) + bytes(extended[1024:]))
    header = np.frombuffer(raw[:1024], mrcfile.dtypes.HEADER_DTYPE)[0]
    big = header.astype(mrcfile.dtypes.HEADER_DTYPE.newbyteorder(">"))
    big_raw = bytearray(big.tobytes())
    big_raw[212:214] = b"\x11\x11"
    (tmp_path / "big.mrc").write_bytes(bytes(big_raw) + data.astype(">f4").tobytes())
    for name in ("bare", "extended", "big"):
        images = open_stack(tmp_path / f"{name}.mrc", 3, named_in="t.star")
        np.testing.assert_array_equal(images.read(2), data[2])

    unsigned = np.arange(3 * 20 * 24, dtype=np.uint8).reshape(3, 20, 24)
    with mrcfile.new(tmp_path / "bytes.st") as stack:
        stack.set_data(unsigned.view(np.int8))
    raw = bytearray((tmp_path / "bytes.st").read_bytes())
    raw[152:156] = np.int32(1146844873).tobytes()
    (tmp_path / "bytes.st").write_bytes(raw)
    images = open_stack(tmp_path / "bytes.st", 3, named_in="t.star")
    np.testing.assert_array_equal(images.read(1), unsigned[1].astype(np.float32))


def test_one_file_per_tilt(tmp_path: Path) -> None:
    data = make_stack(tmp_path / "s.mrcs")
    write_stack(tmp_path / "m.mrc", data[:1] + 1, count=1, size_px=(24, 20), pixel_size_angstrom=1.0)
    images = open_micrographs(
        [(None, tmp_path / "m.mrc"), (2, tmp_path / "s.mrcs"), (0, tmp_path / "s.mrcs")], named_in="t.star"
    )
    np.testing.assert_array_equal(images.read(0), data[0] + 1)
    np.testing.assert_array_equal(images.read(1), data[2])
    np.testing.assert_array_equal(images.read(2), data[0])
    again: MrcImages = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(again.read(1), data[2])
    assert split_section("000003@a/b.mrcs") == (2, "a/b.mrcs")
    assert split_section("a@b.mrc:mrcs") == (None, "a@b.mrc")


def test_dummies_are_recognised(tmp_path: Path) -> None:
    data = make_stack(tmp_path / "s.mrcs")
    data[1] = 7
    data[2] = np.nan
    write_stack(tmp_path / "d.mrcs", data, count=3, size_px=(24, 20), pixel_size_angstrom=1.0)
    images = open_stack(tmp_path / "d.mrcs", 3, named_in="t.star")
    assert [images.dummy_reason(tilt) for tilt in range(3)] == [None, CONSTANT, NOT_FINITE]
    np.testing.assert_array_equal(images.read(2), data[2])


def test_faulty_files(tmp_path: Path) -> None:
    make_stack(tmp_path / "s.mrcs")
    raw = (tmp_path / "s.mrcs").read_bytes()
    complex_mode, nonsense = bytearray(raw), bytearray(raw)
    complex_mode[12:16] = np.int32(4).tobytes()
    nonsense[0:4] = np.int32(-5).tobytes()
    files = {
        "nothing.mrcs": (raw[:2000], "cut off"),
        "header.mrcs": (raw[:500], "only 500 bytes"),
        "complex.mrcs": (bytes(complex_mode), "mode 4 is not supported"),
        "nonsense.mrcs": (bytes(nonsense), "makes no sense"),
        "text.mrcs": (b"data_x\n" * 500, "a STAR file, not an MRC file"),
    }
    for name, (content, expected) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as caught:
            open_stack(tmp_path / name, 3, named_in="t.star")
        assert name in str(caught.value) and expected in str(caught.value) and "t.star" in str(caught.value)
    with pytest.raises(InputError, match="file not found"):
        open_stack(tmp_path / "absent.mrcs", 3, named_in="t.star")
    with pytest.raises(InputError, match=r"has 4 rows, but its stack .* has 3 sections"):
        open_stack(tmp_path / "s.mrcs", 4, named_in="t.star")


def test_a_stack_that_is_cut_off_lacks_its_last_images(tmp_path: Path) -> None:
    data = make_stack(tmp_path / "s.mrcs")
    raw = (tmp_path / "s.mrcs").read_bytes()
    (tmp_path / "s.mrcs").write_bytes(raw[: -data[0].nbytes - 1])
    images = open_stack(tmp_path / "s.mrcs", 3, named_in="t.star")
    assert [one.tilt for one in images.unreadable] == [1, 2] and len(images) == 3
    assert all("is cut off" in one.reason for one in images.unreadable)
    np.testing.assert_array_equal(images.read(0), data[0])
    with pytest.raises(RunError, match=r"tilt image 2 cannot be read: .* is cut off"):
        images.read(1)
    again: MrcImages = pickle.loads(pickle.dumps(images))
    assert again.unreadable == images.unreadable and again.describe(1) == "row 2"


def test_rows_may_name_the_sections_of_a_stack(tmp_path: Path) -> None:
    data = make_stack(tmp_path / "s.mrcs", shape=(5, 20, 24))
    images = open_stack(tmp_path / "s.mrcs", 3, named=[4, 1, 7], named_in="t.star")
    np.testing.assert_array_equal(images.read(0), data[4])
    np.testing.assert_array_equal(images.read(1), data[1])
    assert images.unreadable[0].tilt == 2 and "section 8 is named" in images.unreadable[0].reason
    with pytest.raises(InputError, match="row 1: section 6 is named"):
        open_stack(tmp_path / "s.mrcs", 2, named=[5, 6], named_in="t.star")


def test_faulty_micrographs_cost_themselves(tmp_path: Path) -> None:
    make_stack(tmp_path / "s.mrcs")
    make_stack(tmp_path / "m.mrc", shape=(1, 20, 24))
    make_stack(tmp_path / "other.mrc", shape=(1, 20, 26))
    (tmp_path / "text.mrc").write_text("no image\n" * 300)
    sound = (0, "s.mrcs"), (1, "s.mrcs")
    for entry, expected in {
        (None, "s.mrcs"): "has 3 sections",
        (3, "s.mrcs"): "section 4 is named",
        (None, "other.mrc"): "has 26 x 20 px, but the other images 24 x 20",
        (None, "absent.mrc"): "file not found",
        (None, "text.mrc"): "not an MRC file",
    }.items():
        entries = [(s, tmp_path / name) for s, name in (sound[0], entry, sound[1])]
        images = open_micrographs(entries, named_in="t.star")
        assert [one.tilt for one in images.unreadable] == [1] and images.size_px == (24, 20)
        assert expected in images.unreadable[0].reason
    with pytest.raises(InputError, match=r"t.star, row 1: .* file not found"):
        open_micrographs([(None, tmp_path / "absent.mrc")] * 2, named_in="t.star")


def test_a_file_that_shrinks_later_is_a_clean_failure(tmp_path: Path) -> None:
    make_stack(tmp_path / "s.mrcs")
    images = open_stack(tmp_path / "s.mrcs", 3, named_in="t.star")
    raw = (tmp_path / "s.mrcs").read_bytes()
    (tmp_path / "s.mrcs").write_bytes(raw[:-100])
    with pytest.raises(RunError, match="section 3 is cut off"):
        images.read(2)
    (tmp_path / "s.mrcs").unlink()
    with pytest.raises(RunError, match="cannot be read"):
        images.read(0)


def test_nothing_remains_of_a_write_that_failed(tmp_path: Path) -> None:
    def images():
        yield np.zeros((20, 24), np.float32)
        raise RunError("no more")

    with pytest.raises(RunError, match="no more"):
        write_stack(tmp_path / "s.mrcs", images(), count=3, size_px=(24, 20), pixel_size_angstrom=1.0)
    assert list(tmp_path.iterdir()) == []
