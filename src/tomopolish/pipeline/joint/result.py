"""Views and optics of a joint refinement in a tomogram's result, with their standard errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tomopolish.dataset.alignment_errors import AlignmentErrors
from tomopolish.dataset.model import Alignment, RefinedOptics, Tomogram
from tomopolish.imaging.derivatives import ASTIGMATISM, BFACTOR, DEFOCUS, PHASE_SHIFT, SCALE
from tomopolish.physics.optics import TiltCtf
from tomopolish.pipeline.joint.priors import ORIENTATIONS
from tomopolish.pipeline.joint.refine import JointFit
from tomopolish.results.tomogram import ImageQuantity, JointRecord, TomogramResult
from tomopolish.shapes import Array, Float


def with_views(
    result: TomogramResult, joint: JointFit, given: Tomogram, ctf: TiltCtf, blur_angstrom2: float
) -> TomogramResult:
    """Return a result with the refined orientations and optics, their errors and their record.

    Parameters
    ----------
    given
        The input.
    ctf
        Refined optics.
    blur_angstrom2
        Variance of pairs' 2D positions, both axes together, and what blurs as errors of orientations do.
    """
    sigmas, shared = (with_blur(errors, blur_angstrom2) for errors in (joint.sigmas, joint.shared))
    joint = replace(joint, sigmas=sigmas, shared=shared)
    turned = None
    if ORIENTATIONS in joint.sigmas:
        turned = np.rad2deg(np.linalg.norm(joint.state.turns(given), axis=1))
    alignments = tuple(
        _with_views(alignment, joint, ctf, part, turned)
        for alignment, part in zip(result.alignments, given.parts, strict=True)
    )
    assert result.record is not None
    record = replace(result.record, joint=_record(alignments, joint, given.series.ctf, ctf, turned))
    return replace(result, alignments=alignments, record=record)


def with_blur(sigmas: Mapping[str, Array], variance_angstrom2: float) -> dict[str, Array]:
    """Return standard errors in which that of B factors allows for errors of the pairs' positions and views.

    As far as the images' noise caused them, B factors have been put right (`without_overfitting`). Others
    blur like a B factor of 4π² times their variance: those of motion and warps that no model has, and of the
    half maps. Any part of that, more or less, is taken as equally likely.
    """
    blurred = dict(sigmas)
    if BFACTOR in blurred:
        largest, sigma = 4 * np.pi**2 * variance_angstrom2, blurred[BFACTOR]
        blurred[BFACTOR] = np.where(sigma > 0, np.sqrt(sigma**2 + largest**2 / 3), 0.0)
    return blurred


def _with_views(
    alignment: Alignment, joint: JointFit, ctf: TiltCtf, part: slice, turned: Float[Array, "P"] | None
) -> Alignment:
    """Return the alignment of some particles with their orientations and the optics."""
    chosen, scores, own_turns = joint.chosen, alignment.scores, None if turned is None else turned[part]
    defocus = np.stack([ctf.defocus_u_angstrom, ctf.defocus_v_angstrom], axis=-1)
    return replace(
        alignment,
        rotations=joint.state.rotations[part] if ORIENTATIONS in chosen else None,
        optics=RefinedOptics(
            defocus_angstrom=defocus if DEFOCUS in chosen or ASTIGMATISM in chosen else None,
            astigmatism_degrees=ctf.defocus_angle_degrees if ASTIGMATISM in chosen else None,
            phase_shift_degrees=ctf.phase_shift_degrees if PHASE_SHIFT in chosen else None,
            scale=ctf.scale if SCALE in chosen else None,
            bfactor_angstrom2=ctf.bfactor_angstrom2 if BFACTOR in chosen else None,
        ),
        errors=alignment.errors and _with_errors(alignment.errors, joint, part),
        scores=scores and replace(scores, particles=replace(scores.particles, turned_degrees=own_turns)),
        warnings=(*alignment.warnings, *joint.warnings),
    )


def _with_errors(errors: AlignmentErrors, joint: JointFit, part: slice) -> AlignmentErrors:
    """Return the errors with those of what was asked for."""
    of, shared = joint.sigmas.get, joint.shared.get
    turns, half = of(ORIENTATIONS), of(ASTIGMATISM)
    return replace(
        errors,
        orientations_degrees=None if turns is None else turns[part],
        defocus_angstrom=of(DEFOCUS),
        astigmatism_angstrom=None if half is None else 2 * half,
        phase_shift_degrees=of(PHASE_SHIFT),
        relative_scale=of(SCALE),
        bfactor_angstrom2=of(BFACTOR),
        shared_relative_scale=shared(SCALE),
        shared_bfactor_angstrom2=shared(BFACTOR),
    )


_QUANTITIES = (
    (DEFOCUS, "defocus", "Å", "defocus_angstrom"),
    (ASTIGMATISM, "astigmatism", "Å", "astigmatism_angstrom"),
    (PHASE_SHIFT, "phase shift", "°", "phase_shift_degrees"),
    (SCALE, "CTF scale", "", "relative_scale"),
    (BFACTOR, "B factor", "Å²", "bfactor_angstrom2"),
)
"""Unknown, name, unit, and field of `AlignmentErrors`."""


def _record(
    alignments: tuple[Alignment, ...],
    joint: JointFit,
    before: TiltCtf,
    after: TiltCtf,
    turned: Float[Array, "P"] | None,
) -> JointRecord:
    """Return what was refined, before and after."""
    errors = [alignment.errors for alignment in alignments if alignment.errors is not None]
    images = []
    for unknown, name, unit, field in _QUANTITIES:
        if unknown not in joint.sigmas:
            continue
        was, value = _values(before, unknown), _values(after, unknown)
        stated = getattr(errors[0], field) if errors else None
        error = np.zeros(len(value)) if stated is None else stated
        together = joint.shared.get(unknown, np.zeros(len(value)))
        if unknown == SCALE:
            error, together = error * value, together * value
        known = together[error > 0]
        shared = float(np.median(known)) if len(known) else 0.0
        images.append(
            ImageQuantity(name=name, unit=unit, before=was, after=value, error=error, shared=shared)
        )
    turn_errors = None
    if turned is not None:
        parts = [e.orientations_degrees for e in errors if e.orientations_degrees is not None]
        turn_errors = np.linalg.norm(np.concatenate(parts), axis=1) if parts else np.zeros(len(turned))
    return JointRecord(turned_degrees=turned, turn_errors_degrees=turn_errors, images=tuple(images))


def _values(ctf: TiltCtf, unknown: str) -> Float[Array, "F"]:
    """Return what figures show of an unknown of the optics."""
    u, v = ctf.defocus_u_angstrom, ctf.defocus_v_angstrom
    values: dict[str, Array] = {
        DEFOCUS: (u + v) / 2,
        ASTIGMATISM: u - v,
        PHASE_SHIFT: ctf.phase_shift_degrees,
        SCALE: ctf.scale,
        BFACTOR: ctf.bfactor_angstrom2,
    }
    return values[unknown]
