"""Trajectory sets: found by particle name, kept in order and sign, written as RELION writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.trajectories import read_trajectory_set, trajectory_writer
from tomopolish.dataset.star import read_star
from tomopolish.errors import InputError


def read(name: str):
    return read_trajectory_set(Path(name), working_directory=Path.cwd())


def write(path: Path, names: list[str], offsets: np.ndarray) -> None:
    with trajectory_writer(path, count=len(names), version="50001") as writer:
        writer.add(names, offsets)


def test_reference_trajectories(project: Path) -> None:
    trajectories = read("relion/motion/motion.star")
    assert len(trajectories) == 6 and "TS_01/3" in trajectories and "TS_01/7" not in trajectories
    offsets = trajectories.load(["TS_01/2", "TS_01/1"], 11)
    np.testing.assert_array_equal(offsets[1, 0], [-0.00231, 0.008039, -0.00356])
    np.testing.assert_array_equal(offsets[1, 3], [0.007198, 0.006424, 2.956109e-04])
    np.testing.assert_array_equal(offsets[0, 0], [-0.00225, -0.03606, 0.005129])


def test_trajectories_follow_the_particles(in_golden: Path) -> None:
    """In px, by particle, zero in the first exposure, and of the planted motion's sign."""
    dataset = open_dataset(
        Path("optimisation_set.star"),
        tomograms=Path("relion/motion/tomograms.star"),
        particles=Path("relion/motion/particles.star"),
        trajectories=Path("relion/motion/motion.star"),
    )
    truth = json.loads(Path("truth.json").read_text())
    for name in dataset.tomogram_names:
        series, particles = dataset.load(name)
        found = particles.trajectories_px
        assert found is not None and found.shape == (14, 21, 3)
        assert not found[:, series.chronological[0]].any()
        assert dataset.trajectories is not None
        np.testing.assert_allclose(
            found[2] * series.pixel_size_angstrom, dataset.trajectories.load([particles.names[2]], 21)[0]
        )
        true = np.array(truth[name]["traj"])
        relative = [(t - t.mean(axis=0)).ravel() for t in (true, found)]
        assert np.corrcoef(*relative)[0, 1] > 0.3


def test_ours_equal_relions(project: Path) -> None:
    trajectories = read("relion/motion/motion.star")
    names = [f"TS_01/{i}" for i in range(1, 7)]
    offsets = trajectories.load(names, 11)
    write(Path("out.star"), names, offsets)
    np.testing.assert_allclose(read("out.star").load(names, 11), offsets, atol=5e-7)
    ours, theirs = read_star("out.star"), read_star("relion/motion/motion.star")
    assert ours.names == theirs.names
    assert [t.version for t in ours.tables] == [t.version for t in theirs.tables]
    assert [list(t.columns) for t in ours.tables] == [list(t.columns) for t in theirs.tables]
    assert [len(t) for t in ours.tables] == [len(t) for t in theirs.tables]
    assert "-0.000000" not in Path("out.star").read_text()


def test_other_layouts(tmp_path: Path) -> None:
    """No blank first line, Windows line ends, other column order, foreign columns and tables."""
    rows = "1 4 x 7\r\n2 5 y 8\r\n"
    labels = "_rlnOriginXAngst #1\r\n_rlnOriginYAngst #2\r\n_other #3\r\n_rlnOriginZAngst #4\r\n"
    text = f"data_p/1 # first\r\n\r\nloop_\r\n{labels}{rows}\r\n# version 5\r\ndata_p/2\r\n"
    text += f"loop_\r\n{labels}{rows}"
    (tmp_path / "m.star").write_bytes(text.encode())
    offsets = read(str(tmp_path / "m.star")).load(["p/2", "p/1"], 2)
    np.testing.assert_array_equal(offsets, [[[1, 4, 7], [2, 5, 8]]] * 2)


def test_faults_are_named(project: Path) -> None:
    trajectories = read("relion/motion/motion.star")
    with pytest.raises(InputError, match=r"motion.star: there is no trajectory for the particle 'TS_01/9'"):
        trajectories.load(["TS_01/9"], 11)
    with pytest.raises(
        InputError, match=r"table TS_01/1: the trajectory has 11 rows, but the tilt series 12"
    ):
        trajectories.load(["TS_01/1"], 12)
    Path("empty.star").write_text("")
    for name, expected in {
        "empty.star": "no trajectory in this file",
        "absent.star": "file not found",
    }.items():
        with pytest.raises(InputError, match=f"{name}: .*{expected}"):
            read(name)
    text = Path("relion/motion/motion.star").read_text()
    Path("bad.star").write_text(text.replace("-0.00231 ", "nan "))
    with pytest.raises(InputError, match=r"bad.star, table TS_01/1, row 1: rlnOriginXAngst is 'nan'"):
        read("bad.star").load(["TS_01/1"], 11)


@pytest.mark.alone
def test_a_large_set_is_read_and_written_in_seconds(tmp_path: Path) -> None:
    """In a process of its own, without the checks of shapes, which take ten times as long as the reader."""
    shown = subprocess.run(
        [sys.executable, "-c", LARGE_SET, tmp_path / "m.star"], capture_output=True, check=True, text=True
    )
    writing, reading = map(float, shown.stdout.split())
    assert writing < 1.5 and reading < 5


LARGE_SET = """
import sys, time
from pathlib import Path
import numpy as np
from tomopolish.dataset.relion.trajectories import read_trajectory_set, trajectory_writer
path, particles, tilts = Path(sys.argv[1]), 5_000, 41
offsets = np.random.default_rng(0).normal(size=(particles, tilts, 3))
names = [f"TS_{i // 500}/{i}" for i in range(particles)]
start = time.process_time()
with trajectory_writer(path, count=particles, version="50001") as writer:
    writer.add(names, offsets)
written = time.process_time()
found = read_trajectory_set(path, working_directory=Path.cwd()).load(names, tilts)
done = time.process_time()
np.testing.assert_allclose(found, offsets, atol=5.1e-7)
print(written - start, done - written)
"""


def test_blocks_too_short_for_a_trajectory_are_left_out(tmp_path: Path) -> None:
    labels = "".join(f"_rlnOrigin{axis}Angst\n" for axis in "XYZ")
    text = "data_a\n" * 1000 + f"data_b\nloop_\n{labels}1 2 3\n" + "data_c"
    (tmp_path / "m.star").write_text(text)
    trajectories = read(str(tmp_path / "m.star"))
    assert len(trajectories) == 1 and "b" in trajectories and "a" not in trajectories
    assert trajectories.load(["b"], 1).tolist() == [[[1.0, 2.0, 3.0]]]
