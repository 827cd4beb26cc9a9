"""Points, tracks and markers: what viewers read is where the particles are."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tomopolish.output.exports.chimerax import write_marker_tracks, write_markers
from tomopolish.output.exports.napari import write_points, write_tracks
from tomopolish.output.trails import trails

POSITIONS = np.array([[10.0, 20.0, 30.0], [400.5, 0.25, 7.125]])
DOSE = np.array([6.0, 0.0, 3.0])
OFFSETS = np.array([[[2.0, 0, 0], [0, 0, 0], [1.0, 0, 0]], [[0, 0, -4.0], [0, 0, 0], [0, 3.0, 0]]])
"""Of two particles in three images, the second of which was exposed first."""


def test_points_are_voxels_in_the_order_of_napari(tmp_path: Path) -> None:
    write_points(tmp_path / "p.csv", POSITIONS, voxel_px=4.0)
    with (tmp_path / "p.csv").open(newline="") as handle:
        header, *rows = csv.reader(handle)
    assert header == ["index", "axis-0", "axis-1", "axis-2"]
    table = np.array(rows, dtype=float)
    np.testing.assert_array_equal(table[:, 0], [0, 1])
    np.testing.assert_allclose(table[:, 1:], POSITIONS[:, ::-1] / 4, atol=5e-5)


def test_tracks_run_in_the_order_of_exposure(tmp_path: Path) -> None:
    write_tracks(tmp_path / "t.csv", trails(POSITIONS, OFFSETS, DOSE, 10.0), voxel_px=2.0)
    assert (tmp_path / "t.csv").read_text().startswith("track_id,t,z,y,x\n")
    table = np.loadtxt(tmp_path / "t.csv", delimiter=",", skiprows=1)
    np.testing.assert_array_equal(table[:, :2], [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]])
    moved = POSITIONS[:, None] + 10 * OFFSETS[:, [1, 2, 0]]
    np.testing.assert_allclose(table[:, 2:], moved.reshape(-1, 3)[:, ::-1] / 2, atol=5e-5)


def marker_positions(root: ElementTree.Element) -> np.ndarray:
    return np.array([[float(m.get(axis, "")) for axis in "xyz"] for m in root.iter("marker")])


def test_markers_carry_names_that_no_xml_can_break(tmp_path: Path) -> None:
    hostile = ["TS/1 \"<&>'", "\x00\x1b\ud800 é"]
    write_markers(tmp_path / "m.cmm", hostile[0], hostile, POSITIONS, [0, 1])
    root = ElementTree.parse(tmp_path / "m.cmm").getroot()
    assert root.tag == "marker_set"
    assert root.get("name") == f"{hostile[0]} particles"
    np.testing.assert_allclose(marker_positions(root), POSITIONS, atol=5e-4)
    notes = [m.get("note") for m in root.iter("marker")]
    assert notes == [hostile[0], "___ é"]
    colours = {tuple(m.get(c) for c in "rgb") for m in root.iter("marker")}
    assert len(colours) == 2  # one per half set


def test_marker_tracks_are_chains_in_the_order_of_exposure(tmp_path: Path) -> None:
    write_marker_tracks(tmp_path / "t.cmm", "TS", trails(POSITIONS, OFFSETS, DOSE, 8.0))
    root = ElementTree.parse(tmp_path / "t.cmm").getroot()
    moved = POSITIONS[:, None] + 8 * OFFSETS[:, [1, 2, 0]]
    np.testing.assert_allclose(marker_positions(root), moved.reshape(-1, 3), atol=5e-4)
    links = [(link.get("id1"), link.get("id2")) for link in root.iter("link")]
    assert links == [("1", "2"), ("2", "3"), ("4", "5"), ("5", "6")]


def test_a_tomogram_without_particles_has_empty_files(tmp_path: Path) -> None:
    none, no_motion = np.zeros((0, 3)), np.zeros((0, 3, 3))
    write_points(tmp_path / "p.csv", none)
    write_tracks(tmp_path / "t.csv", trails(none, no_motion, DOSE))
    write_markers(tmp_path / "m.cmm", "TS", [], none, [])
    write_marker_tracks(tmp_path / "t.cmm", "TS", trails(none, no_motion, DOSE))
    assert (tmp_path / "p.csv").read_text() == "index,axis-0,axis-1,axis-2\n"
    assert (tmp_path / "t.csv").read_text() == "track_id,t,z,y,x\n"
    for name in ("m.cmm", "t.cmm"):
        assert not list(ElementTree.parse(tmp_path / name).getroot())
