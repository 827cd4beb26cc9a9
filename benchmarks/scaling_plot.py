"""A plot of how time grows with each size of a case, as SVG and without any plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

PANEL, GAP, TOP = 220, 70, 40


def scaling_plot(curves: Mapping[str, Sequence[tuple[float, float, float]]]) -> str:
    """Draw one panel per size: processor seconds against it, both logarithmic, with a line of slope 1.

    Parameters
    ----------
    curves
        Per size its points (size, seconds, ratio); the ratio is written beside the point.
    """
    width = GAP + len(curves) * (PANEL + GAP)
    panels = "".join(
        _panel(name, points, GAP + i * (PANEL + GAP)) for i, (name, points) in enumerate(curves.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{PANEL + 2 * TOP + 20}" '
        f'font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>{panels}</svg>\n'
    )


def _panel(name: str, points: Sequence[tuple[float, float, float]], left: float) -> str:
    across = _span([size for size, _, _ in points])
    up = _span([seconds for _, seconds, _ in points])

    def place(size: float, seconds: float) -> tuple[float, float]:
        x = (math.log(size) - across[0]) / (across[1] - across[0])
        y = (math.log(seconds) - up[0]) / (up[1] - up[0])
        return left + PANEL * x, TOP + PANEL * (1 - y)

    parts = [f'<rect x="{left}" y="{TOP}" width="{PANEL}" height="{PANEL}" fill="none" stroke="#888"/>']
    parts.append(
        f'<text x="{left + PANEL / 2}" y="{TOP + PANEL + 36}" text-anchor="middle">'
        f"{name.removesuffix('_px')}</text>"
    )
    first, last = points[0], points[-1]
    line = f"{_pair(place(*first[:2]))} {_pair(place(last[0], first[1] * last[0] / first[0]))}"
    clip = f"clip-{name}"
    parts.append(
        f'<clipPath id="{clip}"><rect x="{left}" y="{TOP}" width="{PANEL}" height="{PANEL}"/></clipPath>'
        f'<polyline points="{line}" stroke="#bbb" stroke-dasharray="4" fill="none" clip-path="url(#{clip})"/>'
    )
    path = " ".join(_pair(place(size, seconds)) for size, seconds, _ in points)
    parts.append(f'<polyline points="{path}" stroke="#1f5fa8" stroke-width="2" fill="none"/>')
    for size, seconds, ratio in points:
        x, y = place(size, seconds)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#1f5fa8"/>')
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 13:.1f}" fill="#444">{ratio:.2g}×</text>')
        parts.append(f'<text x="{x:.1f}" y="{TOP + PANEL + 16}" text-anchor="middle">{size:g}</text>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{seconds:.3g} s</text>')
    return "".join(parts)


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Logarithmic range with some room on both sides."""
    low, high = math.log(min(values)), math.log(max(values))
    room = 0.12 * max(high - low, math.log(2))
    return low - room, high + room


def _pair(point: tuple[float, float]) -> str:
    return f"{point[0]:.1f},{point[1]:.1f}"
