"""Only regular files are read: pipes, devices, sockets and folders are refused at once, and named."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tomopolish.cli.cluster import read_profile
from tomopolish.cli.species import species_from
from tomopolish.dataset.images import open_micrographs, open_stack
from tomopolish.dataset.mrc import read_header, write_volume
from tomopolish.dataset.opening import open_regular, read_small
from tomopolish.dataset.relion.trajectories import read_trajectory_set
from tomopolish.dataset.star import read_star
from tomopolish.errors import InputError, RunError
from tomopolish.run.store import DamagedResultError, ResultsStore
from tomopolish.simulate.truth import read_truth

KINDS = ("pipe", "device", "socket", "folder", "link to a pipe")
READERS: dict[str, Callable[[Path], object]] = {
    "STAR": read_star,
    "MRC": read_header,
    "trajectories": lambda path: read_trajectory_set(path, working_directory=path.parent),
    "species": lambda path: species_from([path], [32]),
    "profile": read_profile,
    "truth": read_truth,
}


@pytest.fixture(params=KINDS)
def odd_file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "odd.yaml"
    if request.param == "folder":
        path.mkdir()
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            before = Path.cwd()
            os.chdir(tmp_path)  # the names of sockets must be short
            try:
                server.bind(path.name)
            finally:
                os.chdir(before)
            yield path
        return
    else:
        is_link = request.param.startswith("link")
        os.mkfifo(tmp_path / "pipe" if is_link else path)
        if is_link:
            path.symlink_to(tmp_path / "pipe")
    yield path


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_what_is_no_regular_file(odd_file: Path, reader: str) -> None:
    with pytest.raises(InputError, match=r"odd\.yaml.*(named pipe|device|socket|folder)"):
        READERS[reader](odd_file)


def test_a_stored_result_of_another_kind_counts_as_damaged(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "TS_01.npz")
    os.mkfifo(tmp_path / "run.json")
    store = ResultsStore(folder=tmp_path)
    assert store.names() == ["TS_01"] and store.run() == {}
    with pytest.raises(DamagedResultError, match="named pipe"):
        store.read("TS_01")


def test_an_image_that_becomes_a_pipe_fails_its_tomogram_only(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.mrc", np.ones((2, 8, 8), dtype=np.float32), 1.0)
    stack = open_stack(tmp_path / "a.mrc", 2, named_in="t.star")
    (tmp_path / "a.mrc").unlink()
    os.mkfifo(tmp_path / "a.mrc")
    with pytest.raises(RunError, match=r"a\.mrc: section 1 .*named pipe"):
        stack.read(0)
    with pytest.raises(RunError, match="named pipe"):
        stack.sections[0][0].read_row(0, 3)


def test_small_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_small(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_small(path, 4)
    path.unlink()
    for read in (open_regular, lambda p: read_small(p, 4)):
        with pytest.raises(FileNotFoundError):
            read(path)


def header_of(path: Path, **fields: int) -> None:
    """Write a header alone, for a file that seems to be as long as it says."""
    header = np.zeros((), dtype=mrcfile.dtypes.HEADER_DTYPE)
    for name, value in {"mode": 2, "map": b"MAP ", "machst": [0x44, 0x44, 0, 0], **fields}.items():
        header[name] = value
    path.write_bytes(header.tobytes())
    size = 1024 + 4 * fields["nx"] * fields["ny"] * fields["nz"]
    os.truncate(path, size)  # takes no space on the disk


def test_sizes_that_no_image_has_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    header_of(tmp_path / "wide.mrc", nx=200_000, ny=200_000, nz=1)
    with pytest.raises(InputError, match=r"wide\.mrc: .*200000 x 200000 px"):
        read_header(tmp_path / "wide.mrc")
    header_of(tmp_path / "deep.mrc", nx=3_000, ny=3_000, nz=3_000)
    with pytest.raises(InputError, match=r"deep\.mrc: 3000 x 3000 x 3000 px are too many"):
        read_header(tmp_path / "deep.mrc").read_volume()


def test_a_file_longer_than_its_header_says_is_warned_of(tmp_path: Path) -> None:
    for name in ("a.mrc", "b.mrc", "c.mrc"):
        write_volume(tmp_path / name, np.ones((1, 8, 8), dtype=np.float32), 1.0)
    assert open_stack(tmp_path / "a.mrc", 1, named_in="t.star").surplus is None
    for name in ("a.mrc", "b.mrc"):
        with (tmp_path / name).open("ab") as handle:
            handle.write(bytes(12))
    images = open_micrographs([(None, tmp_path / f"{n}.mrc") for n in "abc"], named_in="t.star")
    assert images.surplus is not None
    assert "a.mrc is 12 bytes longer than its header says" in images.surplus
    assert "1 more" in images.surplus
