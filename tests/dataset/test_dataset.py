"""A data set as a whole: opened in any combination, written so that it is a data set again."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from star_edits import set_cell
from tomopolish.dataset.model import Alignment
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.dataset.star import StarTable, read_star, write_star
from tomopolish.errors import InputError

SETS = ("optimisation_set.star", "optimisation_set_r4.star")


def moved(dataset: Dataset, name: str, *, motion: bool = False) -> Alignment:
    """An alignment that shifts tilt images and particles, and lets particles move."""
    rng = np.random.default_rng(5)
    series, particles = dataset.load(name)
    matrices = series.projections_px.copy()
    matrices[:, :2, 3] += rng.normal(scale=2, size=(len(series), 2))
    trajectories = rng.normal(size=(len(particles), len(series), 3))
    trajectories -= trajectories[:, series.chronological[:1]]
    return Alignment(
        tomogram=name,
        projections_px=matrices,
        rows=particles.rows,
        positions_px=particles.positions_px + rng.normal(size=(len(particles), 3)),
        trajectories_px=trajectories if motion else None,
    )


@pytest.mark.parametrize("motion", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_what_is_written_is_a_data_set(project: Path, name: str, motion: bool) -> None:
    dataset = open_dataset(Path(name))
    alignment = moved(dataset, "TS_01", motion=motion)
    files = dataset.write(Path("Polish/job010"), {"TS_01": alignment}, motion=motion)
    written = {str(p.relative_to("Polish/job010")) for p in Path("Polish/job010").rglob("*") if p.is_file()}
    expected = {"tomograms.star", "particles.star", "optimisation_set.star"}
    expected |= {"motion.star"} if motion else set()
    expected |= {"tilt_series/TS_01.star"} if name == SETS[0] else set()
    assert written == expected

    again = open_dataset(Path("Polish/job010/optimisation_set.star"))
    assert again.files.paths == files.paths
    series, particles = again.load("TS_01")
    np.testing.assert_allclose(series.projections_px, alignment.projections_px, atol=1e-5)
    np.testing.assert_allclose(particles.positions_px, alignment.positions_px, atol=1e-6)
    if motion:
        assert particles.trajectories_px is not None
        np.testing.assert_allclose(particles.trajectories_px, alignment.trajectories_px, atol=2e-7)
    else:
        assert particles.trajectories_px is None
    assert again.references().size_px == 48
    table = read_star("Polish/job010/optimisation_set.star").tables[0]
    assert table.value("rlnTomoTomogramsFile") == "Polish/job010/tomograms.star"
    assert table.value("rlnTomoParticlesFile") == "Polish/job010/particles.star"
    assert table.value("rlnTomoReferenceMap1File") == "./ref_half1.mrc"  # as it was given
    assert ("rlnTomoTrajectoriesFile" in table) == motion
    assert table.version == "50001"


def test_tomograms_without_result_keep_their_values(in_golden: Path, tmp_path: Path) -> None:
    dataset = open_dataset(Path("optimisation_set.star"))
    alignment = moved(dataset, "TS_02", motion=True)
    dataset.write(tmp_path, {"TS_02": alignment}, motion=True)
    again = open_dataset(tmp_path / "optimisation_set.star")
    before, after = dataset.load("TS_01"), again.load("TS_01")
    np.testing.assert_array_equal(before[0].projections_px, after[0].projections_px)
    np.testing.assert_array_equal(before[1].positions_px, after[1].positions_px)
    assert after[1].trajectories_px is not None and not after[1].trajectories_px.any()
    assert len(again.trajectories or ()) == 28
    found = again.load("TS_02")[1]
    np.testing.assert_allclose(found.positions_px, alignment.positions_px, atol=1e-6)
    np.testing.assert_allclose(found.trajectories_px, alignment.trajectories_px, atol=4e-7)


def test_failed_tomograms_keep_their_trajectories(in_golden: Path, tmp_path: Path) -> None:
    run = Path("relion/motion")
    dataset = open_dataset(
        Path("optimisation_set.star"),
        tomograms=run / "tomograms.star",
        particles=run / "particles.star",
        trajectories=run / "motion.star",
    )
    alignment = moved(dataset, "TS_01", motion=True)
    half = slice(0, None, 2)
    partial = replace(
        alignment,
        rows=alignment.rows[half],
        positions_px=alignment.positions_px[half],
        trajectories_px=None if alignment.trajectories_px is None else alignment.trajectories_px[half],
    )
    dataset.write(tmp_path, {"TS_01": partial}, motion=True)
    again = open_dataset(tmp_path / "optimisation_set.star")
    before, after = dataset.load("TS_02")[1], again.load("TS_02")[1]
    np.testing.assert_allclose(before.trajectories_px, after.trajectories_px, atol=2e-7)
    before, after = dataset.load("TS_01")[1], again.load("TS_01")[1]
    np.testing.assert_allclose(before.trajectories_px[1::2], after.trajectories_px[1::2], atol=2e-7)
    np.testing.assert_allclose(partial.trajectories_px, after.trajectories_px[half], atol=2e-7)
    np.testing.assert_array_equal(before.positions_px[1::2], after.positions_px[1::2])


def test_kept_trajectories_stay_part_of_the_set(project: Path) -> None:
    dataset = open_dataset(Path("optimisation_set.star"), trajectories=Path("relion/motion/motion.star"))
    dataset.write(Path("out"), {"TS_01": moved(dataset, "TS_01")}, motion=False)
    table = read_star("out/optimisation_set.star").tables[0]
    assert table.value("rlnTomoTrajectoriesFile") == "relion/motion/motion.star"
    again = open_dataset(Path("out/optimisation_set.star"))
    np.testing.assert_array_equal(
        again.load("TS_01")[1].trajectories_px, dataset.load("TS_01")[1].trajectories_px
    )


def test_unknown_tables_and_columns_pass_through(project: Path) -> None:
    for name, table in [
        ("particles.star", "particles"),
        ("particles.star", "optics"),
        ("tomograms.star", "global"),
        ("tilt_series/TS_01.star", "TS_01"),
        ("optimisation_set.star", ""),
    ]:
        set_cell(name, table, "rlnFutureThing", 0, "new thing 0012")
    extra = StarTable(name="future", columns={"rlnA": ["1.50", "[1,2]"]}, version="60000")
    write_star("particles.star", [extra, *read_star("particles.star").tables])
    dataset = open_dataset(Path("optimisation_set.star"))
    dataset.write(Path("out"), {"TS_01": moved(dataset, "TS_01")}, motion=False)
    particles = read_star("out/particles.star")
    assert particles.names == ("future", "general", "optics", "particles")
    assert particles.table("future").columns == {"rlnA": ["1.50", "[1,2]"]}
    assert particles.table("future").version == "60000"
    for name, table in [
        ("particles.star", "particles"),
        ("particles.star", "optics"),
        ("tomograms.star", "global"),
        ("tilt_series/TS_01.star", "TS_01"),
        ("optimisation_set.star", ""),
    ]:
        columns = read_star(Path("out") / name).table(table).columns
        assert columns["rlnFutureThing"][0] == "new thing 0012"


def test_components_override_the_optimisation_set(project: Path) -> None:
    dataset = open_dataset(
        Path("optimisation_set.star"),
        tomograms=Path("tomograms_variant.star"),
        ref1=Path("ref_half2.mrc"),
        fsc=project / "fsc.star",
    )
    assert dataset.load("TS_01")[0].hand == 1.0
    assert dataset.files.paths["half map 1"] == project / "ref_half2.mrc"
    dataset.write(Path("out"), {}, motion=False)
    table = read_star("out/optimisation_set.star").tables[0]
    assert table.value("rlnTomoReferenceMap1File") == "ref_half2.mrc"
    assert table.value("rlnTomoReferenceFscFile") == "fsc.star"
    assert table.value("rlnTomoReferenceMap2File") == "./ref_half2.mrc"


def test_components_alone_suffice(project: Path) -> None:
    dataset = open_dataset(
        tomograms=Path("tomograms.star"),
        particles=Path("particles.star"),
        ref1=Path("ref_half1.mrc"),
        ref2=Path("ref_half2.mrc"),
    )
    references = dataset.references()
    assert (
        references.mask is None and references.fsc is None and references.half_maps.shape == (2, 48, 48, 48)
    )
    dataset.write(Path("out"), {}, motion=False)
    table = read_star("out/optimisation_set.star").tables[0]
    assert list(table.columns) == [
        "rlnTomoTomogramsFile",
        "rlnTomoParticlesFile",
        "rlnTomoReferenceMap1File",
        "rlnTomoReferenceMap2File",
    ]
    assert table.name == "" and not table.is_loop


def test_an_optimisation_set_may_be_a_loop(project: Path) -> None:
    old = read_star("optimisation_set.star").tables[0]
    write_star("loop.star", [replace(old, is_loop=True, name="optimisation_set")])
    dataset = open_dataset(Path("loop.star"))
    assert dataset.tomogram_names == ("TS_01",)
    dataset.write(Path("out"), {}, motion=False)
    table = read_star("out/optimisation_set.star").tables[0]
    assert table.is_loop and table.name == "optimisation_set"
    set_cell("loop.star", "optimisation_set", "rlnTomoTrajectoriesFile", 0, "None")
    assert open_dataset(Path("loop.star")).trajectories is None


def test_references_of_the_project(project: Path) -> None:
    references = open_dataset(Path("optimisation_set.star")).references()
    assert references.pixel_size_angstrom == 4.0 and references.size_px == 48
    assert references.fsc is not None and references.fsc_box == 48 and len(references.fsc) == 25
    assert references.fsc[1] == 0.993994
    assert references.mask is not None and references.mask.max() <= 1
    assert not np.array_equal(references.half_maps[0], references.half_maps[1])


def test_started_above_the_project(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All relative names lie beside their files; the result must not depend on that."""
    inside = open_dataset(Path("optimisation_set.star"))
    alignment = moved(inside, "TS_01")
    monkeypatch.chdir(tmp_path)
    dataset = open_dataset(Path("project/optimisation_set.star"))
    dataset.write(Path("results"), {"TS_01": alignment}, motion=False)
    again = open_dataset(Path("results/optimisation_set.star"))
    assert again.references().size_px == 48
    np.testing.assert_allclose(again.load("TS_01")[0].projections_px, alignment.projections_px, atol=1e-5)
    assert read_star("results/optimisation_set.star").tables[0].value("rlnTomoReferenceMaskFile") == (
        "project/mask.mrc"
    )


