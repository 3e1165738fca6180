"""The rows of any CSV file: one way to find the separator, to take quotes, and to refuse what is broken."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ensemble.errors import DataError, one_line


@dataclass(frozen=True)
class Row:
    """The cells of one row, and the line of the file that it ends on."""

    cells: tuple[str, ...]
    line: int


def read_rows(path: Path, separators: str = ",;\t") -> tuple[list[Row], str]:
    """The rows of a CSV that are not blank, and which of `separators` the first line has most of.

    Raises DataError for a file that is missing, no UTF-8 text, or has a quote that is never closed.
    """
    name = one_line(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = max(separators, key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=True)
            rows = [Row(tuple(cells), reader.line_num) for cells in reader if any(map(str.strip, cells))]
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file, a CSV expected") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name}: cannot be read as a CSV of UTF-8 text ({one_line(error)})") from error
    return rows, separator
