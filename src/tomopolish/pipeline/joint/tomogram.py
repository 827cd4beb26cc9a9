"""A refined geometry, refined further together with views and optics, and finished on windows made again.

See docs/dev/conventions.md, Joint refinement.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from tomopolish.dataset.model import Tomogram
from tomopolish.dataset.screening import without_lost
from tomopolish.imaging.devices import acquire_correlator
from tomopolish.pipeline.evidence import held_out_that_show
from tomopolish.pipeline.fit import Fit, fit_geometry
from tomopolish.pipeline.intensity import factors_without_noise
from tomopolish.pipeline.joint.held_out import HeldOutPairs
from tomopolish.pipeline.joint.images import JointImages
from tomopolish.pipeline.joint.priors import ORIENTATIONS
from tomopolish.pipeline.joint.refine import JointFit, optics_of, refine_jointly
from tomopolish.pipeline.joint.result import with_views
from tomopolish.pipeline.joint.search import Placed, place_again
from tomopolish.pipeline.joint.state import JointState
from tomopolish.pipeline.premises import (
    error_angstrom,
    examine,
    moved_angstrom,
    with_findings,
)
from tomopolish.pipeline.problem import join_windows, refined_deformation, with_widths_from_input
from tomopolish.pipeline.record import fit_record
from tomopolish.pipeline.references import PreparedReferences
from tomopolish.pipeline.resources import Resources
from tomopolish.pipeline.result import refined_geometry, solution
from tomopolish.pipeline.windows import correlation_windows, without_tilts
from tomopolish.results.tomogram import BinnedAgreement, FitRecord, MotionTrial, TomogramResult
from tomopolish.settings.alignment import AlignSettings
from tomopolish.shapes import Array, Bool, Float
from tomopolish.solve.outliers import PERHAPS, SHOWN
from tomopolish.solve.uncertainty import expected_curvature

WINDOW_BYTES, FREED = 2, 2
"""Memory of one sample of a window (`imaging.packed`), and of what a fit gives up, in windows: it also has
surfaces at other resolutions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedFirst:
    """What a joint refinement needs of the geometry's fit, whose windows are no longer needed.

    Attributes
    ----------
    given
        The input.
    tomogram
        The input with refined geometry, motion and warp.
    visible, held_out
        Pairs that are likely to show what is predicted, and those of them that are held out.
    pair_weights
        See `JointImages`.
    scales, best_scales
        Factor by which each species' references were multiplied, and the one that fits the images best.
    warnings
        Of the fit.
    motion
        What became of motion that was tried; None where it was not.
    doubts, moved_angstrom
        Doubts about the evidence, and how far the fit moved pairs in the images.
    windows_bytes
        Memory that the windows of visible pairs took.
    placed
        What the fit says of where particles may be.
    """

    given: Tomogram
    tomogram: Tomogram
    visible: Bool[Array, "F P"]
    pair_weights: Float[Array, "F P"]
    held_out: HeldOutPairs | None
    scales: tuple[float, ...]
    best_scales: tuple[float, ...]
    record: FitRecord
    evaluations: int
    warnings: tuple[str, ...]
    motion: MotionTrial | None
    doubts: tuple[str, ...]
    moved_angstrom: float
    windows_bytes: int
    placed: Placed


def before_joint(
    fit: Fit, references: Sequence[PreparedReferences], settings: AlignSettings, threads: int
) -> RefinedFirst:
    """Return what remains of a fit when its windows are given up."""
    problem, vector = fit.refinement.problem, fit.refinement.vector
    geometry = refined_geometry(fit, expected_curvature(problem, vector, fit.windows.power), settings)
    deformation = refined_deformation(problem, vector, settings)
    series, species = fit.tomogram.series, []
    if deformation is not None:
        series = replace(series, deformation=deformation)
    for particles, part in zip(fit.tomogram.species, fit.tomogram.parts, strict=True):
        paths = None if geometry.trajectories_px is None else geometry.trajectories_px[part]
        species.append(replace(particles, positions_px=geometry.positions_px[part], trajectories_px=paths))
    windows, probable = fit.windows, problem.pair_weights
    if probable is None:
        probable = np.ones(windows.visible.shape)
    held = held_out_that_show(windows, problem)
    record = fit_record(fit, threads)
    return RefinedFirst(
        given=fit.tomogram,
        tomogram=Tomogram(
            series=replace(series, projections_px=geometry.projections_px), species=tuple(species)
        ),
        visible=taking_part(windows.visible, probable),
        pair_weights=probable if windows.tempering is None else probable * windows.tempering,
        held_out=None if held is None else HeldOutPairs(tilts=held.tilts, particles=held.particles),
        scales=fit.applied,
        best_scales=fit.scales,
        record=record,
        evaluations=fit.refinement.evaluations,
        warnings=fit.warnings,
        motion=fit.motion,
        doubts=examine(fit, record, settings, references),
        moved_angstrom=moved_angstrom(fit),
        placed=Placed.of(fit),
        windows_bytes=WINDOW_BYTES * int(windows.visible.sum()) * int(np.prod(windows.values.shape[2:])),
    )


def taking_part(visible: Bool[Array, "F P"], probable: Float[Array, "F P"]) -> Bool[Array, "F P"]:
    """Return the pairs of images that show any particle with particles that may be shown.

    Other images and particles keep their input.
    """
    shown = np.asarray((visible & (probable >= SHOWN)).any(axis=1))
    return visible & (probable >= PERHAPS) & shown[:, None]