def test_a_data_set_is_cheap_to_send(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers may have another working directory, and read only what they use."""
    dataset = open_dataset(Path("optimisation_set.star"))
    dataset.load("TS_01")
    sent = pickle.dumps(dataset)
    assert len(sent) < 4000
    monkeypatch.chdir(tmp_path)
    again: Dataset = pickle.loads(sent)
    np.testing.assert_array_equal(again.load("TS_01")[1].positions_px, dataset.load("TS_01")[1].positions_px)
    series = pickle.loads(pickle.dumps(dataset.load("TS_01")[0]))
    np.testing.assert_array_equal(series.images.read(3), dataset.load("TS_01")[0].images.read(3))


def test_alignments_are_asked_for_once(project: Path) -> None:
    """A mapping may load results from disk; each tomogram's is needed in a single place."""
    dataset = open_dataset(Path("optimisation_set.star"))
    asked = []

    class Lazy(dict):
        def get(self, name: str, default: object = None) -> object:
            asked.append(name)
            return super().get(name, default)

    dataset.write(Path("out"), Lazy(TS_01=moved(dataset, "TS_01", motion=True)), motion=True)
    assert asked == ["TS_01"]


def test_a_series_is_never_replaced_by_its_result(project: Path) -> None:
    dataset = open_dataset(Path("optimisation_set.star"))
    before = Path("tilt_series/TS_01.star").read_bytes()
    with pytest.raises(InputError, match="would replace its input"):
        dataset.write(Path(), {"TS_01": moved(dataset, "TS_01")}, motion=False)
    assert Path("tilt_series/TS_01.star").read_bytes() == before


def test_references_are_kept_for_one_call_on_request_and_never_sent_along(mini: Path) -> None:
    dataset = open_dataset(mini / "optimisation_set.star", working_directory=mini)
    kept = dataset.references(keep=True)
    assert len(pickle.dumps(dataset)) < kept.half_maps.nbytes
    assert dataset.references() is kept
    assert dataset.references() is not kept
