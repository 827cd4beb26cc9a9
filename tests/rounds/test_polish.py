"""`tomopolish polish` on the small project: what it writes is complete, and the next program can use it."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from polish_inputs import without_references

from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.star import read_star

OPTIONS = ["--i", "optimisation_set.star", "--b", "48", "--r", "6", "--no_report"]
TINY = ["--rounds", "1", "--no_joint", "--hold_out", "0"]


def test_the_output_names_the_best_round_with_its_maps(project: Path) -> None:
    assert run(["polish", *OPTIONS, *TINY, "--o", "out"]) == 0
    rounds = read_star(project / "out/rounds.star").table("rounds")
    best = rounds.ints("tomopolishIsBest").tolist().index(1)
    dataset = open_dataset(Path("out/optimisation_set.star"))
    folder = Path(f"out/round{best:02d}/maps")
    assert dataset.files.paths["half map 1"] == project / folder / "half1.mrc"
    assert dataset.files.paths["fsc"] == project / folder / "postprocess.star"
    references = dataset.references()
    assert references.fsc is not None
    assert references.mask is not None
    assert best == 1
    assert dataset.files.paths["particles"] == project / "out/round01/particles.star"
    assert (project / "out/postprocess.mrc").read_bytes() == (
        project / folder / "postprocess.mrc"
    ).read_bytes()


def test_other_commands_find_the_rounds_and_do_not_replace_them(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["polish", *OPTIONS, *TINY, "--o", "out"]) == 0
    capsys.readouterr()
    assert run(["select", "--i", "out", "--o", "selected"]) == 2
    assert "give the best of them, --i out/round01" in capsys.readouterr().err
    assert run(["select", "--i", "out/round01", "--o", "selected"]) == 0
    assert run(["select", "--i", "out", "--scores", "out/round01/scores.star", "--o", "new"]) == 0
    half_map = open_dataset(Path("new/optimisation_set.star")).files.paths["half map 1"]
    assert half_map == project / "out/round01/maps/half1.mrc"
    assert run(["report", "out"]) == 2
    assert "give one of them, such as out/round01" in capsys.readouterr().err
    particles = (project / "out/round01/particles.star").read_bytes()
    for folder in ("out/round01", "out/round00/maps/new"):
        assert run(["align", *OPTIONS, "--o", folder]) == 2
        assert f"--o {folder} belongs to the output of 'tomopolish polish' in out" in capsys.readouterr().err
    assert (project / "out/round01/particles.star").read_bytes() == particles
    assert run(["polish", *OPTIONS, *TINY, "--o", "out/round01/again"]) == 2
    assert "belongs to the output" in capsys.readouterr().err
    assert run(["align", *OPTIONS, "--o", "out/round01", "--overwrite", "--dry_run"]) == 0


def test_failed_tomograms_are_named_at_the_end(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "tilt_series/TS_02.mrcs").unlink()
    (project / "tilt_series/TS_02.mrcs").write_text("no images")
    assert run(["polish", *OPTIONS, *TINY, "--o", "out"]) == 1
    closing = capsys.readouterr().out.partition("Best: round01")[2]
    assert "TS_02 failed in round" in closing
    assert "TS_02.mrcs" in closing
    assert "The exit status is 1, because 1 tomogram failed" in closing


def test_the_postprocess_file_has_the_tables_of_relion(project: Path) -> None:
    assert run(["polish", *OPTIONS, *TINY, "--o", "out"]) == 0
    star = read_star(project / "out/postprocess.star")
    assert star.names == ("general", "fsc", "guinier")
    general, fsc = star.table("general"), star.table("fsc")
    assert Path(str(general.stated("rlnUnfilteredMapHalf1"))).is_file()
    assert Path(str(general.stated("rlnMaskName"))).is_file()
    below = np.flatnonzero(fsc.floats("rlnFourierShellCorrelationCorrected") < 0.143)
    expected = fsc.floats("rlnAngstromResolution")[below[0] - 1]
    assert general.floats("rlnFinalResolution")[0] == pytest.approx(expected, rel=1e-3)
    for label in ("ParticleMaskFraction", "UnmaskedMaps", "MaskedMaps"):
        assert f"rlnFourierShellCorrelation{label}" in fsc
    assert "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps" in fsc
    assert "rlnLogAmplitudesSharpened" in star.table("guinier")


def test_without_references_and_mask_both_are_made(project: Path) -> None:
    without_references(project)
    assert run(["polish", *OPTIONS, *TINY, "--o", "out", "--crop", "40"]) == 0
    with mrcfile.open("out/round00/maps/mask.mrc") as mask:
        assert mask.data.shape == (40, 40, 40)
        assert mask.data.min() == 0
        assert mask.data.max() == 1
    dataset = open_dataset(Path("out/optimisation_set.star"))
    assert dataset.files.paths["mask"] == project / "out/round00/maps/mask.mrc"


def test_the_same_map_twice_is_refused_unless_it_is_limited(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = ["--ref2", "ref_half1.mrc"]
    assert run(["polish", *OPTIONS, *TINY, *same, "--o", "out"]) == 2
    assert "the same map" in capsys.readouterr().err
    assert not (project / "out").exists()
    assert run(["polish", *OPTIONS, *TINY, *same, "--ini_high", "30", "--o", "out"]) == 0


def test_a_dry_run_states_the_disk_space_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["polish", *OPTIONS, "--o", "out", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert "for each round in out" in out
    assert "nothing was written" in out
    assert not (project / "out").exists()
    options = [option for option in OPTIONS if option != "--no_report"]
    assert run(["polish", *options, "--o", "out", "--dry_run"]) == 0
    without, with_report = (
        float(said.partition("Disk: about ")[2].split()[0]) for said in (out, capsys.readouterr().out)
    )
    assert with_report - without == pytest.approx(6.0, abs=0.2)  # MB, for each round


def test_a_new_run_removes_the_rounds_of_the_earlier_one_only_on_request(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["polish", *OPTIONS, "--hold_out", "0", "--no_joint", "--rounds", "2", "--o", "out"]) == 0
    rounds = len(list((project / "out").glob("round*/maps")))
    assert rounds >= 2
    best = (project / "out/optimisation_set.star").read_bytes()
    assert run(["polish", *OPTIONS, *TINY, "--o", "out"]) == 2
    assert "has the rounds of an earlier run: give --only_do_unfinished" in capsys.readouterr().err
    assert len(list((project / "out").glob("round*/maps"))) == rounds
    assert (project / "out/optimisation_set.star").read_bytes() == best
    assert run(["polish", *OPTIONS, *TINY, "--overwrite", "--o", "out", "--sym", "Q9"]) == 2
    assert len(list((project / "out").glob("round*/maps"))) == rounds
    assert run(["polish", *OPTIONS, *TINY, "--overwrite", "--o", "out"]) == 0
    assert sorted(p.name for p in (project / "out").glob("round??")) == ["round00", "round01"]
    own = ["--i", "out/round01/optimisation_set.star", *OPTIONS[2:], *TINY]
    assert (
        run(["polish", *own, "--overwrite", "--o", "out"]) == 2
    )  # its input is one of the rounds it would replace
    assert (project / "out/round01/particles.star").is_file()
