"""Numbers and tables as text: for a screen, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence


def interval(low: float | None, high: float | None) -> str:
    """`0.9651 to 0.9763`; nothing where it is not known or not defined."""
    return "" if low is None or high is None or low != low else f"{low:.4f} to {high:.4f}"


def millions(count: int | None) -> str:
    """A number of parameters: `23.5M`, `812k`."""
    if count is None:
        return ""
    return f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k" if count >= 1e3 else str(count)


def size(count: float | None) -> str:
    """A number of bytes: `14.4 MB`, `812 kB`."""
    if count is None:
        return ""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def duration(seconds: float | None) -> str:
    """`42s`, `3m10s`, `2h05m`."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def milliseconds(seconds: float | None) -> str:
    """Seconds an image as `3.2ms`."""
    return "" if seconds is None else f"{seconds * 1000:.2f}ms"


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