def align_jointly(
    first: RefinedFirst,
    references: Sequence[PreparedReferences],
    weights: Sequence[Float[Array, "G s c"] | None],
    settings: AlignSettings,
    resources: Resources,
) -> TomogramResult:
    """Refine views and optics with the geometry, then the geometry alone on windows made again.

    Parameters
    ----------
    weights
        Frequency weights of each species.
    """
    given, tomogram = first.given, first.tomogram
    # Priors of positions and orientations count from the input; motion and warp are those that were refined.
    origin = replace(
        tomogram,
        series=replace(tomogram.series, projections_px=given.series.projections_px),
        species=tuple(
            replace(particles, positions_px=old.positions_px)
            for particles, old in zip(tomogram.species, given.species, strict=True)
        ),
    )
    known = [weight for weight in weights if weight is not None]
    assert len(known) == len(references)
    scales = first.scales
    if settings.fit.reference_scale is None:
        scales = factors_without_noise(first.best_scales, references, known)
    once = replace(settings, fit=replace(settings.fit, held_out_fraction=0.0))
    with ThreadPoolExecutor(resources.threads) as pool:
        device = acquire_correlator(settings.run.device, pool)
        with device as correlator, resources.stage("joint refinement") as stage:
            images = JointImages(
                tomogram=origin,
                given=given,
                references=references,
                weights=known,
                scales=scales,
                visible=first.visible,
                pair_weights=first.pair_weights,
                held_out=first.held_out,
                settings=settings,
                correlator=correlator,
                threads=resources.threads,
                advance=stage.advance,
                spare_bytes=FREED * first.windows_bytes,
            )
            joint = refine_jointly(images, JointState.of(tomogram, optics_of(settings.joint)), settings.joint)
        after = joint.state.applied_to(origin)
        parts = [
            correlation_windows(after.series, particles, reference, once, pool, resources, weight)
            for particles, reference, weight in zip(after.species, references, known, strict=True)
        ]
    series = without_lost(after.series)
    after = replace(after, series=series)
    windows = join_windows([without_tilts(part, series.usable) for part in parts])
    del parts
    after = place_again(after, given, windows, first.placed, once)
    fit = _counted_from(given, fit_geometry(after, windows, once, resources, continued=first.scales))
    del windows
    result, uncertainty, frame = solution(fit, once, resources, references, known, given)
    if ORIENTATIONS in joint.chosen and frame is not None:
        joint = replace(joint, state=joint.state.turned(frame.rotation, given))
    blur = series.pixel_size_angstrom**2 * (uncertainty.pairs_px2 + joint.blur_px2)
    result = with_views(_combined(result, first, joint), joint, given, after.series.ctf, blur)
    return with_findings(result, first.doubts, first.moved_angstrom, error_angstrom(fit, uncertainty))


def _counted_from(given: Tomogram, fit: Fit) -> Fit:
    """Return a fit with the priors about an earlier input, by which its standard errors are stated.

    Its own priors hold the geometry where the joint refinement found it.
    """
    solved = fit.refinement
    wide = with_widths_from_input(solved.problem, solved.vector, given, fit.tomogram, fit.windows.range_px)
    return replace(fit, refinement=replace(solved, problem=wide))


def _combined(
    result: TomogramResult,
    first: RefinedFirst,
    joint: JointFit,
) -> TomogramResult:
    """Return the last fit's result with figures that count from the input."""
    record = result.record
    assert record is not None
    before = first.record
    likelihood = np.array([before.tilt_log_likelihood[:, 0].sum(), record.tilt_log_likelihood[:, 1].sum()])
    power = np.array([before.tilt_power.sum(), record.tilt_power.sum()])
    return replace(
        result,
        statistics=replace(
            result.statistics,
            evidence=joint.evidence,
            groups=joint.groups,
            motion=first.motion,
            log_likelihood_gain=float(np.diff(likelihood - power / 2)[0]),
            evaluations=result.statistics.evaluations + first.evaluations + joint.passes,
            warnings=tuple(dict.fromkeys((*first.warnings, *result.statistics.warnings, *joint.warnings))),
        ),
        record=replace(
            record,
            given=before.given,
            objective=np.concatenate([before.objective, record.objective]),
            tilt_log_likelihood=_spanning(before.tilt_log_likelihood, record.tilt_log_likelihood),
            particle_log_likelihood=_spanning(before.particle_log_likelihood, record.particle_log_likelihood),
            windows_before=before.windows_before,
            by_depth=_spanning_bins(before.by_depth, record.by_depth),
            by_defocus=_spanning_bins(before.by_defocus, record.by_defocus),
        ),
    )


def _spanning(before: Float[Array, "N 2"], after: Float[Array, "N 2"]) -> Float[Array, "N 2"]:
    return np.stack([before[:, 0], after[:, 1]], axis=-1)


def _spanning_bins(before: BinnedAgreement | None, after: BinnedAgreement | None) -> BinnedAgreement | None:
    """Return the agreement before and after in the same bins; None where other pairs were fitted."""
    if before is None or after is None or len(before.centres) != len(after.centres):
        return None
    return replace(after, log_likelihood=_spanning(before.log_likelihood, after.log_likelihood))
