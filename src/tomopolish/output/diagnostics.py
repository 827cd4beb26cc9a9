"""Files of `--diag`: summed correlation windows and frequency weights, named as in RELION."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tomopolish.dataset.files import safe_file_name
from tomopolish.dataset.mrc import write_stack
from tomopolish.results.tomogram import Diagnostics


def write_diagnostics(folder: Path, tomogram: str, diagnostics: Sequence[Diagnostics]) -> None:
    """Write ``CCsum_<tomogram>.mrc`` and ``diag_<tomogram>_frq_weight.mrc``, numbered if species are several.

    Raises RunError when a file cannot be written.
    """
    for number, shown in enumerate(diagnostics, start=1):
        name = safe_file_name(tomogram) + (f"_{number}" if len(diagnostics) > 1 else "")
        for path, stack, pixel_size in (
            (f"CCsum_{name}.mrc", shown.summed_windows, shown.window_step_angstrom),
            (f"diag_{name}_frq_weight.mrc", shown.frequency_weights, shown.frequency_step),
        ):
            write_stack(
                folder / path,
                stack,
                count=len(stack),
                size_px=(stack.shape[2], stack.shape[1]),
                pixel_size_angstrom=pixel_size,
            )
