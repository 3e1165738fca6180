"""Inline SVG plots whose colours follow the page's CSS: light, dark and print."""

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
"""Placeholder colours while plotting, replaced by CSS colours afterwards; those of SERIES by `--c0` to `--c7`."""


_CSS_COLOURS = {INK: "currentColor", SOFT: "var(--soft)", LINE: "var(--line)"} | {
    colour: f"var(--c{number})" for number, colour in enumerate(SERIES)
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ensemble",
    # class names may contain dollar signs, such as $x_$
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.titlesize": 10,
    # a fixed title position: nothing lies above the axes, and matplotlib's automatic placement is slow
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
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def plot(
    key: str, alt_text: str, draw: Callable[[Axes], None], *, width: float = 3.5, height: float = 2.6
) -> Markup:
    """An `<svg>` of what `draw` plots into empty axes; width and height in inches. alt_text: its aria-label.

    key: unique within the page; prefixes the ids inside the SVG so that they are unique too.
    """
    return _inline(draw_svg(draw, width, height), key, alt_text)


def draw_svg(draw: Callable[[Axes], None], width: float, height: float) -> str:
    """The plot as the text of a complete SVG file."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        left, bottom = 0.55 / width, 0.5 / height
        draw(figure.add_axes((left, bottom, 1 - left - 0.12 / width, 1 - bottom - 0.3 / height)))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata=_NO_METADATA)
    return out.getvalue()


def _inline(svg: str, key: str, alt_text: str) -> Markup:
    """The file's `<svg>` element with the page's colours and font, and ids prefixed with `key`."""
    body = svg[svg.index("<svg") :]
    _, width, height, body = re.split(r'width="([\d.]+)pt" height="([\d.]+)pt"', body, maxsplit=1)
    body = re.sub(r' xmlns="[^"]*" version="1.1"', "", body, count=1)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'style="[^"]*"', lambda match: _page_style(match[0]), body)
    referenced = set(re.findall(r"(?:url\(|xlink:href=\")#([\w-]+)", body))
    body = re.sub(r' id="([^"]*)"', lambda match: f' id="{key}-{match[1]}"' if match[1] in referenced else "", body)
    body = re.sub(r"(url\(|xlink:href=\")#([\w-]+)", rf"\1#{key}-\2", body)
    body = re.sub(r"\s*\n\s*", " ", body).strip()
    size = f'width="{float(width) * 4 / 3:.0f}" height="{float(height) * 4 / 3:.0f}"'
    return Markup(f'<svg role="img" aria-label="{escape(alt_text)}" {size} {body}')


def _page_style(style: str) -> str:
    style = re.sub(r"font-family: [^;\"]*;? ?", "", style)
    return re.sub(r"#0[0-9a-f]{5}\b", lambda match: _CSS_COLOURS.get(match[0], match[0]), style)
