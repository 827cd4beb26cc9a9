"""Plots of an alignment's results, as figures of matplotlib, which notebooks show."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from tomopolish.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tomopolish.output.report.data import TomogramDetails
    from tomopolish.results.tomogram import MapComparison, TomogramResult, TomogramStatistics
    from tomopolish.results.verdict import Verdict


class Plots:
    """Plots of results; each returns a new figure, which no window shows, to be shown or saved.

    Where a method takes a tomogram, None stands for the first; a name that was not refined raises InputError.
    """

    results: Mapping[str, TomogramResult]
    verdict: Verdict | None
    maps: Mapping[str, MapComparison]

    def plot_tomograms(self) -> Figure:
        """Return the agreement of held-out pairs before and after, by tomogram, the worst first."""
        from tomopolish.output.figures import tomograms_figure

        return tomograms_figure(self._statistics, self.verdict)

    def plot_resolution(self, tomogram: str | None = None) -> Figure:
        """Return the agreement of held-out pairs by resolution, before and after; None: of all tomograms.

        Raises InputError for a tomogram that was not refined, or without held-out pairs.
        """
        from tomopolish.output.figures import resolution_figure

        records = [result.record for result in self._chosen(tomogram).values()]
        curves = [r.by_frequency for r in records if r is not None and r.by_frequency is not None]
        if not curves:
            raise InputError("there are no held-out pairs to plot: align without shift_only and hold_out 0")
        return resolution_figure(curves)

    def plot_tilts(self, tomogram: str | None = None) -> Figure:
        """Return agreement, shift and rotation of each tilt image, with standard errors."""
        from tomopolish.output.figures import tilts_figure

        return tilts_figure(self._details(tomogram))

    def plot_scores(self, tomogram: str | None = None) -> Figure:
        """Return the histogram of particles by agreement, with flagged ones and the threshold.

        Raises InputError for a tomogram that was not refined, or has no scores.
        """
        from tomopolish.output.figures import scores_figure

        details = self._details(tomogram)
        if details.scores is None:
            raise InputError(f"{details.name} has no scores: align with outliers=True")
        return scores_figure(details.scores)

    def plot_image(self, tomogram: str | None = None) -> Figure:
        """Return the least tilted image, with its particles coloured by agreement."""
        from tomopolish.output.figures import image_figure

        return image_figure(self._details(tomogram))

    def plot_depth(self, tomogram: str | None = None) -> Figure:
        """Return the agreement by depth, which falls to both ends where the defocus hand is wrong."""
        from tomopolish.output.figures import depth_figure

        return depth_figure(self._details(tomogram))

    def plot_maps(self) -> Figure:
        """Return the FSC of half maps before and after; raises InputError without ``evaluate=True``."""
        from tomopolish.output.figures import maps_figure

        if not self.maps:
            raise InputError("there are no maps to compare: align with evaluate=True")
        return maps_figure(self.maps)

    @cached_property
    def _statistics(self) -> dict[str, TomogramStatistics]:
        return {name: result.statistics for name, result in self.results.items()}

    def _chosen(self, tomogram: str | None) -> Mapping[str, TomogramResult]:
        if tomogram is None:
            return self.results
        if tomogram not in self.results:
            raise InputError(f"tomogram={tomogram!r} was not refined: give one of {', '.join(self.results)}")
        return {tomogram: self.results[tomogram]}

    def _details(self, tomogram: str | None) -> TomogramDetails:
        from tomopolish.output.report.gather import tomogram_details
        from tomopolish.results.verdict import verdict_on

        name = tomogram if tomogram is not None else next(iter(self.results))
        result = self._chosen(name)[name]
        details = tomogram_details(name, result, verdict_on(self.verdict, name))
        if details is None:
            raise InputError(f"{name} has no record of its fit: align it again")
        return details
