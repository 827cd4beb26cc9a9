"""The content of a report is that of the result."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_results import IMAGE, PIXEL, make_result, with_scores

from tomopolish.dataset.alignment_errors import AlignmentErrors
from tomopolish.dataset.model import LeftOutTilt
from tomopolish.dataset.scores import EMPTY, LEFT_OUT, NOT_VISIBLE, SHOWS_NOTHING
from tomopolish.output.report import gather
from tomopolish.output.report.gather import sample, tomogram_details, tomogram_summary
from tomopolish.output.report.marks import WEAK
from tomopolish.output.report.packing import packed, page_json, rounded
from tomopolish.output.report.page import figure
from tomopolish.output.report.payload import details_payload
from tomopolish.physics.geometry import project
from tomopolish.results.tomogram import TomogramResult


def unpacked(block: dict[str, Any]) -> np.ndarray:
    """Turn a packed array back into one, as the page's script does."""
    steps = np.frombuffer(base64.b64decode(block["i16"]), dtype="<i2").reshape(block["shape"])
    return np.where(steps == -32768, np.nan, steps * block["step"])


def test_packed_arrays_come_back_to_a_part_in_65000() -> None:
    values = np.random.default_rng(1).normal(size=(4, 5, 2)) * 300
    values[1, 2] = np.nan
    found = unpacked(packed(values))
    np.testing.assert_allclose(found, values, atol=np.nanmax(np.abs(values)) / 65000)
    assert np.isnan(found[1, 2]).all()
    assert not unpacked(packed(np.zeros((2, 3)))).any()
    assert unpacked(packed(np.zeros((0, 3)))).shape == (0, 3)


def test_rounded_numbers_keep_their_digits_and_say_what_is_missing() -> None:
    assert rounded(np.array([[123.456789, np.nan], [1e-7 / 3, np.inf]]), 3) == [
        [123.0, None],
        [3.33e-08, None],
    ]


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "&lt;"])
def test_json_in_a_page_cannot_leave_its_element(text: str) -> None:
    found = page_json({"name": text})
    assert not set("<>&") & set(found)
    assert json.loads(found) == {"name": text}


def test_json_in_a_page_holds_nothing_that_hides_or_turns_text() -> None:
    found = json.loads(page_json({"names": ("\u2028", "\udcff", "\u202eab", "\x1b[2J", "Å")}))
    assert found == {"names": ["\\u2028", "\\xff", "\\u202eab", "\\x1b[2J", "Å"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1234.5, "1234"),
        (-0.01234, "−0.0123"),
        (3.0, "3.00"),
        (1e12, "1.00e+12"),
        (float("nan"), "–"),
    ],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert figure(value) == text


def details(result: TomogramResult):  # type: ignore[no-untyped-def]
    found = tomogram_details("TS", result, "better")
    assert found is not None
    return found


@pytest.mark.parametrize("motion", [False, True])
def test_particles_in_the_images_move_as_the_geometry_says(motion: bool) -> None:
    result = make_result(2, motion=motion)
    record, alignment = result.record, result.alignment
    assert record is not None
    order = np.argsort(record.given.pre_exposure)
    shown = details(result).particles
    start = project(record.given.projections_px, record.given.positions_px)[..., :2]
    for place, tilt in enumerate(order):
        points = alignment.positions_px
        if alignment.trajectories_px is not None:
            points = points + alignment.trajectories_px[:, tilt]
        end = project(alignment.projections_px[tilt : tilt + 1], points)[0, :, :2]
        seen = record.visible[tilt]
        np.testing.assert_allclose(shown.image_positions_px[place, seen], start[tilt, seen])
        np.testing.assert_allclose(
            shown.image_moves_angstrom[place, seen], (end - start[tilt])[seen] * PIXEL, atol=1e-9
        )
        assert np.isnan(shown.image_positions_px[place, ~seen]).all()
    assert (shown.trajectories_angstrom is not None) == motion


def test_tilt_curves_are_by_exposure() -> None:
    result = make_result(3)
    record = result.record
    assert record is not None
    tilts = details(result).tilts
    assert np.all(np.diff(tilts.exposure) > 0)
    for place, row in enumerate(tilts.rows):
        assert record.given.pre_exposure[row - 1] == tilts.exposure[place]
    np.testing.assert_allclose(tilts.angles_before_degrees[:, 2], 85.0)
    np.testing.assert_allclose(sorted(tilts.angles_before_degrees[:, 1]), np.linspace(-50, 50, 7))
    change = tilts.shifts_after_angstrom - tilts.shifts_before_angstrom
    assert np.abs(change).max() < 12 and np.abs(change).min() > 0
    np.testing.assert_allclose(tilts.agreement[:, 0], 0.4)


