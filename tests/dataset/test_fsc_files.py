"""FSC files: the shells' numbers and values count, whichever columns a program writes beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tomopolish.dataset.project import open_dataset
from tomopolish.dataset.relion.fsc_file import FscCurve, read_fsc
from tomopolish.errors import InputError

CORRECTED = "rlnFourierShellCorrelationCorrected"
BOX, PIXEL = 60, 2.5
VALUES = np.round(np.cos(np.arange(31) / 12.0), 4)


def curve(pixel: float = PIXEL, map_px: int = BOX) -> FscCurve:
    return read_fsc(Path("f.star"), shown_as="f.star", map_px=map_px, pixel_size_angstrom=pixel)


def write(columns: dict[str, list[object]], table: str = "fsc", before: str = "") -> None:
    lines = [before, f"data_{table}", "", "loop_", *[f"_{label}" for label in columns]]
    lines += [" ".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    Path("f.star").write_text("\n".join(lines) + "\n")


def frequencies(box: int = BOX, pixel: float = PIXEL) -> list[str]:
    return [f"{shell / (box * pixel):.6f}" for shell in range(box // 2 + 1)]


def lengths(box: int = BOX, pixel: float = PIXEL, first: str = "999.000000") -> list[str]:
    return [first, *[f"{box * pixel / shell:.6f}" for shell in range(1, box // 2 + 1)]]


INDEX = list(range(31))
LAYOUTS: dict[str, dict[str, list[object]]] = {
    "shells and values alone": {"rlnSpectralIndex": INDEX, CORRECTED: [*VALUES]},
    "values alone": {CORRECTED: [*VALUES]},
    "frequencies": {"rlnResolution": frequencies(), CORRECTED: [*VALUES]},
    "lengths": {"rlnAngstromResolution": lengths(), CORRECTED: [*VALUES]},
    "lengths, the first very large": {"rlnAngstromResolution": lengths(first="150000"), CORRECTED: [*VALUES]},
    "no shell 0": {"rlnSpectralIndex": INDEX[1:], CORRECTED: [*VALUES[1:]]},
    "no shell 0, by frequencies": {"rlnResolution": frequencies()[1:], CORRECTED: [*VALUES[1:]]},
    "no shell 0, by lengths": {"rlnAngstromResolution": lengths()[1:], CORRECTED: [*VALUES[1:]]},
    "unsorted": {"rlnSpectralIndex": INDEX[::-1], CORRECTED: [*VALUES[::-1]]},
    "unset resolution": {"rlnSpectralIndex": INDEX, "rlnResolution": ["?"] * 31, CORRECTED: [*VALUES]},
    "resolution that is none": {"rlnAngstromResolution": ["low"] * 31, CORRECTED: [*VALUES]},
    "one resolution for all": {"rlnAngstromResolution": [7.7] * 31, CORRECTED: [*VALUES]},
    "unset shells": {"rlnSpectralIndex": ["<NA>"] * 31, "rlnResolution": frequencies(), CORRECTED: [*VALUES]},
    "resolutions too small to divide by": {
        "rlnSpectralIndex": INDEX,
        "rlnAngstromResolution": ["1e-308"] * 31,
        CORRECTED: [*VALUES],
    },
    "one frequency too small": {
        "rlnSpectralIndex": INDEX,
        "rlnResolution": [*frequencies()[:-1], "1e-308"],
        CORRECTED: [*VALUES],
    },
    "gold standard": {"rlnSpectralIndex": INDEX, "rlnGoldStandardFsc": [*VALUES]},
    "unmasked maps": {"rlnSpectralIndex": INDEX, "rlnFourierShellCorrelationUnmaskedMaps": [*VALUES]},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(LAYOUTS[name])
    found = curve()
    np.testing.assert_allclose(found.values, VALUES, atol=1e-12)
    assert found.box_px == BOX
    assert len(found.remarks) == (CORRECTED not in LAYOUTS[name])
    for remark in found.remarks:
        assert remark.startswith("f.star, table fsc") and [*LAYOUTS[name]][-1] in remark


def test_a_table_of_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write({"rlnGoldStandardFsc": [*VALUES]}, "model_class_1", "data_model_general\n_rlnPixelSize 2.5\n")
    np.testing.assert_allclose(curve().values, VALUES)


def test_shells_left_out_or_without_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lie between their neighbours; a curve that ends is 0 beyond, and shell 0 is 1."""
    monkeypatch.chdir(tmp_path)
    cells: list[object] = [*VALUES]
    cells[0], cells[7], cells[29], cells[30] = "nan", "?", "nan", "<NA>"
    write({"rlnSpectralIndex": INDEX, CORRECTED: cells})
    expected = VALUES.copy()
    expected[[0, 7, 29, 30]] = 1, (VALUES[6] + VALUES[8]) / 2, 0, 0
    np.testing.assert_allclose(curve().values, expected)
    write({"rlnSpectralIndex": INDEX[:7] + INDEX[8:], CORRECTED: cells[:7] + cells[8:]})
    np.testing.assert_allclose(curve().values, expected)


