"""Values as the text that a person reads: tables, numbers, sizes. Coloured where a terminal shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ensemble.cli.colour import colours

Cell = str | float | int | None
Style = Mapping[str, Any]
"""Keywords of `click.style`."""

BEST: Style = {"fg": "green"}
DIM: Style = {"dim": True}
BAD: Style = {"fg": "red"}


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], styles: Mapping[int, Style] | None = None) -> str:
    """Columns aligned under `header`: text to the left, numbers to the right, None as nothing.

    styles: of whole rows, by number. Styles, and the bold header, are for terminals; elsewhere the text is plain.
    """
    cells = [[text(cell) for cell in row] for row in rows]
    right = [all(isinstance(row[at], (int, float, type(None))) for row in rows) for at in range(len(header))]
    widths = [max(len(line[at]) for line in [list(header), *cells]) for at in range(len(header))]
    lines = (
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
        for line in [list(header), *cells]
    )
    plain = [line.rstrip() for line in lines]
    if not colours():
        return "\n".join(plain)
    first, *rest = plain
    shown = [click.style(line, **(styles or {}).get(at, {})) for at, line in enumerate(rest)]
    return "\n".join([click.style(first, bold=True), *shown])


def markdown(text: str) -> str:
    """A Markdown table, and what is below it, for stdout; a terminal has the header bold and the best green."""
    if not colours():
        return text
    first, rest = text.split("\n", 1)
    bold = re.sub(r"\*\*(.+?)\*\*", lambda found: "    " + click.style(found[1], bold=True, fg="green"), rest)
    return f"{click.style(first, bold=True)}\n{bold}"


def text(cell: Cell) -> str:
    """One cell: a float with four digits after the point."""
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
