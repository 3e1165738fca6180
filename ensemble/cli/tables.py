"""Values as the text that a person reads: tables, numbers, sizes. No markup, no colour."""

from __future__ import annotations

from collections.abc import Sequence

Cell = str | float | int | None


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Columns aligned under `header`: text to the left, numbers to the right, None as nothing."""
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
    return "\n".join(line.rstrip() for line in lines)


def text(cell: Cell) -> str:
    """One cell: a float with four digits after the point."""
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
