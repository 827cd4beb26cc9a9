"""Made results of tomograms with all that a report can show, without any computation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomopolish.dataset.alignment_errors import AlignmentErrors
from tomopolish.dataset.model import Alignment, Deformation
from tomopolish.dataset.scores import AlignmentScores, ItemScores
from tomopolish.physics.geometry import relion5_projections, rotation_from_vector
from tomopolish.results.tomogram import (
    BinnedAgreement,
    Evidence,
    FitRecord,
    ImageQuantity,
    InputGeometry,
    JointRecord,
    MapComparison,
    TiltPicture,
    TomogramResult,
    TomogramStatistics,
)

PIXEL = 2.5
IMAGE, TOMOGRAM = (600, 500), (640, 560, 200)


def make_result(
    seed: int = 0,
    *,
    tilts: int = 7,
    particles: int = 9,
    motion: bool = False,
    warp: bool = False,
    name: str = "TS",
    samples: int = 12,
    seen: float = 0.8,
) -> TomogramResult:
    rng = np.random.default_rng(seed)
    angles = np.stack([np.zeros(tilts), np.linspace(-50, 50, tilts), np.full(tilts, 85.0)], axis=-1)
    given = relion5_projections(angles, rng.normal(size=(tilts, 2)) * 5, IMAGE, TOMOGRAM)
    refined = given.copy()
    refined[:, :3, :3] = rotation_from_vector(rng.normal(size=(tilts, 3)) * 0.005) @ given[:, :3, :3]
    refined[:, :2, 3] += rng.normal(size=(tilts, 2))
    positions = rng.uniform(0.2, 0.8, (particles, 3)) * TOMOGRAM
    visible = rng.random((tilts, particles)) < seen
    power = visible * rng.uniform(50, 60, visible.shape)
    after = 0.9 * power + visible * rng.normal(size=visible.shape)
    errors = AlignmentErrors(
        angles_degrees=rng.uniform(0.01, 0.02, (tilts, 3)),
        shifts_angstrom=rng.uniform(0.3, 0.4, (tilts, 2)),
        positions_angstrom=rng.uniform(0.5, 0.6, (particles, 3)),
        motion_angstrom=np.ones(particles) if motion else None,
        visible_particles=visible.sum(axis=1),
        visible_tilts=visible.sum(axis=0),
        dispersion=1.1,
    )
    alignment = Alignment(
        tomogram=name,
        projections_px=refined,
        rows=np.arange(particles),
        positions_px=positions + rng.normal(size=(particles, 3)),
        trajectories_px=np.cumsum(rng.normal(size=(particles, tilts, 3)), axis=1) if motion else None,
        deformation=Deformation(model="spline", grid=(3, 3), coefficients=rng.normal(size=(tilts, 72)))
        if warp
        else None,
        errors=errors,
    )
    axis = np.arange(samples) - samples // 2
    peak = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / 8)
    record = FitRecord(
        given=InputGeometry(
            projections_px=given,
            positions_px=positions,
            tomogram_size_px=TOMOGRAM,
            image_size_px=IMAGE,
            pixel_size_angstrom=PIXEL,
            pre_exposure=3.0 * rng.permutation(tilts),
            particle_names=tuple(f"{name}/{i + 1}" for i in range(particles)),
        ),
        visible=visible,
        objective=np.array([0.0, 50.0, 90.0, 91.0]),
        tilt_log_likelihood=np.stack([0.4 * power.sum(axis=1), after.sum(axis=1)], axis=-1),
        particle_log_likelihood=np.stack([0.4 * power.sum(axis=0), after.sum(axis=0)], axis=-1),
        tilt_power=power.sum(axis=1),
        particle_power=power.sum(axis=0),
        windows_before=np.tile(0.5 * peak, (tilts, 1, 1)).astype(np.float32),
        windows_after=np.tile(peak, (tilts, 1, 1)).astype(np.float32),
        window_step_angstrom=PIXEL,
        by_frequency=_curve(np.linspace(0.01, 0.1, 8)),
        by_depth=_curve(np.linspace(-400, 400, 6)),
        by_defocus=_curve(np.linspace(29000, 31000, 6)),
        picture=TiltPicture(
            tilt=tilts // 2, grey=rng.integers(0, 256, (250, 300)).astype(np.uint8), bin_px=2
        ),
    )
    return TomogramResult(
        alignments=(alignment,), statistics=statistics(seed, particles, visible), record=record
    )


def _curve(centres: np.ndarray) -> BinnedAgreement:
    power = np.linspace(900, 100, len(centres))
    return BinnedAgreement(
        centres=centres, log_likelihood=np.stack([0.4 * power, 0.9 * power], axis=-1), power=power
    )


def with_scores(
    result: TomogramResult,
    particles: dict[int, tuple[str, float]] | None = None,
    tilts: dict[int, tuple[str, float]] | None = None,
) -> TomogramResult:
    """The same with scores; particle or tilt image → reason and probability."""
    alignment = result.alignment
    scores = AlignmentScores(
        particles=_items(len(alignment.rows), particles or {}),
        tilts=_items(len(alignment.projections_px), tilts or {}),
        agreement=0.9,
    )
    figures = replace(
        result.statistics, flagged_particles=len(particles or {}), flagged_tilts=len(tilts or {})
    )
    return replace(result, alignments=(replace(alignment, scores=scores),), statistics=figures)


def with_joint(result: TomogramResult) -> TomogramResult:
    """The same with refined orientations and optics; the CTF scale went back to the input."""
    rng, record = np.random.default_rng(5), result.record
    assert record is not None
    tilts, particles = record.visible.shape
    defocus, scale = 30000 + rng.normal(0, 400, tilts), np.ones(tilts)
    images = (
        ImageQuantity(
            name="defocus",
            unit="Å",
            before=defocus,
            after=defocus + np.linspace(-300, 300, tilts),
            error=np.full(tilts, 80.0),
        ),
        ImageQuantity(name="CTF scale", unit="", before=scale, after=scale, error=0 * scale),
        ImageQuantity(
            name="B factor",
            unit="Å²",
            before=0 * scale,
            after=0 * scale + 40,
            error=np.full(tilts, 20.0),
            shared=12.34,
        ),
    )
    turned = np.abs(rng.normal(0, 2, particles))
    joint = JointRecord(turned_degrees=turned, turn_errors_degrees=0 * turned + 0.5, images=images)
    return replace(result, record=replace(record, joint=joint))


def _items(count: int, flagged: dict[int, tuple[str, float]]) -> ItemScores:
    chosen = [flagged.get(i, ("", 0.99)) for i in range(count)]
    agreement = np.array([0.1 if reason else 0.9 for reason, _ in chosen])
    return ItemScores(
        agreement=agreement,
        likelihood_ratio=100 * agreement,
        probability=np.array([probability for _, probability in chosen]),
        z=agreement - 0.9,
        displacement_angstrom=np.ones(count),
        reasons=tuple(reason for reason, _ in chosen),
    )


def statistics(seed: int, particles: int, visible: np.ndarray) -> TomogramStatistics:
    rng = np.random.default_rng(seed)
    return TomogramStatistics(
        particles=particles,
        visible_pairs=int(visible.sum()),
        log_likelihood_gain=float(rng.uniform(500, 900)),
        rms_shift_angstrom=float(rng.uniform(2, 3)),
        rms_angle_degrees=0.3,
        rms_position_angstrom=float(rng.uniform(3, 4)),
        seconds_by_stage={"correlation": 1.0, "refinement": 2.0},
        evaluations=12,
        warnings=("something is odd",) if seed % 7 == 0 else (),
        evidence=Evidence(
            particles=particles,
            pairs=20,
            gain=float(rng.normal(40, 10)),
            standard_error=8.0,
            agreement_before=0.4,
            agreement_after=0.8,
        ),
    )


def make_maps() -> MapComparison:
    frequency = np.arange(33) / (64 * PIXEL)
    return MapComparison(
        frequency_per_angstrom=frequency,
        before=np.exp(-((frequency / 0.06) ** 2)),
        after=np.exp(-((frequency / 0.09) ** 2)),
        resolution_before_angstrom={0.143: 12.0, 0.5: 20.0},
        resolution_after_angstrom={0.143: 8.0, 0.5: 13.0},
        masked=True,
        slices=np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype(np.float32),
    )
