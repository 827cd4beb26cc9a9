"""Compile the kernels that a run needs last, in a process of its own, while the run compiles the first ones.

    python -m tomopolish.run.compile_ahead [DEFORMATION_MODEL]

Numba compiles one kernel of a process at a time. Both processes keep what they compile (`compiled.store`),
where the run finds what is there by the time it needs it, and compiles what is not.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tomopolish.settings.alignment import AlignSettings

TILTS, PARTICLES, RANGE_PX = 3, 5, 4


def start(settings: AlignSettings) -> None:
    """Start the process; nobody waits for it."""
    model = [] if settings.deformation is None else [settings.deformation.model]
    subprocess.Popen(
        [sys.executable, "-m", "tomopolish.run.compile_ahead", *model],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def compile_comparison() -> None:
    """Call the comparison of boxes with the reference, with arrays of the types it meets in a run."""
    from tomopolish.imaging.kernels import compare as compare_kernels  # noqa: PLC0415  the parent has not imported it yet

    rows = columns = 3
    plane = np.zeros((2, rows, columns), np.float32)
    compare_kernels.correlate_spectra(
        np.zeros((1, 2, 2, rows, columns), np.float32), 8, np.zeros(2 * 2 * 5 * 9 * 9, np.float32), 4,
        np.zeros(1, np.int64), np.zeros((1, 2, 3), np.float32), np.zeros((1, 2), np.float32),
        np.full((2, rows), columns), plane, plane, np.zeros((1, 3), np.float32), plane[None],
        np.zeros((1, 2, rows, 0), np.complex64), np.zeros(1, np.int64),
        np.zeros((1, 4, rows, columns), np.float32), np.zeros(1),
    )  # fmt: skip


def compile_solver(model: str | None) -> None:
    """Refine a few particles in noise, and search for each of them."""
    from tomopolish.imaging.windows import CorrelationWindows, window_samples  # noqa: PLC0415
    from tomopolish.models.deformation import NoDeformation, warp_model  # noqa: PLC0415
    from tomopolish.models.motion import NoMotion  # noqa: PLC0415
    from tomopolish.models.parameters import Layout  # noqa: PLC0415
    from tomopolish.pipeline.record import shifted_sums  # noqa: PLC0415
    from tomopolish.solve.coarse import coarse_windows, correlation_length_px  # noqa: PLC0415
    from tomopolish.solve.initial import ball, search_particle, search_tilt  # noqa: PLC0415
    from tomopolish.solve.preconditioner import factorise  # noqa: PLC0415
    from tomopolish.solve.problem import Problem, evaluate, multiply_hessian  # noqa: PLC0415
    from tomopolish.solve.refine import RefineOptions, initial_precision, refine  # noqa: PLC0415
    from tomopolish.solve.surface import smooth_surface  # noqa: PLC0415

    rng = np.random.default_rng(0)
    side, visible = len(window_samples(RANGE_PX, 1.0)), np.ones((TILTS, PARTICLES), dtype=bool)
    windows = CorrelationWindows(
        values=rng.normal(size=(TILTS, PARTICLES, side, side)).astype(np.float32),
        anchors_px=np.zeros((TILTS, PARTICLES, 2)),
        visible=visible,
        power=np.ones((TILTS, PARTICLES)),
        range_px=RANGE_PX,
    )
    warps = NoDeformation() if model is None else warp_model(model, (3, 3), (64, 64), 1)
    layout = Layout(tilts=TILTS, particles=PARTICLES, motion_shape=(0, TILTS - 1, 3), warp_shape=warps.shape)
    problem = Problem(
        surface=smooth_surface(windows),
        anchors_px=windows.anchors_px,
        projections_px=np.broadcast_to(np.eye(4), (TILTS, 4, 4)).copy(),
        centre_px=np.full(3, 32.0),
        points_px=np.broadcast_to(rng.uniform(0, 64, (PARTICLES, 3)), (TILTS, PARTICLES, 3)).copy(),
        motion=NoMotion(tilts=TILTS, particles=PARTICLES),
        deformation=warps,
        precision=initial_precision(layout, RANGE_PX, (64, 64, 64)),
        free=np.ones(layout.size, dtype=bool),
    )
    start, few = np.zeros(layout.size), RefineOptions(max_evaluations=2)
    # What a run needs last comes first: it begins with the rest, and both meet in the middle.
    state = evaluate(problem, start)
    factorise(problem, state).solve(multiply_hessian(problem, state, state.gradient))
    shifted_sums(problem.surface, np.zeros((TILTS, PARTICLES, 2)), RANGE_PX)
    with ThreadPoolExecutor(1) as pool:
        coarse = coarse_windows(windows, correlation_length_px(windows), pool)
    search_particle(problem, coarse, layout.unpack(start), 0, ball(2.0, 1.0))
    search_tilt(problem, coarse, layout.unpack(start), 0, np.zeros((1, 3)))
    refine(problem, windows, start, few)


if __name__ == "__main__":
    compile_comparison()
    compile_solver(sys.argv[1] if len(sys.argv) > 1 else None)
