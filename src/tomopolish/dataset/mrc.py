"""MRC files: headers, single sections, whole volumes; writing stacks and volumes.

Sections are read one at a time straight from their offset, so that threads and processes can share a
description of a file without sharing a handle.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from tomopolish.dataset.contents import recognised
from tomopolish.dataset.files import atomic_path
from tomopolish.dataset.half_precision import widen
from tomopolish.dataset.opening import open_regular, unreadable
from tomopolish.errors import InputError, RunError
from tomopolish.shapes import Array, Float32, Shaped

_HEADER_BYTES = 1024
MOST_SECTION_PX = 1 << 30
"""Maximum pixels of a section (32,768 x 32,768): more than any camera's, and 4 GiB of memory."""

MOST_VOLUME_PX = 1 << 33
"""Maximum pixels of a map (2,048 cubed): 32 GiB of memory."""

_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_MODE_OF_DTYPE = {"int8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
_IMOD_STAMP = 1146844873
_FORMAT_SUFFIX = re.compile(r":(mrcs?|st|ali|rec)\Z")
_SECTION = re.compile(r"\s*(\d+)@(.+)\Z", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class MrcFile:
    """Content of the header of an MRC file.

    Attributes
    ----------
    shape
        (sections, rows, columns).
    dtype
        NumPy's name of the sample type, with its byte order.
    offset
        Offset of the samples, bytes.
    pixel_size_angstrom
        Pixel size along x; 0 when the header does not say.
    axes
        Axis along columns, rows and sections: (1, 2, 3), for x, y, z, as a rule.
    surplus_bytes
        Bytes of the file after the last section.
    complete_sections
        Complete sections in the file: fewer than its header states where it is cut off.
    state
        Size in bytes, modification time in ns, and number of the file whose header was read.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: str
    offset: int
    pixel_size_angstrom: float
    axes: tuple[int, int, int]
    complete_sections: int
    surplus_bytes: int = 0
    state: tuple[int, int, int] = (0, 0, 0)

    def has_changed(self) -> bool:
        """Return whether the file has been replaced or changed."""
        try:
            return _state(self.path.stat()) != self.state
        except OSError:
            return True

    @property
    def section_bytes(self) -> int:
        """Size of one section."""
        return self.shape[1] * self.shape[2] * np.dtype(self.dtype).itemsize

    def read_section_into(self, section: int, image: Float32[Array, "n w"], row: int = 0) -> None:
        """Read as many rows of a section (from 0) as `image` has, from `row` on, into `image`.

        Raises RunError when the file is gone or shorter now.
        """
        first = row * self.shape[2]
        if np.dtype(self.dtype) != image.dtype or not image.flags.c_contiguous:
            values = self._samples(section, first, image.size).reshape(image.shape)
            if values.dtype == np.float16 and image.flags.c_contiguous:
                widen(values, image)
            else:
                image[...] = values
            return
        with self._failing(section), open_regular(self.path, buffering=0) as handle:
            handle.seek(self.offset + section * self.section_bytes + first * image.itemsize)
            target, done = image.data.cast("B"), 0
            while done < len(target) and (got := handle.readinto(target[done:])):
                done += got
        if done != len(target):
            raise self._cut_off(section)

    def read_row(self, section: int, row: int) -> Float32[Array, "w"]:
        """Read a single row of a section; raises RunError as `read_section_into` does."""
        w = self.shape[2]
        return self._read(section, row * w, w)

    def read_volume(self) -> Float32[Array, "z y x"]:
        """Read all sections; raises RunError like `read_row`, and InputError when they are too many."""
        self.check_volume()
        return self._read(0, 0, int(np.prod(self.shape))).reshape(self.shape)

    def check_volume(self) -> None:
        """Raise InputError when the sections are too many for a map."""
        if math.prod(self.shape) > MOST_VOLUME_PX:
            z, y, x = self.shape
            raise InputError(f"{self.path}: {x} x {y} x {z} px are too many for a map; give a smaller map")

    @property
    def surplus(self) -> str | None:
        """Return a sentence when the file is longer than its header says, else None."""
        if not self.surplus_bytes:
            return None
        return (
            f"{self.path} is {self.surplus_bytes} bytes longer than its header says; the bytes after the "
            f"{self.shape[0]} sections of {self.shape[2]} x {self.shape[1]} px are not read"
        )

    def _read(self, section: int, first: int, count: int) -> Array:
        return self._samples(section, first, count).astype(np.float32, copy=False)

    def _samples(self, section: int, first: int, count: int) -> Array:
        """Return samples as they are in the file, with its byte order."""
        dtype = np.dtype(self.dtype)
        offset = self.offset + section * self.section_bytes + first * dtype.itemsize
        with self._failing(section), open_regular(self.path) as handle:
            values = np.fromfile(handle, dtype=dtype, count=count, offset=offset)
        if len(values) != count:
            raise self._cut_off(section)
        return values

    @contextmanager
    def _failing(self, section: int) -> Iterator[None]:
        """Raise RunError, which names the file, for a read that fails in the block."""
        try:
            yield
        except OSError as problem:
            reason = problem.strerror or problem
            raise RunError(f"{self.path}: section {section + 1} cannot be read ({reason})") from problem

    def _cut_off(self, section: int) -> RunError:
        return RunError(f"{self.path}: section {section + 1} is cut off; copy the file again")


def read_header(path: Path, *, sections_may_lack: bool = False) -> MrcFile:
    """Return the checked header of an MRC file; raises InputError, which names the file.

    With `sections_may_lack`, a file that is cut off is accepted, as long as it contains its first section.
    """
    raw, state = _read_raw(path)
    size = state[0]
    header = _decode_header(raw, path)
    mode, extended = int(header["mode"]), int(header["nsymbt"])
    shape = (int(header["nz"]), int(header["ny"]), int(header["nx"]))
    if mode not in _MODES:
        raise InputError(
            f"{path}: MRC mode {mode} is not supported; convert the file to mode 2 (float32), 12 (float16), "
            "1 (int16), 6 (uint16) or 0 (bytes)"
        )
    integers = header.dtype["mode"]
    kind = "u1" if mode == 0 and _is_unsigned_bytes(raw, integers) else _MODES[mode]
    dtype = np.dtype(kind).newbyteorder(integers.byteorder)
    offset = _HEADER_BYTES + max(extended, 0)
    section_bytes = shape[1] * shape[2] * dtype.itemsize
    needed = offset + shape[0] * section_bytes
    complete = min(max(size - offset, 0) // section_bytes, shape[0])
    if complete < (1 if sections_may_lack else shape[0]):
        raise InputError(
            f"{path}: the file is cut off (it has {size} bytes, its header requires {needed}); copy it again"
        )
    if shape[1] * shape[2] > MOST_SECTION_PX:
        raise InputError(
            f"{path}: this is not an image (its header states sections of {shape[2]} x {shape[1]} px); "
            "give an MRC file"
        )
    columns = int(header["mx"])
    pixel_size = float(header["cella"]["x"]) / columns if columns > 0 else 0.0
    return MrcFile(
        path=path,
        shape=shape,
        dtype=dtype.str,
        offset=offset,
        pixel_size_angstrom=pixel_size if np.isfinite(pixel_size) and pixel_size > 0 else 0.0,
        axes=(int(header["mapc"]), int(header["mapr"]), int(header["maps"])),
        complete_sections=complete,
        surplus_bytes=max(size - needed, 0),
        state=state,
    )


def _state(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ino


def _read_raw(path: Path) -> tuple[bytes, tuple[int, int, int]]:
    """Return the bytes of the header, and the file's state; raises InputError."""
    try:
        with open_regular(path) as handle:
            raw: bytes = handle.read(_HEADER_BYTES)
            state = _state(os.fstat(handle.fileno()))
    except (OSError, ValueError) as problem:
        raise unreadable(str(path), problem) from None
    content = recognised(raw)
    if content is not None and not content.is_mrc:
        remedy = content.remedy or "give an MRC file"
        raise InputError(f"{path}: this is {content.description}, not an MRC file; {remedy}")
    if len(raw) < _HEADER_BYTES:
        raise InputError(f"{path}: this is not an MRC file (it has only {len(raw)} bytes); give an MRC file")
    return raw, state


def _decode_header(raw: bytes, path: Path) -> np.void:
    """Return the header in the byte order in which its size and mode make sense."""
    first = ">" if raw[212:213] == b"\x11" else "<"
    for order in (first, "<" if first == ">" else ">"):
        header = np.frombuffer(raw, dtype=HEADER_DTYPE.newbyteorder(order))[0]
        sizes = [int(header[n]) for n in ("nx", "ny", "nz")]
        if all(0 < n < 1 << 24 for n in sizes) and 0 <= int(header["mode"]) < 1024:
            return header
    raise InputError(f"{path}: this is not an MRC file (its header makes no sense); give an MRC file")


def _is_unsigned_bytes(raw: bytes, integers: np.dtype) -> bool:
    """Return whether IMOD wrote a mode-0 file with unsigned bytes."""
    stamp, flags = np.frombuffer(raw[152:160], dtype=integers)
    return bool(stamp == _IMOD_STAMP and not flags & 1)


def split_section(named: str) -> tuple[int | None, str]:
    """Return section (from 0; None without one) and file name of ``000003@stack.mrcs``."""
    match = _SECTION.match(named)
    section, name = (int(match.group(1)) - 1, match.group(2)) if match else (None, named)
    return section, _FORMAT_SUFFIX.sub("", name)


def write_stack(
    path: Path,
    images: Iterable[Shaped[Array, "h w"]],
    *,
    count: int,
    size_px: tuple[int, int],
    pixel_size_angstrom: float,
    dtype: str = "float32",
) -> None:
    """Write images of (w, h) px as a stack, one at a time and atomically.

    `dtype` is float32, float16, int16, uint16 or int8. Raises RunError when the file cannot be written.
    """
    w, h = size_px
    with atomic_path(path) as temporary:
        mode = _MODE_OF_DTYPE[dtype]
        with mrcfile.new_mmap(temporary, shape=(count, h, w), mrc_mode=mode, overwrite=True) as stack:
            statistics = np.zeros((count, 4))
            for section, image in enumerate(images):
                stack.data[section] = image
                mean = np.mean(image, dtype=np.float64)
                square = np.mean(np.square(image, dtype=np.float64))
                statistics[section] = np.min(image), np.max(image), mean, square
            stack.set_image_stack()
            _sign(stack.header)
            stack.voxel_size = pixel_size_angstrom
            # One section at a time: mrcfile's statistics need the complete stack in double precision.
            _, _, mean, square = np.mean(statistics, axis=0)
            stack.header.dmin, stack.header.dmax = np.min(statistics[:, 0]), np.max(statistics[:, 1])
            stack.header.dmean, stack.header.rms = mean, np.sqrt(max(square - mean**2, 0.0))


def write_volume(path: Path, volume: Float32[Array, "z y x"], pixel_size_angstrom: float) -> None:
    """Write a float32 volume atomically; raises RunError when the file cannot be written."""
    with atomic_path(path) as temporary, mrcfile.new(temporary, overwrite=True) as map_file:
        map_file.set_data(np.ascontiguousarray(volume, dtype=np.float32))
        map_file.set_volume()
        _sign(map_file.header)
        map_file.voxel_size = pixel_size_angstrom


def _sign(header: np.recarray) -> None:
    """Replace mrcfile's label, which contains the time, so that equal content gives equal files."""
    header.label[:] = b""
    header.label[0] = b"Written by tomopolish"
    header.nlabl = 1