@pytest.mark.parametrize(
    "columns", [("rlnResolution",), ("rlnAngstromResolution",), ("rlnSpectralIndex", "rlnResolution")]
)
def test_a_resolution_of_another_calibration_does_not_count(
    columns: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    by_label = {
        "rlnSpectralIndex": INDEX,
        "rlnResolution": frequencies(pixel=2.58),
        "rlnAngstromResolution": lengths(pixel=2.58),
    }
    write({**{label: by_label[label] for label in columns}, CORRECTED: [*VALUES]})
    found = curve()
    np.testing.assert_allclose(found.values, VALUES)
    (remark,) = found.remarks
    assert "2.58 Å/px, but the tilt series have 2.5;" in remark


def test_in_the_maps_own_box_any_resolution_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A post-processing that took 1 Å/px for granted."""
    monkeypatch.chdir(tmp_path)
    write({"rlnResolution": frequencies(pixel=1.0), CORRECTED: [*VALUES]})
    found = curve()
    np.testing.assert_allclose(found.values, VALUES)
    assert "1 Å/px, but the tilt series have 2.5" in found.remarks[0]


@pytest.mark.parametrize(("binning", "here"), [(2, 120), (0.5, 30)])
def test_a_curve_of_other_sampling_keeps_its_resolution(
    binning: float, here: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shell i of a box of L Å lies at L/i, binned or not."""
    monkeypatch.chdir(tmp_path)
    write(
        {"rlnSpectralIndex": INDEX, "rlnResolution": frequencies(pixel=PIXEL * binning), CORRECTED: [*VALUES]}
    )
    found = curve(map_px=100)
    assert found.box_px == here and len(found.values) == here // 2 + 1
    common = min(31, here // 2 + 1)
    np.testing.assert_allclose(found.values[:common], VALUES[:common])
    assert not found.values[common:].any()
    assert f"box of 60 px at {PIXEL * binning:g} Å/px" in found.remarks[0]


@pytest.mark.parametrize("shells", [[0, 1, 1, 2], [-1, 0, 1, 2], [0, 1, 2, 10**9]])
def test_shells_that_are_none_are_refused(
    shells: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write({"rlnSpectralIndex": shells, CORRECTED: [1, 0.9, 0.5, 0.1]})
    with pytest.raises(InputError, match=r"rlnSpectralIndex is .*; give every shell once"):
        curve()


def test_the_reference_curve_is_read_as_before(in_golden: Path) -> None:
    references = open_dataset(Path("optimisation_set.star")).references()
    text = [line.split() for line in Path("fsc.star").read_text().splitlines() if line[:1].strip().isdigit()]
    assert references.fsc is not None and references.remarks == ()
    np.testing.assert_array_equal(references.fsc, [float(row[-1]) for row in text])
    assert references.fsc_box == 2 * (len(text) - 1)
