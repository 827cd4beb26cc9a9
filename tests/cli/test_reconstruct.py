"""`tomopolish reconstruct` on the small reference project: what it writes can be read back and used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tomopolish.cli import run
from tomopolish.dataset.project import open_dataset


def test_maps_and_fsc_become_the_references(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mini)
    size = open_dataset(Path("optimisation_set.star")).references().size_px
    options = ["--i", "optimisation_set.star", "--b", str(size), "--o", str(tmp_path)]
    assert run(["reconstruct", *options]) == 0
    found = open_dataset(tmp_path / "optimisation_set.star").references()
    assert found.size_px == size
    assert found.fsc is not None
    assert found.fsc[1:4].mean() > 0.3
    assert (tmp_path / "merged.mrc").exists()


def test_mask_of_another_size_is_refused(
    mini: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mini)
    assert run(["reconstruct", "--i", "optimisation_set.star", "--b", "20", "--o", str(tmp_path)]) == 2
    assert "mask" in capsys.readouterr().err
