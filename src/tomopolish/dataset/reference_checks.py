"""Checks of maps, mask and FSC against each other and the box."""

from __future__ import annotations

import numpy as np

from tomopolish.dataset.model import References
from tomopolish.dataset.project import Dataset
from tomopolish.errors import InputError
from tomopolish.physics.fourier import FSC_THRESHOLD


def check_references(dataset: Dataset, box_px: int) -> list[str]:
    """Check maps, mask and FSC against each other, the box and the tilt series; returns warnings.

    Raises
    ------
    InputError
        Like `read_references`, and when the box is smaller than the maps.
    """
    references = dataset.references(keep=True)
    shown = dataset.files.shown("half map 1")
    size = references.size_px
    if box_px < size:
        raise InputError(
            f"--b {box_px}: the box is smaller than the map {shown} ({size} px); give --b {size} or more, "
            "or crop the maps"
        )
    return [*references.remarks, *_reference_warnings(dataset, references)]


def _reference_warnings(dataset: Dataset, references: References) -> list[str]:
    warnings = []
    shown = dataset.files.shown("half map 1")
    if np.array_equal(references.half_maps[0], references.half_maps[1]):
        warnings.append(
            f"{shown}: both half maps are identical, so that signal and noise cannot be separated"
        )
    if references.fsc is not None and references.fsc[1:3].min() < FSC_THRESHOLD:
        warnings.append(
            f"{dataset.files.shown('fsc')}: the FSC is below {FSC_THRESHOLD:g} in its first shells; little "
            "signal is used"
        )
    return warnings
