"""Plots as SVG within a page, in the page's own ink: light, dark and printed alike."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes


INK, SOFT, LINE = "#010101", "#010102", "#010103"
SERIES = tuple(f"#0104{number:02x}" for number in range(8))
"""Colours that stand for the page's own until the drawing is done; the eight are `--c0` to `--c7`."""

_SAID = {INK: "currentColor", SOFT: "var(--soft)", LINE: "var(--line)"} | {
    colour: f"var(--c{number})" for number, colour in enumerate(SERIES)
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ensemble",
    # a class may be called $x_$
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.titlesize": 10,
    # nothing lies above the axes that a title would have to make room for, and looking takes time
    "axes.titley": 1.0,
    "axes.labelsize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.7,
}
_NOTHING = {"Date": None, "Creator": None, "Format": None, "Type": None}


def plot(key: str, says: str, draw: Callable[[Axes], None], *, width: float = 3.5, height: float = 2.6) -> Markup:
    """An `<svg>` of what `draw` does with empty axes, in inches; `says` is read out in its place.

    key: told from those of all other plots of the page, so that what is named inside is named once.
    """
    return _inline(_drawn(draw, width, height), key, says)


def _drawn(draw: Callable[[Axes], None], width: float, height: float) -> str:
    """The SVG file of it."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        left, bottom = 0.55 / width, 0.5 / height
        draw(figure.add_axes((left, bottom, 1 - left - 0.12 / width, 1 - bottom - 0.3 / height)))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata=_NOTHING)
    return out.getvalue()


def _inline(svg: str, key: str, says: str) -> Markup:
    """The file's `<svg>` with the page's colours and font, and names that no other plot has."""
    body = svg[svg.index("<svg") :]
    _, width, height, body = re.split(r'width="([\d.]+)pt" height="([\d.]+)pt"', body, maxsplit=1)
    body = re.sub(r' xmlns="[^"]*" version="1.1"', "", body, count=1)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'style="[^"]*"', lambda found: _own_style(found[0]), body)
    named = set(re.findall(r"(?:url\(|xlink:href=\")#([\w-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in named else "", body)
    body = re.sub(r"(url\(|xlink:href=\")#([\w-]+)", rf"\1#{key}-\2", body)
    body = re.sub(r"\s*\n\s*", " ", body).strip()
    size = f'width="{float(width) * 4 / 3:.0f}" height="{float(height) * 4 / 3:.0f}"'
    return Markup(f'<svg role="img" aria-label="{escape(says)}" {size} {body}')


def _own_style(style: str) -> str:
    style = re.sub(r"font-family: [^;\"]*;? ?", "", style)
    return re.sub(r"#0[0-9a-f]{5}\b", lambda found: _SAID.get(found[0], found[0]), style)
