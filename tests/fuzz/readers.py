"""Inputs that the readers must survive: any bytes, and bytes with a valid beginning."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from tomopolish.dataset.mrc import read_header
from tomopolish.dataset.relion.optimisation_set import read_optimisation_set
from tomopolish.dataset.relion.particles import read_particle_table
from tomopolish.dataset.relion.tomograms import read_tomogram_set
from tomopolish.dataset.relion.trajectories import read_trajectory_set
from tomopolish.dataset.star import read_star, write_star
from tomopolish.errors import TomopolishError
from tomopolish.run.store import ResultsStore

_CELLS = """1 -1 nan inf 1e999 TS_01 ' "x ; # _rlnTomoName data_ loop_ [1,2,3] [ ../../etc/passwd / $ stop_"""
_LABELS = """_rlnTomoName _rlnTomoTiltSeriesStarFile _rlnTomoParticleName _rlnOriginXAngst _rlnTomoSizeX
_rlnTomoTomogramsFile _rlnTomoParticlesFile _rlnOpticsGroup _ _rln _rlnRandomSubset"""
CELLS = st.sampled_from(
    [*_CELLS.split(), "'a b'", "9" * 400, "é", "\udcff", "000001@a.mrcs", "", "\r", "\x00"]
)
LABELS = st.sampled_from(_LABELS.split())
BLOCKS = st.sampled_from(["", "global", "optics", "particles", "general", "TS_01", "fsc", "TS_01/1"])
SEPARATORS = st.sampled_from([" ", "\t", "\n", "\r\n", "  ", "\n\n", "\n;", "\x0b"])


@st.composite
def star_bytes(draw: st.DrawFn) -> bytes:
    """Text that looks like STAR files, more or less."""
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        labels = draw(st.lists(LABELS, max_size=4))
        heading = draw(st.sampled_from(["loop_\n", "", "loop_ ", "LOOP_\n"]))
        parts.append(f"\ndata_{draw(BLOCKS)}\n{heading}")
        parts += [f"{label} #{i}\n" for i, label in enumerate(labels)]
        for cell in draw(st.lists(CELLS, max_size=12)):
            parts += [cell, draw(SEPARATORS)]
    text = "".join(parts).encode("utf-8", "surrogateescape")
    return text + draw(st.binary(max_size=draw(st.sampled_from([0, 0, 8]))))


@st.composite
def mrc_bytes(draw: st.DrawFn) -> bytes:
    """Headers with some fields that are right and some that are not, and not always all of the data."""
    sizes = [draw(st.sampled_from([0, 1, 4, 5, -1, 2**31 - 1, 2**20])) for _ in range(3)]
    mode = draw(st.sampled_from([0, 1, 2, 3, 4, 6, 12, 101, -1, 7]))
    order = draw(st.sampled_from("<>"))
    header = bytearray(1024)
    struct.pack_into(f"{order}4i", header, 0, *sizes, mode)
    struct.pack_into(f"{order}3i3f", header, 28, *sizes, *[draw(st.floats(width=32)) for _ in range(3)])
    struct.pack_into(f"{order}i", header, 92, draw(st.sampled_from([0, 80, -1, 2**31 - 1])))
    header[208:212] = draw(st.sampled_from([b"MAP ", b"\0\0\0\0", b"MAP\0"]))
    header[212:216] = draw(st.sampled_from([b"DD\0\0", b"\x11\x11\0\0", b"DA\0\0", b"\0\0\0\0"]))
    data = draw(st.integers(0, 600))
    whole = bytes(header) + bytes(data)
    return whole[: draw(st.sampled_from([len(whole), len(whole), 1023, 4, 0]))]


BYTES = st.one_of(st.binary(max_size=200), star_bytes(), mrc_bytes())


def survive_star(content: bytes) -> str:
    """Read bytes as every kind of STAR file; returns how often they passed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.star"
        path.write_bytes(content)
        attempts: list[Callable[[], object]] = [
            lambda: write_star(path.with_name("copy.star"), read_star(path)),
            lambda: read_optimisation_set(path, {}, working_directory=Path(folder)),
            lambda: read_tomogram_set(path, working_directory=Path(folder)),
            lambda: read_particle_table(path, working_directory=Path(folder)).rows_by_tomogram,
            lambda: read_trajectory_set(path, working_directory=Path(folder)).load(["TS_01/1"], 2),
        ]
        return "".join(_attempt(attempt) for attempt in attempts)


def survive_mrc(content: bytes) -> str:
    """Read bytes as an image file, and each of its first sections."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.mrc"
        path.write_bytes(content)

        def read() -> None:
            file = read_header(path)
            for section in range(min(file.shape[0], 3)):
                image = np.empty(file.shape[1:], dtype=np.float32)
                file.read_section_into(section, image)

        return _attempt(read)


def survive_result(content: bytes) -> str:
    """Read bytes as the stored result of a tomogram."""
    with tempfile.TemporaryDirectory() as folder:
        store = ResultsStore(folder=Path(folder))
        store.path("TS_01").write_bytes(content)
        assert store.names() in ([], ["TS_01"])
        return _attempt(lambda: store.load("TS_01"))


def _attempt(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except TomopolishError as problem:
        assert "\n" not in str(problem), str(problem)
        return "-"
    return "+"
