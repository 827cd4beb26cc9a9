"""Trajectory meshes, opened by an independent reader (trimesh)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from tomopolish.dataset.files import unique_file_names
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import open_dataset
from tomopolish.output.meshes import write_meshes, write_trajectory_meshes
from tomopolish.output.trails import exposure_colours

TILTS = 41


def drawn(seed: int, particles: int, step_px: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, random walks in shuffled file order, and the exposure before each image."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, [3000, 4000, 800], (particles, 3))
    steps = rng.normal(size=(particles, TILTS, 3)) * step_px
    steps[:, 0] = 0
    walks = np.cumsum(steps, axis=1)
    order = rng.permutation(TILTS)
    trajectories = np.empty_like(walks)
    trajectories[:, order] = walks
    exposure = np.empty(TILTS)
    exposure[order] = 3.0 * np.arange(TILTS)
    return positions, trajectories, exposure


def test_the_files_hold_a_closed_tube_for_each_particle(tmp_path: Path) -> None:
    positions, trajectories, exposure = drawn(0, 7, 2.0)
    paths = write_trajectory_meshes(tmp_path, "TS_01", positions, trajectories, exposure)
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        "Trajectories/TS_01_x1.ply",
        "Trajectories/TS_01_x8.ply",
    ]
    for path, scale in zip(paths, (1, 8), strict=True):
        mesh = trimesh.load(path, process=False)
        assert mesh.is_watertight and mesh.is_winding_consistent
        bodies = list(mesh.split())
        assert len(bodies) == 7
        reached = positions[:, None] + scale * trajectories
        extent = np.median(np.linalg.norm(np.ptp(scale * trajectories, axis=1), axis=-1))
        slack = 0.05 * extent
        for body, points in zip(
            sorted(bodies, key=lambda b: b.bounds[0, 0]), _by_least_x(reached), strict=True
        ):
            np.testing.assert_allclose(body.bounds, [points.min(axis=0), points.max(axis=0)], atol=slack)


def _by_least_x(points: np.ndarray) -> list[np.ndarray]:
    return sorted(points, key=lambda p: p[:, 0].min())


def test_triangles_face_outwards(tmp_path: Path) -> None:
    """The volume of a straight tube comes out positive, and is that of a three-sided prism with two tips."""
    travelled = np.linspace(0, 60, TILTS)[:, None] * np.array([0.6, 0.0, 0.8])
    exposure = 3.0 * np.arange(TILTS)
    path = write_trajectory_meshes(tmp_path, "a", np.full((1, 3), 50.0), travelled[None], exposure)[0]
    mesh = trimesh.load(path, process=False)
    radius = 0.03 * np.linalg.norm(np.ptp(travelled, axis=0))
    ring = 0.75 * np.sqrt(3) * radius**2
    assert mesh.volume == pytest.approx(ring * (60 + 2 * radius / 3), rel=1e-4)


def test_vertices_are_coloured_by_exposure_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    positions, trajectories, exposure = drawn(1, 1)
    mesh = trimesh.load(
        write_trajectory_meshes(tmp_path, "a", positions, trajectories, exposure)[1], process=False
    )
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3]
    rings = mesh.vertices[1:-1].reshape(TILTS, 3, 3)
    order = np.argsort(exposure)
    np.testing.assert_allclose(rings.mean(axis=1), positions + 8 * trajectories[0, order], atol=1e-3)
    np.testing.assert_array_equal(colours[1:-1:3], exposure_colours(np.sort(exposure)))


def test_the_colours_grow_lighter_also_for_the_colour_blind() -> None:
    """Lightness grows evenly; blue against yellow is what red- and green-blind eyes keep (Viénot 1999)."""
    linear = (exposure_colours(np.linspace(0, 1, 11)) / 255.0) ** 2.2
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.cbrt(luminance)
    assert (np.diff(lightness) > 0.4 * np.diff(lightness).mean()).all()
    blind = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])
    seen = np.cbrt(np.clip(linear @ blind.T, 0, None))
    assert (np.linalg.norm(np.diff(seen, axis=0), axis=-1) > 0.03).all()


def test_what_does_not_move_is_a_small_mark(tmp_path: Path) -> None:
    positions, trajectories, exposure = drawn(2, 2)
    trajectories[0] = 0
    trajectories[1, :, 1:] = 0
    trajectories[1, np.argsort(exposure), 0] = np.arange(TILTS) % 2  # there and back again
    for path in write_trajectory_meshes(tmp_path, "a", positions, trajectories, exposure):
        mesh = trimesh.load(path, process=False)
        assert np.isfinite(mesh.vertices).all()
        still = mesh.vertices[: len(mesh.vertices) // 2]
        assert np.linalg.norm(still - positions[0], axis=-1).min() > 0.05
        assert np.linalg.norm(still - positions[0], axis=-1).max() < 1


def test_thousands_of_trajectories_fit_into_little_space(tmp_path: Path) -> None:
    """Under 16 MB for 3,000 trajectories of 41 points."""
    path = write_trajectory_meshes(tmp_path, "a", *drawn(3, 3000))[0]
    assert path.stat().st_size < 16e6
    mesh = trimesh.load(path, process=False)
    assert len(mesh.vertices) == 3000 * (3 * TILTS + 2)
    assert len(mesh.faces) == 3000 * 6 * TILTS


@pytest.mark.parametrize("name", ["../../etc/x", "/tmp/x", "..", "a b/c", "Ä\n", "", "C:\\x", "x" * 400])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    paths = write_trajectory_meshes(out, unique_file_names([name])[name], *drawn(4, 1))
    files = {p for p in tmp_path.rglob("*") if p.is_file()}
    assert files == set(paths)
    assert all(p.parent == out / "Trajectories" for p in paths)


def test_names_that_look_alike_as_files_do_not_overwrite_each_other() -> None:
    names = unique_file_names(["a/b", "a_b", "A_B", "c", "a_b_2"])
    assert names["a/b"] == "a_b" and names["c"] == "c"
    assert len({n.casefold() for n in names.values()}) == 5


def test_a_run_leaves_meshes_of_the_particles_that_move(mini: Path, tmp_path: Path) -> None:
    """At the refined positions of each tomogram that has trajectories, and of no other."""
    dataset = open_dataset(mini / "optimisation_set.star", working_directory=mini)
    name = dataset.tomogram_names[0]
    series, particles = dataset.load(name)
    offsets = np.zeros((len(particles), len(series), 3))
    offsets[:, series.chronological] = np.linspace(0, 2, len(series))[:, None]
    still = Alignment(
        tomogram=name,
        projections_px=series.projections_px,
        rows=particles.rows,
        positions_px=particles.positions_px,
    )
    write_meshes(tmp_path / "still", dataset, {name: still})
    assert not (tmp_path / "still").exists()
    write_meshes(tmp_path, dataset, {name: replace(still, trajectories_px=offsets)})
    for scale in (1, 8):
        mesh = trimesh.load(tmp_path / "Trajectories" / f"{name}_x{scale}.ply", process=False)
        reached = particles.positions_px[:, None] + scale * offsets
        points = reached.reshape(-1, 3)
        np.testing.assert_allclose(mesh.bounds, [points.min(axis=0), points.max(axis=0)], atol=0.2 * scale)
