"""Cost of the motion and deformation models against that of the matrix product they contain.

Usage: ``python benchmarks/models.py [PARTICLES] [TILTS]`` (3000 and 41). Best of five, all BLAS threads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.models.protocols import DeformationModel
from tomopolish.models.warps.fourier import FourierWarp
from tomopolish.models.warps.linear import LinearWarp
from tomopolish.models.warps.spline import SplineWarp

IMAGE_SIZE_PX = (4096, 4096)
MOTIONS: dict[str, dict[str, object]] = {
    "exponential": {},
    "squared exponential": {"squared_exponential": True},
    "50 modes": {"max_deformations": 50},
}
WARPS: dict[str, DeformationModel] = {
    "linear": LinearWarp(image_size_px=IMAGE_SIZE_PX),
    "spline 3×3": SplineWarp(image_size_px=IMAGE_SIZE_PX, grid=(3, 3)),
    "Fourier 3×3": FourierWarp(image_size_px=IMAGE_SIZE_PX, grid=(3, 3)),
}


def milliseconds(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def main(particles: int = 3000, tilts: int = 41) -> None:
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 1, (particles, 3)) * (4096, 4096, 400)
    gradient = rng.normal(size=(tilts, particles, 3))
    print(f"{particles} particles × {tilts} tilts; times in ms")
    print(f"{'motion':<22}{'modes':>6}{'build':>9}{'product':>9}{'offsets':>9}{'adjoint':>9}")
    for name, kind in MOTIONS.items():
        begin = time.perf_counter()
        motion = GaussianProcessMotion.build(
            positions,
            rng.permutation(tilts),
            sigma_velocity_px=0.3,
            sigma_distance_px=11000.0,
            **kind,  # type: ignore[arg-type]
        )
        build = 1e3 * (time.perf_counter() - begin)
        coefficients = rng.normal(size=motion.shape)
        block = coefficients.reshape(motion.shape[0], -1)
        times = (
            build,
            milliseconds(lambda m=motion, b=block: m.factor @ b),
            milliseconds(lambda m=motion, c=coefficients: m.offsets_px(c)),
            milliseconds(lambda m=motion: m.adjoint(gradient)),
        )
        columns = "".join(f"{t:>9.1f}" for t in times)
        print(f"{name:<22}{motion.shape[0]:>6}{columns}")
    q = rng.uniform(0, 4096, (tilts, particles, 2))
    print(f"{'deformation':<22}{'displacement':>13}{'jacobian':>10}{'adjoint':>9}")
    for name, warp in WARPS.items():
        unit = rng.normal(size=warp.shape)
        times = (
            milliseconds(lambda w=warp, c=unit: w.displacement_px(q, c)),
            milliseconds(lambda w=warp, c=unit: w.jacobian(q, c)),
            milliseconds(lambda w=warp: w.adjoint(q, q)),
        )
        print(f"{name:<22}{times[0]:>13.1f}{times[1]:>10.1f}{times[2]:>9.1f}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
