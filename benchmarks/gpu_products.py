"""What the solver's matrix products take on this host and on a CUDA device, where there is one.

Motion over 41 tilt images: the covariance's factor times 120 columns, its transpose, the preconditioner and
the eigenvectors. Milliseconds, the least of three::

    python benchmarks/gpu_products.py --particles 1000 2000 4000 --j 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from tomopolish.device_arrays import HOST, Arrays, CupyArrays
from tomopolish.imaging.devices import cuda_obstacle
from tomopolish.models.gaussian_process import GaussianProcessMotion
from tomopolish.solve.elimination import MotionFactor

TILTS = 41
EXTENT_PX = (4000, 4000, 1200)


def least_ms(work: Callable[[], object], repeat: int = 3) -> float:
    """Time of the quickest call but the first, ms."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def measure(host: GaussianProcessMotion, arrays: Arrays) -> dict[str, float]:
    """Time of each product where `arrays` has its matrix."""
    rng = np.random.default_rng(1)
    particles, columns = len(host.rows), 3 * (TILTS - 1)
    with arrays.active():
        motion = replace(host, arrays=arrays, kept=arrays.upload(host.factor.T))
    coefficients, force = rng.normal(size=motion.shape), rng.normal(size=(TILTS, particles, 3))
    times, curvature = rng.normal(size=(columns, columns)), np.ones((motion.shape[0], columns))
    eigenvectors = motion.spectrum()[1]
    with arrays.active():
        single = [arrays.upload(a.astype(np.float32)) for a in (eigenvectors, times, curvature)]
        factor = MotionFactor(modes=single[0], times=single[1], curvature=single[2], arrays=arrays)
        return {
            "offsets (L)": least_ms(lambda: motion.offsets_px(coefficients)),
            "their adjoint (Lᵀ)": least_ms(lambda: motion.adjoint(force)),
            "preconditioner": least_ms(lambda: factor.solve(coefficients)),
            "eigenvectors": least_ms(lambda: replace(motion).spectrum(), repeat=1),
        }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--particles", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--j", type=int, default=1, help="threads")
    arguments = parser.parse_args()
    places: dict[str, Arrays] = {"host": HOST}
    obstacle = cuda_obstacle()
    if obstacle:
        print(f"host only: {obstacle}")
    else:
        places["device"] = CupyArrays(0)
    with threadpool_limits(arguments.j):
        for particles in arguments.particles:
            positions = np.random.default_rng(0).uniform(0, EXTENT_PX, (particles, 3))
            motion = GaussianProcessMotion.build(
                positions, np.arange(TILTS), sigma_velocity_px=0.3, sigma_distance_px=2000
            )
            for name, arrays in places.items():
                for product, milliseconds in measure(motion, arrays).items():
                    print(f"{particles:>6} {name:<7} {product:<22} {milliseconds:10.2f}", flush=True)


if __name__ == "__main__":
    main()
