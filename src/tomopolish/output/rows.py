"""Results as rows of plain values, for data frames; the columns' names hold the units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from tomopolish.imaging.fsc import ShellCorrelation
from tomopolish.output.report.gather import position_errors, tilt_curves
from tomopolish.output.report.marks import (
    particle_marks,
    particle_probabilities,
    tilt_marks,
    tilt_probabilities,
)
from tomopolish.results.tomogram import TomogramResult
from tomopolish.shapes import Array, Bool, Float
from tomopolish.simulate.evaluate import Evaluation, TomogramEvaluation
from tomopolish.simulate.geometry_errors import GeometryErrors

Row = dict[str, Any]
AXES = ("x", "y", "z")


def tilt_rows(results: Mapping[str, TomogramResult]) -> list[Row]:
    """Return a row for each tilt image, in the order of the files.

    ``tilt`` counts from 1; shifts are those of the projected centre of the tomogram from the image's centre,
    turned angles those of the projection against its input about the image's axes. Figures of images that
    were left out are NaN. ``probability`` is that of showing the particles, NaN where it was not estimated;
    ``remarks`` says what to look at.
    """
    return [row for name, result in results.items() for row in _tilts_of(name, result)]


def _tilts_of(name: str, result: TomogramResult) -> Iterator[Row]:
    record = result.record
    if record is None:
        return
    curves = tilt_curves(result, record, np.arange(len(record.given.pre_exposure)))
    left_out = {one.tilt: one.reason for one in result.left_out}
    remarks = _remarks({k: v for k, v in tilt_marks(result).items() if not k.startswith("left out")})
    probability = tilt_probabilities(result)
    for tilt, exposure in enumerate(curves.exposure):
        yield {
            "tomogram": name,
            "tilt": tilt + 1,
            "pre_exposure_e_per_angstrom2": float(exposure),
            "left_out": left_out.get(tilt, ""),
            "visible_particles": int(record.visible[tilt].sum()),
            "agreement_before": float(curves.agreement[tilt, 0]),
            "agreement_after": float(curves.agreement[tilt, 1]),
            "probability": float(probability[tilt]),
            **_vector("shift_{}_before_angstrom", curves.shifts_before_angstrom[tilt]),
            **_vector("shift_{}_after_angstrom", curves.shifts_after_angstrom[tilt]),
            **_vector("shift_{}_error_angstrom", curves.shift_errors_angstrom[tilt]),
            **_vector("turned_{}_degrees", curves.turned_degrees[tilt]),
            **_vector("angle_{}_error_degrees", curves.angle_errors_degrees[tilt]),
            "remarks": remarks[tilt],
        }


def particle_rows(results: Mapping[str, TomogramResult], species: Sequence[str]) -> list[Row]:
    """Return a row for each particle of each tomogram.

    Positions are refined ones, in pixels of the tilt images, in the frame of `Particles`; ``moved`` is their
    change. ``agreement`` is the log-likelihood of a particle's pairs over what their predictions promise.
    ``probability`` is that of showing what the reference predicts, NaN where it was not estimated;
    ``remarks`` says what to look at.

    Parameters
    ----------
    species
        Names of the species, in the order of each result's alignments.
    """
    return [row for name, result in results.items() for row in _particles_of(name, result, species)]


def _particles_of(name: str, result: TomogramResult, species: Sequence[str]) -> Iterator[Row]:
    record = result.record
    if record is None:
        return
    source = record.given
    refined = np.concatenate([a.positions_px for a in result.alignments])
    errors = position_errors(result.alignments)
    owner = [s for s, a in zip(species, result.alignments, strict=True) for _ in a.rows]
    moved = (refined - source.positions_px) * source.pixel_size_angstrom
    agreement, remarks = record.particle_agreement, _remarks(particle_marks(result))
    probability = particle_probabilities(result)
    for number, particle in enumerate(source.particle_names):
        yield {
            "tomogram": name,
            "species": owner[number],
            "particle": particle,
            "visible_tilts": int(record.visible[:, number].sum()),
            "agreement_before": float(agreement[number, 0]),
            "agreement_after": float(agreement[number, 1]),
            "probability": float(probability[number]),
            **_vector("{}_px", refined[number]),
            **_vector("moved_{}_angstrom", moved[number]),
            **_vector("error_{}_angstrom", errors[number]),
            "remarks": remarks[number],
        }


def _remarks(marks: Mapping[str, Bool[Array, "N"]]) -> list[str]:
    """Return the reasons that hold for each row, joined."""
    count = len(next(iter(marks.values())))
    return ["; ".join(reason for reason, mark in marks.items() if mark[i]) for i in range(count)]


def _vector(name: str, values: Float[Array, "d"]) -> Row:
    return {name.format(axis): float(value) for axis, value in zip(AXES, values, strict=False)}


def evaluation_rows(evaluation: Evaluation) -> list[Row]:
    """Return a row for each tomogram: errors after, and before where the input is known (else NaN)."""
    names = [f.name for f in fields(GeometryErrors) if f.name != "visible_pairs"]
    some_bad = any(tomogram.good_after is not None for tomogram in evaluation.tomograms)
    return [
        {
            "tomogram": tomogram.tomogram,
            "visible_pairs": tomogram.after.visible_pairs,
            "left_out_tilts": tomogram.left_out,
            **{
                _ended(name, ending): float("nan") if errors is None else getattr(errors, name)
                for name in names
                for ending, errors in (("before", tomogram.before), ("after", tomogram.after))
            },
            **(_good_errors(tomogram) if some_bad else {}),
        }
        for tomogram in evaluation.tomograms
    ]


def _good_errors(tomogram: TomogramEvaluation) -> Row:
    """Return the errors in the images of the good particles, in the good tilt images."""
    parts = {"before": tomogram.good_before, "after": tomogram.good_after}
    return {
        f"good_rms_2d_{ending}_angstrom": float("nan") if errors is None else errors.rms_2d_angstrom
        for ending, errors in parts.items()
    }


def _ended(name: str, ending: str) -> str:
    """Return ``rms_2d_before_angstrom`` for ``rms_2d_angstrom``: units come last."""
    quantity, _, unit = name.rpartition("_")
    return f"{quantity}_{ending}_{unit}"


def shell_rows(fsc: ShellCorrelation, pixel_size_angstrom: float) -> list[Row]:
    """Return a row for each shell of a Fourier shell correlation."""
    length = fsc.box_px * pixel_size_angstrom
    curves = fsc.by_name()
    return [
        {
            "shell": shell,
            "frequency_per_angstrom": shell / length,
            "resolution_angstrom": length / shell if shell else float("inf"),
            **{f"fsc_{name}": float(curve[shell]) for name, curve in curves.items()},
        }
        for shell in range(len(fsc.corrected))
    ]
