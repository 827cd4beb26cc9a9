"""What all figures drawn by matplotlib share: colours, an empty figure, axes of whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

BEFORE, AFTER, THIRD, GREY = "#d55e00", "#0072b2", "#009e73", "#8c8c8c"
"""Of Okabe & Ito's palette, as in the report: distinct under all common forms of colour blindness."""

VERDICTS = {"doubtful": "#e69f00", "helped": "#00694c", "harmed": "#a84300"}
"""Kind of verdict → colour of its frame, as in the report."""


def new_figure(
    width_inches: float, height_inches: float, margins: Mapping[str, float] | None = None
) -> Figure:
    """Return an empty figure, which no window shows.

    Parameters
    ----------
    margins
        Edges of the plots, as for `Figure.subplots_adjust`; None: such that labels fit. To measure labels
        takes as long as to draw.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained" if margins is None else None)
    if margins is not None:
        figure.subplots_adjust(**margins)
    return figure


def count_in_whole_numbers(axis: Axis) -> None:
    """Let the ticks of an axis be whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))
