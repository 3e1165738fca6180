"""A table as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads as text too; the first column is text, the others are numbers."""
    cells = [[_escaped(cell) for cell in row] for row in [header, *rows]]
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(header))]
    lines = [_line([_padded(cell, widths[at], at) for at, cell in enumerate(row)]) for row in cells]
    rule = "|".join("-" * (width + 1) + ("-" if at == 0 else ":") for at, width in enumerate(widths))
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _padded(cell: str, width: int, at: int) -> str:
    return cell.ljust(width) if at == 0 else cell.rjust(width)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def as_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """CSV with a header; None is an empty field, a float is written so that it reads back as the same number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return out.getvalue()
