"""Particles without names of their own, as in joined sets: names are made, for trajectories as well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from star_edits import copy_row, drop_column, edit, set_cell, set_column
from tomopolish.dataset.check import check_project
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.relion.particle_names import particle_names
from tomopolish.dataset.relion.trajectories import read_trajectory_set
from tomopolish.dataset.species import Project
from tomopolish.dataset.star import StarTable, read_star
from tomopolish.errors import InputError

PARTICLES, TABLE, NAME = "particles.star", "particles", "rlnTomoParticleName"
MOTION = "relion/motion/motion.star"
MADE = tuple(f"TS_01/{number}" for number in range(1, 7))


def rename(*names: str) -> None:
    edit(PARTICLES, TABLE, lambda t: t.with_columns({NAME: names}))


def drop_names() -> None:
    drop_column(PARTICLES, TABLE, NAME)


FAULTS: dict[str, tuple[Callable[[], None], str]] = {
    "no column": (drop_names, "table particles: rlnTomoParticleName is missing"),
    "no values": (lambda: set_column(PARTICLES, TABLE, NAME, "<NA>"), "row 1: rlnTomoParticleName is '<NA>'"),
    "one without": (lambda: set_cell(PARTICLES, TABLE, NAME, 3, ""), "row 4: rlnTomoParticleName is ''"),
    "joined sets": (
        lambda: rename("a/1", "a/2", "a/3", "a/1", "a/2", "a/3"),
        "row 4: rlnTomoParticleName 'a/1' is also that of row 1",
    ),
    "one name for all": (lambda: set_column(PARTICLES, TABLE, NAME, "ribosome"), "row 2: .* that of row 1"),
    "spaces": (lambda: rename("p 1", "p 2", "p 3", "p 4", "p 5", "p 6"), "row 1: .* has spaces"),
}


def written_with_motion(dataset: Dataset, out: str) -> np.ndarray:
    """Write trajectories that differ from particle to particle; returns them, Å."""
    series, particles = dataset.load("TS_01")
    offsets = np.random.default_rng(5).normal(size=(len(particles), len(series), 3))
    offsets[:, series.chronological[0]] = 0
    alignment = Alignment(
        tomogram="TS_01",
        projections_px=series.projections_px,
        rows=particles.rows,
        positions_px=particles.positions_px,
        trajectories_px=offsets / series.pixel_size_angstrom,
    )
    dataset.write(Path(out), {"TS_01": alignment}, motion=True)
    return offsets


@pytest.mark.parametrize("kind", FAULTS)
def test_names_are_made_and_said_once(project: Path, kind: str) -> None:
    change, says = FAULTS[kind]
    change()
    dataset = open_dataset(Path("optimisation_set.star"))
    assert dataset.load("TS_01")[1].names == MADE
    (sentence,) = check_project(Project.of(dataset, 48))
    assert sentence.startswith(PARTICLES) and "named after their tomogram" in sentence
    assert says.partition(".* ")[0] in sentence and says.rpartition(".* ")[2] in sentence


@pytest.mark.parametrize("kind", FAULTS)
def test_without_trajectories_the_column_stays_as_it_was(project: Path, kind: str) -> None:
    FAULTS[kind][0]()
    dataset = open_dataset(Path("optimisation_set.star"))
    dataset.write(Path("out"), {}, motion=False)
    before, after = (read_star(path).table(TABLE) for path in (PARTICLES, "out/particles.star"))
    assert list(after.columns) == list(before.columns)
    assert NAME not in before or after.strings(NAME) == before.strings(NAME)


@pytest.mark.parametrize("kind", FAULTS)
def test_with_trajectories_particles_are_named_as_these(project: Path, kind: str) -> None:
    FAULTS[kind][0]()
    offsets = written_with_motion(open_dataset(Path("optimisation_set.star")), "out")
    assert tuple(read_star("out/particles.star").table(TABLE).strings(NAME)) == MADE
    again = open_dataset(Path("out/optimisation_set.star"))
    assert check_project(Project.of(again, 48)) == []
    np.testing.assert_allclose(again.load("TS_01")[1].trajectories_px, offsets / 4, atol=1e-6)


@pytest.mark.parametrize("kind", FAULTS)
def test_trajectories_of_the_input_need_the_tables_names(project: Path, kind: str) -> None:
    """Both remedies that the message names lead on."""
    FAULTS[kind][0]()
    set_column("optimisation_set.star", "", "rlnTomoTrajectoriesFile", MOTION)
    dataset = open_dataset(Path("optimisation_set.star"))
    with pytest.raises(
        InputError, match="trajectories cannot be found; give every particle the rlnTomoPart"
    ) as caught:
        check_project(Project.of(dataset, 48))
    with pytest.raises(InputError, match="trajectories cannot be found"):
        dataset.load("TS_01")
    assert "leave the trajectories out (--mot, rlnTomoTrajectoriesFile)" in str(caught.value)
    rename(*[f"TS_01/{number}" for number in (6, 5, 4, 3, 2, 1)])
    _, found = open_dataset(Path("optimisation_set.star")).load("TS_01")
    stated = read_trajectory_set(project / MOTION, working_directory=project).load(("TS_01/6",), 11)
    assert found.trajectories_px is not None
    np.testing.assert_allclose(found.trajectories_px[0], stated[0] / 4)
    FAULTS[kind][0]()
    drop_column("optimisation_set.star", "", "rlnTomoTrajectoriesFile")
    assert len(check_project(Project.of(open_dataset(Path("optimisation_set.star")), 48))) == 1


def test_particles_that_are_listed_twice_are_named(project: Path) -> None:
    copy_row(PARTICLES, TABLE, 1)
    copy_row(PARTICLES, TABLE, 4)
    warnings = check_project(Project.of(open_dataset(Path("optimisation_set.star")), 48))
    assert len(warnings) == 2
    assert "2 particles have the tomogram and position of an earlier particle" in warnings[1]


def test_numbers_count_within_each_tomogram() -> None:
    table = StarTable(name=TABLE, columns={"rlnTomoName": ["b", "a c", "b", "a_c"]})
    names = particle_names(table, table.strings("rlnTomoName")).names
    assert names == ["b/1", "a_c/1", "b/2", "a_c/2"]  # all different, and without spaces
