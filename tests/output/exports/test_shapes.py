"""Points, tracks and markers: what viewers read is where the particles are."""

from __future__ import annotations

import csv
import json
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tomopolish.output.exports.chimerax import write_marker_tracks, write_markers, write_scene
from tomopolish.output.exports.napari import write_points, write_script, write_tracks
from tomopolish.output.exports.points import picks_path, write_annotation, write_picks
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
    write_markers(tmp_path / "m.cmm", hostile[0], hostile, POSITIONS, [0, 1], 900.0)
    root = ElementTree.parse(tmp_path / "m.cmm").getroot()
    assert root.tag == "marker_set"
    assert root.get("name") == f"{hostile[0]} particles"
    np.testing.assert_allclose(marker_positions(root), POSITIONS, atol=5e-4)
    notes = [m.get("note") for m in root.iter("marker")]
    assert notes == [hostile[0], "___ é"]
    colours = {tuple(m.get(c) for c in "rgb") for m in root.iter("marker")}
    assert len(colours) == 2  # one per half set


def test_marker_tracks_are_chains_in_the_order_of_exposure(tmp_path: Path) -> None:
    write_marker_tracks(tmp_path / "t.cmm", "TS", trails(POSITIONS, OFFSETS, DOSE, 8.0), 900.0)
    root = ElementTree.parse(tmp_path / "t.cmm").getroot()
    moved = POSITIONS[:, None] + 8 * OFFSETS[:, [1, 2, 0]]
    np.testing.assert_allclose(marker_positions(root), moved.reshape(-1, 3), atol=5e-4)
    links = [(link.get("id1"), link.get("id2")) for link in root.iter("link")]
    assert links == [("1", "2"), ("2", "3"), ("4", "5"), ("5", "6")]


def test_a_tomogram_without_particles_has_empty_files(tmp_path: Path) -> None:
    none, no_motion = np.zeros((0, 3)), np.zeros((0, 3, 3))
    write_points(tmp_path / "p.csv", none)
    write_tracks(tmp_path / "t.csv", trails(none, no_motion, DOSE))
    write_markers(tmp_path / "m.cmm", "TS", [], none, [], 900.0)
    write_marker_tracks(tmp_path / "t.cmm", "TS", trails(none, no_motion, DOSE), 900.0)
    assert (tmp_path / "p.csv").read_text() == "index,axis-0,axis-1,axis-2\n"
    assert (tmp_path / "t.csv").read_text() == "track_id,t,z,y,x\n"
    for name in ("m.cmm", "t.cmm"):
        assert not list(ElementTree.parse(tmp_path / name).getroot())


@pytest.mark.parametrize(("edge", "radius"), [(900.0, 40.0), (12000.0, 120.0)])
def test_markers_are_visible_at_the_scale_of_the_tomogram(tmp_path: Path, edge: float, radius: float) -> None:
    write_markers(tmp_path / "m.cmm", "TS", ["a", "b"], POSITIONS, [0, 1], edge)
    write_marker_tracks(tmp_path / "t.cmm", "TS", trails(POSITIONS, 0.01 * OFFSETS, DOSE), edge)
    for name, expected in (("m", radius), ("t", 0.0005 * edge)):
        root = ElementTree.parse(tmp_path / f"{name}.cmm").getroot()
        assert {float(m.get("radius", "")) for m in root.iter("marker")} == {expected}


ROTATIONS = Rotation.from_euler("zxy", [[20, 30, 40], [-70, 5, 100]], degrees=True).as_matrix()


def test_orientations_are_those_from_the_particle_to_the_tomogram(tmp_path: Path) -> None:
    write_picks(tmp_path / picks_path("TS"), "TS", POSITIONS, ROTATIONS, 10.0)
    content = json.loads((tmp_path / "ExperimentRuns/TS/Picks/tomopolish_0_particle.json").read_text())
    assert content["unit"] == "angstrom" and content["run_name"] == "TS" and content["voxel_spacing"] == 10.0
    places = [[point["location"][axis] for axis in "xyz"] for point in content["points"]]
    np.testing.assert_allclose(places, POSITIONS, atol=1e-3)
    matrices = np.array([point["transformation_"] for point in content["points"]])
    np.testing.assert_allclose(matrices[:, :3, :3], ROTATIONS, atol=1e-6)
    np.testing.assert_array_equal(matrices[:, 3], [[0, 0, 0, 1]] * 2)
    write_annotation(tmp_path / "TS.ndjson", POSITIONS / 10, ROTATIONS)
    lines = [json.loads(line) for line in (tmp_path / "TS.ndjson").read_text().splitlines()]
    assert {line["type"] for line in lines} == {"orientedPoint"}
    np.testing.assert_allclose([line["xyz_rotation_matrix"] for line in lines], ROTATIONS, atol=1e-6)
    np.testing.assert_allclose(
        [[line["location"][axis] for axis in "xyz"] for line in lines], POSITIONS / 10, atol=1e-4
    )


@pytest.mark.parametrize("motion", [False, True])
def test_a_command_file_opens_all_files_from_its_own_folder(tmp_path: Path, motion: bool) -> None:
    folder = tmp_path / "chimerax"
    write_picks(tmp_path / "copick" / picks_path("TS 1"), "TS 1", POSITIONS, ROTATIONS, 10.0)
    write_markers(folder / "particles/TS 1.cmm", "TS", ["a", "b"], POSITIONS, [0, 1], 900.0)
    if motion:
        write_marker_tracks(folder / "motion/TS 1.cmm", "TS", trails(POSITIONS, OFFSETS, DOSE), 900.0)
    write_scene(folder, "TS 1", motion=motion, picks=Path("../copick") / picks_path("TS 1"))
    commands = [(folder / f"TS 1{end}.cxc").read_text() for end in ("", "_artiax")]
    opened = [re.findall(r'^open "(.*)"', text, re.MULTILINE) for text in commands]
    assert [len(names) for names in opened] == [1 + motion, 1]
    assert all((folder / name).is_file() for names in opened for name in names)
    assert "artiax start" in commands[1] and "artiax" not in commands[0].lower()


def test_the_script_gives_napari_points_and_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, np.ndarray] = {}

    class Viewer:
        def __init__(self, ndisplay: int) -> None:
            assert ndisplay == 3

        def add_points(self, data: np.ndarray, **_: object) -> None:
            shown["points"] = data

        def add_tracks(self, data: np.ndarray, **_: object) -> None:
            shown["tracks"] = data

    napari = ModuleType("napari")
    napari.Viewer, napari.run = Viewer, lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "napari", napari)
    monkeypatch.setattr(sys, "argv", ["open.py", "TS"])
    write_script(tmp_path / "open.py")
    write_points(tmp_path / "points/TS.csv", POSITIONS[:1])
    write_tracks(tmp_path / "tracks/TS.csv", trails(POSITIONS, OFFSETS, DOSE))
    runpy.run_path(str(tmp_path / "open.py"))
    np.testing.assert_allclose(shown["points"], POSITIONS[:1, ::-1], atol=1e-4)
    assert shown["tracks"].shape == (6, 5)
