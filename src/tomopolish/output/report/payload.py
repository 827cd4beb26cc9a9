"""A tomogram's details and the overview as JSON for the scripts of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tomopolish.output.report.data import (
    RunSummary,
    ScoreHistogram,
    TomogramDetails,
    TomogramSummary,
    WarpGrids,
)
from tomopolish.output.report.packing import grey_block, packed, rounded
from tomopolish.output.summary import NO_EVIDENCE
from tomopolish.results.tomogram import BinnedAgreement, JointRecord, MapComparison, TiltPicture
from tomopolish.shapes import Array, Float32

TURN_BINS = 30


def details_payload(details: TomogramDetails) -> dict[str, Any]:
    """Return the data of all figures of one tomogram."""
    tilts, particles = details.tilts, details.particles
    return {
        "pixel": details.particles.pixel_size_angstrom,
        "tilts": {
            "rows": list(tilts.rows),
            "exposure": rounded(tilts.exposure),
            "angle": rounded(tilts.angles_after_degrees[:, 1]),
        },
        "shifts": {
            "before": rounded(tilts.shifts_before_angstrom.T),
            "after": rounded(tilts.shifts_after_angstrom.T),
            "change": rounded((tilts.shifts_after_angstrom - tilts.shifts_before_angstrom).T),
            "sigma": rounded(tilts.shift_errors_angstrom.T, 3),
        },
        "angles": {
            "before": rounded(tilts.angles_before_degrees.T, 6),
            "after": rounded(tilts.angles_after_degrees.T, 6),
            "change": rounded(tilts.turned_degrees.T),
            "sigma": rounded(tilts.angle_errors_degrees.T, 3),
        },
        "agreement": rounded(tilts.agreement.T, 4),
        "particles": {
            "names": list(particles.names),
            "total": particles.total,
            "image": list(particles.image_size_px),
            "at": packed(particles.image_positions_px),
            "moved": packed(particles.image_moves_angstrom),
            "position": packed(particles.positions_angstrom),
            "change": packed(particles.moves_angstrom),
            "sigma": rounded(np.linalg.norm(particles.errors_angstrom, axis=1), 3),
            "motion": None
            if particles.trajectories_angstrom is None
            else packed(particles.trajectories_angstrom),
            "agreement": rounded(particles.agreement, 3),
            "flagged": particles.flagged.tolist(),
        },
        "warps": None if details.warps is None else _warps(details.warps),
        "windows": {
            "step": details.window_step_angstrom,
            "before": packed(details.windows_before),
            "after": packed(details.windows_after),
        },
        "objective": rounded(details.objective, 12),
        "scores": None if details.scores is None else _scores(details.scores),
        "shells": _binned(details.by_frequency),
        "depth": _binned(details.by_depth),
        "defocus": _binned(details.by_defocus),
        "picture": None if details.picture is None else _picture(*details.picture),
        "joint": None if details.joint is None else _joint(details.joint),
    }


def _binned(curve: BinnedAgreement | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    before, after = rounded(curve.agreement.T, 4)
    return {
        "centre": rounded(curve.centres),
        "before": before,
        "after": after,
        "error": rounded(curve.error, 2),
    }


def _picture(place: int, picture: TiltPicture) -> dict[str, Any]:
    return {"place": place, "bin": picture.bin_px, **grey_block(picture.grey)}


def _scores(scores: ScoreHistogram) -> dict[str, Any]:
    return {
        "edges": rounded(scores.edges, 4),
        "good": scores.good.tolist(),
        "flagged": scores.flagged.tolist(),
        "threshold": rounded(np.asarray(scores.threshold), 4),
    }


def _warps(warps: WarpGrids) -> dict[str, Any]:
    return {
        "x": rounded(warps.x_px),
        "y": rounded(warps.y_px),
        "before": None if warps.before_angstrom is None else packed(warps.before_angstrom),
        "after": None if warps.after_angstrom is None else packed(warps.after_angstrom),
    }


def _joint(joint: JointRecord) -> dict[str, Any]:
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
    counts, edges = np.histogram(turned, bins=TURN_BINS, range=(0.0, float(turned.max())))
    errors = joint.turn_errors_degrees
    return {
        "edges": rounded(edges, 4),
        "counts": counts.tolist(),
        "error": None if errors is None else rounded(np.median(errors), 3),
    }


def overview_payload(run: RunSummary, links: Mapping[str, str]) -> dict[str, Any]:
    """Return the data of all figures of the overview; `links`: tomogram → its page or part."""
    return {
        "tomograms": {
            **_columns(run.tomograms),
            "link": [links.get(t.name) for t in run.tomograms],
            "verdict": [run.verdict_on(t.name) for t in run.tomograms],
        },
        "maps": None if run.maps is None else _maps(run.maps),
    }


def _columns(tomograms: Sequence[TomogramSummary]) -> dict[str, Any]:
    figures = [t.statistics for t in tomograms]
    evidence = [s.evidence or NO_EVIDENCE for s in figures]
    numbers = {
        "before": [e.agreement_before for e in evidence],
        "after": [e.agreement_after for e in evidence],
        "agreement_error": [e.agreement_error for e in evidence],
        "gain": [s.gain_per_visible_pair for s in figures],
        "held_out": [e.gain_per_pair for e in evidence],
        "held_out_error": [e.standard_error_per_pair for e in evidence],
        "shift": [s.rms_shift_angstrom for s in figures],
        "position": [s.rms_position_angstrom for s in figures],
        "angle": [s.rms_angle_degrees for s in figures],
        "shift_error": [t.shift_error_angstrom for t in tomograms],
        "position_error": [t.position_error_angstrom for t in tomograms],
    }
    columns = {key: rounded(np.asarray(values), 4) for key, values in numbers.items()}
    return {"name": [t.name for t in tomograms], **columns}


def _maps(maps: MapComparison) -> dict[str, Any]:
    return {
        "frequency": rounded(maps.frequency_per_angstrom),
        "before": rounded(maps.before, 4),
        "after": rounded(maps.after, 4),
        **({} if maps.slices is None else _slices(maps.slices)),
    }


def _slices(slices: Float32[Array, "2 3 s s"]) -> dict[str, Any]:
    """Return the slices before and after in grey, on one scale each that the bright parts determine."""
    grey = []
    for row in slices:
        dark, bright = np.percentile(row, (1.0, 99.8))
        scaled = np.clip((row - dark) / max(bright - dark, np.finfo(np.float32).tiny), 0, 1)
        grey.append([grey_block(np.round(255 * plane).astype(np.uint8)) for plane in scaled])
    return {"slices": grey, "size": slices.shape[-1]}
