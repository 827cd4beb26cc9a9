"""RELION's results on the reference data sets, and imitations of its faults.

See docs/dev/conventions.md, Correlation windows.

(a) Frequencies with kx ≥ ⌊(s/2 + 1)/2⌋ are not used.
(b) A pair that is not visible clears a window of another tilt image.
(c) The voxel at the centre of the prepared reference maps counts as zero. The larger data set hardly shows it
    (its structure is hollow), the small one does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import scipy.fft

from small_project import align_one, compute_windows
from tomopolish import pipeline
from tomopolish.dataset.model import Particles, References, TiltSeries
from tomopolish.dataset.project import Dataset, open_dataset
from tomopolish.imaging import frequencies
from tomopolish.imaging.reference import ReferenceTransform, cropped
from tomopolish.imaging.windows import CorrelationWindows, is_visible
from tomopolish.physics.geometry import project
from tomopolish.results.tomogram import TomogramResult
from tomopolish.settings.alignment import AlignSettings


def open_project(
    root: Path,
    optimisation_set: str | None = "optimisation_set.star",
    tomograms: str | None = None,
    particles: str | None = None,
    trajectories: str | None = None,
) -> Dataset:
    """A reference data set, some of its parts replaced."""
    bare = {"ref1": Path("ref_half1.mrc"), "ref2": Path("ref_half2.mrc")} if optimisation_set is None else {}
    return open_dataset(
        None if optimisation_set is None else Path(optimisation_set),
        tomograms=None if tomograms is None else Path(tomograms),
        particles=None if particles is None else Path(particles),
        trajectories=None if trajectories is None else Path(trajectories),
        working_directory=root,
        **bare,
    )


def open_result(root: Path, run: str) -> Dataset:
    """RELION's result of a run, with the images and references it was made from."""
    folder = f"relion/{run}"
    has_motion = (root / folder / "motion.star").is_file()
    return open_project(
        root,
        tomograms=f"{folder}/tomograms.star",
        particles=f"{folder}/particles.star",
        trajectories=f"{folder}/motion.star" if has_motion else None,
    )


def final_cost(root: Path, run: str, tomogram: str) -> float:
    """RELION's objective at its solution."""
    return float(json.loads((root / "relion" / run / "run.json").read_text())["final_cost"][tomogram])


def summed_windows(root: Path, run: str, tomogram: str) -> np.ndarray:
    """Σ over particles of RELION's windows, chronological order, with their border of zeros."""
    return mrcfile.read(root / "relion" / run / f"CCsum_{tomogram}.mrc")


def relion_weights(root: Path, run: str, tomogram: str) -> np.ndarray:
    """RELION's frequency weights, one half plane per tilt image, file order."""
    return mrcfile.read(root / "relion" / run / f"diag_{tomogram}_frq_weight.mrc")


@contextmanager
def half_of_the_columns() -> Iterator[None]:
    """Fault (a): frequencies with kx ≥ ⌊(s/2 + 1)/2⌋ are dropped."""
    honest = frequencies.used_columns

    def dropped(weight: np.ndarray, dose: np.ndarray, box: int, cutoff: float) -> np.ndarray:
        return np.minimum(honest(weight, dose, box, cutoff), (box // 2 + 1) // 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frequencies, "used_columns", dropped)
        yield


@contextmanager
def hollow_references() -> Iterator[None]:
    """Fault (c): the prepared maps' centre voxel is zero."""
    honest = pipeline.references.prepare_half_maps

    def hollow(
        references: References, box: int, last_frequency: float, threads: int = 1
    ) -> ReferenceTransform:
        whole = honest(references, box, box / 2, threads)
        plane = np.fft.ifftshift(whole.values[:, :-1, :-1], axes=(1, 2))
        maps = scipy.fft.irfftn(plane, s=(box, box, box), axes=(1, 2, 3), norm="ortho")
        maps[:, 0, 0, 0] = 0
        index = np.arange(-(box // 2), box // 2 + 1)
        plane = scipy.fft.rfftn(maps, axes=(1, 2, 3), norm="ortho")
        return cropped(replace(whole, values=plane[:, index[:, None], index]), last_frequency)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.references, "prepare_half_maps", hollow)
        yield


def lost_pairs(visible: np.ndarray, chronological: np.ndarray) -> np.ndarray:
    """Fault (b): pairs whose window is cleared, (F, P) in file order.

    The loop runs over tilt images by exposure; a pair that is not visible in the image with file index i
    clears the window with *chronological* index i, if that has been computed by then.
    """
    lost = np.zeros_like(visible)
    for now, tilt in enumerate(chronological):
        if tilt <= now:
            lost[chronological[tilt]] |= ~visible[tilt]
    return lost


def faulty_windows(
    series: TiltSeries, particles: Particles, references: References, settings: AlignSettings
) -> CorrelationWindows:
    """Windows as RELION computes them, all faults included."""
    with half_of_the_columns(), hollow_references():
        windows = compute_windows(series, particles, references, settings, threads=2)
    values = windows.values.copy()
    values[lost_pairs(windows.visible, series.chronological)] = 0
    return replace(windows, values=values)


def bordered(windows: CorrelationWindows) -> np.ndarray:
    """The windows' [−r, r) with RELION's border of zeros, 3 samples wide, `[tilt, particle, δy, δx]`."""
    half = round(windows.range_px / windows.step_px)
    inside = slice(windows.origin - half, windows.origin + half)
    return np.pad(windows.values[:, :, inside, inside], ((0, 0), (0, 0), (3, 3), (3, 3)))


def rms_error_angstrom(
    root: Path,
    series: TiltSeries,
    box: int,
    positions_2d_px: np.ndarray,
) -> float:
    """RMS 2D error against the truth over visible pairs, as the data sets' README defines it."""
    truth = json.loads((root / "truth.json").read_text())[series.name]
    uv = np.asarray(truth["uv"])
    tilts, particles = len(series), positions_2d_px.shape[1]
    uv = np.moveaxis(uv, 0, 1) if uv.shape[:2] == (particles, tilts) else uv
    seen = is_visible(uv, series.image_size_px, box)
    error2 = np.sum((positions_2d_px - uv) ** 2, axis=-1)
    return float(np.sqrt(error2[seen].mean())) * series.pixel_size_angstrom


def positions_2d(projections_px: np.ndarray, positions_px: np.ndarray) -> np.ndarray:
    return project(projections_px, positions_px)[..., :2]


@dataclass(frozen=True, kw_only=True)
class Solved:
    """A refined tomogram, and its error against the truth."""

    result: TomogramResult
    error_angstrom: float


def solve_windows(
    root: Path, dataset: Dataset, name: str, windows: CorrelationWindows | None, settings: AlignSettings
) -> Solved:
    """Refine a tomogram, from given windows in place of the program's own on request."""
    series, particles = dataset.load(name)
    prepared = pipeline.prepare(dataset.references(), settings)
    with pytest.MonkeyPatch.context() as patch:
        if windows is not None:
            patch.setattr(pipeline.align, "correlation_windows", lambda *_, **__: windows)
        result = align_one(series, particles, prepared, settings)
    refined = positions_2d(result.alignment.projections_px, result.alignment.positions_px)
    error = rms_error_angstrom(root, series, settings.windows.box_px, refined)
    return Solved(result=result, error_angstrom=error)