def test_a_warp_is_shown_at_the_nodes_of_a_grid() -> None:
    result = make_result(4, warp=True)
    warps = details(result).warps
    assert warps is not None and warps.before_angstrom is None and warps.after_angstrom is not None
    assert warps.after_angstrom.shape == (7, gather.WARP_NODES, gather.WARP_NODES, 2)
    deformation = result.alignment.deformation
    assert deformation is not None and result.record is not None
    # The first coefficient of dx and of dy is the displacement of the corner.
    order = np.argsort(result.record.given.pre_exposure)
    corner = deformation.coefficients[order][:, [0, 36]] * PIXEL
    np.testing.assert_allclose(warps.after_angstrom[:, 0, 0], corner)
    assert (warps.x_px[-1], warps.y_px[-1]) == IMAGE
    same = replace(deformation, coefficients=np.tile(deformation.coefficients[:1], (7, 1)))
    once = details(replace(result, alignments=(replace(result.alignment, deformation=same),))).warps
    assert once is not None and once.after_angstrom is not None and len(once.after_angstrom) == 1


def test_of_many_particles_a_sample_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "MOST_PARTICLES", 5)
    shown = details(make_result(5, particles=40, motion=True)).particles
    assert len(shown.names) == len(shown.positions_angstrom) == shown.image_positions_px.shape[1] == 5
    assert shown.total == 40
    assert shown.names[0] == "TS/1" and shown.names[-1] == "TS/40"
    assert len(sample(2001, 2000)) == 2000


def spoilt(result: TomogramResult) -> TomogramResult:
    """The same, with tilt image 3 and particle 5 hardly constrained."""
    alignment = result.alignment
    assert isinstance(alignment.errors, AlignmentErrors)
    shifts, positions = alignment.errors.shifts_angstrom.copy(), alignment.errors.positions_angstrom.copy()
    shifts[2], positions[4] = 30.0, 30.0
    errors = replace(alignment.errors, shifts_angstrom=shifts, positions_angstrom=positions)
    return replace(result, alignments=(replace(alignment, errors=errors),))


def test_rows_to_inspect_are_named_with_reasons_and_probabilities() -> None:
    result = spoilt(make_result(6))
    shown = details(result)
    (tilt,) = shown.tilts_to_inspect
    assert tilt.name.startswith("3 (") and tilt.reasons == (WEAK,) and np.isnan(tilt.probability)
    assert [(p.name, p.reasons) for p in shown.particles_to_inspect] == [("TS/5", (WEAK,))]
    scored = with_scores(
        result, {4: (SHOWS_NOTHING, 0.01), 6: (NOT_VISIBLE, 1.0)}, {1: (EMPTY, 0.02), 5: (LEFT_OUT, 1.0)}
    )
    left_out = (LeftOutTilt(tilt=5, reason="constant"),)
    scored = replace(scored, alignments=(replace(scored.alignment, left_out=left_out),))
    shown = details(scored)
    # A false particle's standard error is the prior's, and no reason of its own.
    assert [(p.name, p.reasons, p.probability) for p in shown.particles_to_inspect] == [
        ("TS/5", (SHOWS_NOTHING,), 0.01),
        ("TS/7", (NOT_VISIBLE,), 1.0),
    ]
    assert [(t.name[0], t.reasons, t.probability) for t in shown.tilts_to_inspect] == [
        ("2", (EMPTY,), 0.02),
        ("3", (WEAK,), 0.99),
        ("6", ("left out: constant",), 1.0),
    ]
    assert details(make_result(6)).tilts_to_inspect == details(make_result(6)).particles_to_inspect == ()


def test_the_histogram_counts_each_visible_particle_once() -> None:
    result = with_scores(make_result(9), {0: (SHOWS_NOTHING, 0.1), 3: (NOT_VISIBLE, 1.0)})
    scores = details(result).scores
    assert scores is not None and details(make_result(9)).scores is None
    assert (scores.good.sum(), scores.flagged.sum()) == (7, 1)
    assert scores.good[-1] == 7 and scores.flagged[0] == 1
    np.testing.assert_allclose(scores.edges[[0, -1]], [0.1, 0.9])
    nothing = with_scores(make_result(9, particles=1), {0: (NOT_VISIBLE, 1.0)})
    assert details_payload(details(nothing))["scores"]["good"] == [0] * (len(scores.edges) - 1)


def test_particles_of_several_species_stand_one_after_another() -> None:
    result = make_result(7)
    whole = result.alignment
    assert whole.errors is not None
    parts = [
        replace(
            whole,
            rows=whole.rows[part],
            positions_px=whole.positions_px[part],
            errors=replace(
                whole.errors,
                positions_angstrom=whole.errors.positions_angstrom[part],
                visible_tilts=whole.errors.visible_tilts[part],
            ),
        )
        for part in (slice(0, 4), slice(4, 9))
    ]
    none = replace(parts[0], rows=np.zeros(0, dtype=np.int64), positions_px=np.zeros((0, 3)), errors=None)
    split = replace(result, alignments=(parts[0], none, parts[1]))
    assert details_payload(details(split)) == details_payload(details(result))
    assert tomogram_summary("TS", split) == tomogram_summary("TS", result)


def test_a_result_without_a_record_has_a_row_and_no_details() -> None:
    result = replace(make_result(8), record=None)
    assert tomogram_details("TS", result, "better") is None
    assert tomogram_summary("TS", result).tilts == 7
