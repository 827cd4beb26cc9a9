"""Orientations and optics of a joint refinement in a report."""

from __future__ import annotations

import numpy as np
from made_results import make_result, with_joint

from tomopolish.output.report.gather import tomogram_details
from tomopolish.output.report.payload import details_payload


def test_quantities_of_tilt_images_are_by_exposure_and_all_turns_are_counted() -> None:
    result = with_joint(make_result(6))
    record = result.record
    assert record is not None and record.joint is not None
    details = tomogram_details("TS", result, "better")
    assert details is not None
    shown = details_payload(details)["joint"]
    assert [image["name"] for image in shown["images"]] == ["defocus", "CTF scale", "B factor"]
    order = np.argsort(record.given.pre_exposure)
    defocus = record.joint.images[0]
    np.testing.assert_allclose(shown["before"][0], defocus.before[order], rtol=1e-4)
    np.testing.assert_allclose(shown["change"][0], (defocus.after - defocus.before)[order], atol=1)
    assert shown["change"][1] == [0.0] * 7 and shown["sigma"][0] == [80.0] * 7
    turned = record.joint.turned_degrees
    assert turned is not None
    turns = shown["turns"]
    assert sum(turns["counts"]) == len(turned) and turns["error"] == 0.5
    assert turns["edges"][-1] >= 0.999 * turned.max()


def test_without_a_joint_refinement_there_is_no_such_part() -> None:
    details = tomogram_details("TS", make_result(6), "better")
    assert details is not None and details_payload(details)["joint"] is None
