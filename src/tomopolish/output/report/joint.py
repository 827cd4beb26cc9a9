"""What a joint refinement changed besides the geometry, for the figures of a report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tomopolish.output.report.packing import rounded
from tomopolish.results.tomogram import JointRecord
from tomopolish.shapes import Array, Int

BINS = 30


def by_exposure(joint: JointRecord, order: Int[Array, "F"]) -> JointRecord:
    """Return the quantities of the tilt images in an order of the tilt images (indices into the file)."""
    images = tuple(
        replace(q, before=q.before[order], after=q.after[order], error=q.error[order]) for q in joint.images
    )
    return replace(joint, images=images)


def joint_payload(joint: JointRecord) -> dict[str, Any]:
    """Return the data of the figures on orientations and optics."""
    images = joint.images
    return {
        "images": [{"name": q.name, "unit": q.unit} for q in images],
        "before": [rounded(q.before) for q in images],
        "after": [rounded(q.after) for q in images],
        "change": [rounded(q.after - q.before) for q in images],
        "sigma": [rounded(q.error, 3) for q in images],
        "turns": _turns(joint),
    }


def _turns(joint: JointRecord) -> dict[str, Any] | None:
    """Return the number of particles by the angle by which they were turned; None where none was."""
    turned = joint.turned_degrees
    if turned is None or not len(turned) or not turned.any():
        return None
    counts, edges = np.histogram(turned, bins=BINS, range=(0.0, float(turned.max())))
    errors = joint.turn_errors_degrees
    return {
        "edges": rounded(edges, 4),
        "counts": counts.tolist(),
        "error": None if errors is None else rounded(np.median(errors), 3),
    }
