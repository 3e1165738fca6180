"""Numbers and tables as text: for a screen, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame


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


def seconds_of(text: str) -> float:
    """`45s`, `90m`, `2h` or `1h30m` in seconds. Raises ValueError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    seconds = 0.0
    if match:
        seconds = sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True))
    if seconds <= 0:
        raise ValueError(f"{text!r} is not a time; 45s, 90m, 2h or 1h30m is expected")
    return seconds


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


Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """Named columns and rows of cells, shown in many ways.

    >>> print(Table(("member", "accuracy"), [("a", 0.5), ("b", None)]).text())
    member  accuracy
    a         0.5000
    b
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def text(self) -> str:
        """Columns aligned under the header: text to the left, numbers to the right, None as nothing."""
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The header and the rows as `text` has them."""
        cells = [[as_text(cell) for cell in row] for row in self.rows]
        right = [
            all(isinstance(row[at], (int, float, type(None))) for row in self.rows)
            for at in range(len(self.columns))
        ]
        widths = [max(len(line[at]) for line in [list(self.columns), *cells]) for at in range(len(self.columns))]
        return [
            "  ".join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in [list(self.columns), *cells]
        ]

    def markdown(self, text: Callable[[Cell], str] | None = None, bold: tuple[int, int] | None = None) -> str:
        """As Markdown. text: the text of a cell, by default `as_text`.  bold: row and column of a bold cell."""
        cells = [[(text or as_text)(cell) for cell in row] for row in self.rows]
        if bold is not None:
            row, column = bold
            cells[row][column] = f"**{cells[row][column]}**"
        return markdown(self.columns, cells)

    def csv(self) -> str:
        """As `as_csv` writes it."""
        return as_csv(self.columns, self.rows)

    def records(self) -> list[dict[str, Cell]]:
        """A mapping for each row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def facts(self) -> dict[str, Any]:
        """As plain values for JSON, which `read` takes."""
        return {"columns": list(self.columns), "rows": [list(row) for row in self.rows]}

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Table:
        """The table whose `facts` these are. Raises KeyError, TypeError or ValueError for anything else."""
        table = cls(tuple(map(str, facts["columns"])), [tuple(row) for row in facts["rows"]])
        if any(len(row) != len(table.columns) for row in table.rows):
            raise ValueError("rows of a table have other numbers of cells")
        return table

    def frame(self) -> DataFrame:
        """As a pandas DataFrame."""
        from pandas import DataFrame

        return DataFrame([list(row) for row in self.rows], columns=list(self.columns))


def as_text(cell: Cell) -> str:
    """One cell: a float with four digits after the point."""
    if cell is None:
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
