"""Plots as inline SVG whose colours follow the page's CSS: light, dark and print."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup, escape

from ensemble.core.predictions import Wide
from ensemble.report.plot import DASHES, Axis, Histogram, Line, Plot

SERIES = 8
"""Number of colours of the page, the CSS variables `--c0` to `--c7`."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 39.6, 8.6, 21.6, 36.0
_NEAREST = 0.4
"""Distance, in points, below which two points of a line are drawn as one."""


def svg(plot: Plot, alt_text: str, *, width: float = 252.0, height: float = 187.2) -> Markup:
    """An `<svg>` element. width, height: in points.  alt_text: its aria-label."""
    right, bottom = width - _RIGHT, height - _BOTTOM
    inner_width, inner_height = right - _LEFT, bottom - _TOP
    middle_x, middle_y = (_LEFT + right) / 2, (_TOP + bottom) / 2
    columns = [(_LEFT + x, text) for x, text in _ticks(plot.x, inner_width)]
    rows = [(bottom - y, text) for y, text in _ticks(plot.y, inner_height)]
    grid = "".join(f"M{_n(x)} {_n(_TOP)}V{_n(bottom)}" for x, _ in columns)
    grid += "".join(f"M{_n(_LEFT)} {_n(y)}H{_n(right)}" for y, _ in rows)
    marks = [_line(mark, plot, inner_width, inner_height) for mark in plot.marks if isinstance(mark, Line)]
    bars = [_bars(mark, plot, inner_width, inner_height) for mark in plot.marks if isinstance(mark, Histogram)]
    guides = [
        _path(f"M{_n(x)} 0V{_n(inner_height)}", guide.colour, 1.0, DASHES[-1])
        for guide in plot.guides
        for x in (inner_width * plot.x.share([guide.x])).tolist()
    ]
    parts = [
        f'<svg role="img" aria-label="{escape(alt_text)}" width="{width * 4 / 3:.0f}" height="{height * 4 / 3:.0f}"'
        f' viewBox="0 0 {_n(width)} {_n(height)}">',
        f'<path d="{grid}" style="stroke: var(--line); stroke-width: 0.8"/>',
        _text(middle_x, _TOP - 7, plot.title, "font-size: 10px; fill: currentColor"),
        '<g style="font-size: 9px; fill: var(--soft)">',
        *(_text(x, bottom + 11, text) for x, text in columns),
        _text(middle_x, height - 11, plot.x.label),
        f'<g style="text-anchor: end">{"".join(_text(_LEFT - 4, y + 3, text, None) for y, text in rows)}</g>',
        f'<g transform="rotate(-90)">{_text(-middle_y, 9, plot.y.label)}</g>',
        "</g>",
        # an inner element cuts off what lies outside of the axes
        f'<svg aria-hidden="true" x="{_n(_LEFT)}" y="{_n(_TOP)}" width="{_n(inner_width)}"'
        f' height="{_n(inner_height)}">',
        *bars,
        *guides,
        *marks,
        "</svg></svg>",
    ]
    return Markup("".join(parts))


def _n(value: float) -> str:
    """A coordinate with one digit after the point, if it has any."""
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, text: str, style: str | None = "") -> str:
    anchor = "" if style is None else ' style="text-anchor: middle; ' + style + '"'
    return f'<text x="{_n(x)}" y="{_n(y)}"{anchor}>{escape(text)}</text>'


def _ticks(axis: Axis, length: float) -> list[tuple[float, str]]:
    ticks = axis.ticks()
    places = length * axis.share([value for value, _ in ticks]) if ticks else np.zeros(0)
    return [(place, text) for place, (_, text) in zip(places.tolist(), ticks, strict=True)]


def _colour(number: int | None) -> str:
    return "var(--soft)" if number is None else f"var(--c{number % SERIES})"


def _path(data: str, colour: int | None, width: float, dash: str) -> str:
    dashes = "" if dash == "none" else f"; stroke-dasharray: {dash}"
    return f'<path d="{data}" style="fill: none; stroke: {_colour(colour)}; stroke-width: {width:g}{dashes}"/>'


def _line(line: Line, plot: Plot, width: float, height: float) -> str:
    if not len(line.x):
        return ""
    points = np.stack([width * plot.x.share(line.x), height * (1 - plot.y.share(line.y))], axis=1)
    data = "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in thinned(points).tolist())
    dots = [
        f'<circle cx="{_n(x)}" cy="{_n(y)}" r="2.2" style="fill: {_colour(line.colour)}"/>'
        for x, y in (points.tolist() if line.dots else ())
    ]
    return _path(data, line.colour, line.width, DASHES[line.dash]) + "".join(dots)


def thinned(points: Wide) -> Wide:
    """The points (n, 2) without those next to the one before, and without those within a straight line."""
    kept = [0]
    for index in range(1, len(points)):
        if np.abs(points[index] - points[kept[-1]]).max() >= _NEAREST:
            kept.append(index)
    if kept[-1] != len(points) - 1:
        kept.append(len(points) - 1)
    chosen = points[kept]
    steps = np.diff(chosen, axis=0)
    straight = np.abs(steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]) < 1e-6
    forward = (steps[:-1] * steps[1:]).sum(axis=1) >= 0
    shorter: Wide = chosen[np.concatenate([[True], ~(straight & forward), [True]])] if len(chosen) > 2 else chosen
    return shorter


def _bars(bars: Histogram, plot: Plot, width: float, height: float) -> str:
    x, y = width * plot.x.share(bars.edges), height * (1 - plot.y.share(bars.counts))
    if not bars.filled:
        steps = "".join(f"V{_n(top)}H{_n(end)}" for top, end in zip(y.tolist(), x[1:].tolist(), strict=True))
        return _path(f"M{_n(x[0])} {_n(height)}{steps}V{_n(height)}", bars.colour, 1.2, "none")
    data = "".join(
        f"M{_n(left)} {_n(height)}V{_n(top)}H{_n(right)}V{_n(height)}z"
        for left, right, top in zip(x[:-1].tolist(), x[1:].tolist(), y.tolist(), strict=True)
        if top < height
    )
    return f'<path d="{data}" style="fill: {_colour(bars.colour)}; stroke: var(--line)"/>'
