"""CSV files as columns of text. The separator is detected; rows of unequal width are refused."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble.core.errors import DataError, first_few, one_line
from ensemble.core.names import has_control, nfc
from ensemble.core.registry import did_you_mean


@dataclass(frozen=True)
class Row:
    """The cells of a row, and the number of its last line in the file."""

    cells: tuple[str, ...]
    line: int


_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
"""First line `sep=;`, from which Excel takes the separator. It is not a row."""
_QUOTED_CELL = re.compile(r'(^|[^\w\s"])\s*"(?:[^"]|"")*"')
"""A quoted cell and the separator before it. A quote inside a cell, as for inches, is plain text."""
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_rows(path: Path, separators: str = ",;\t") -> tuple[list[Row], str]:
    """The rows of a CSV that are not blank, and its separator.

    The separator is that of a first line `sep=;`; otherwise the one of `separators` that occurs most often in the
    header outside quotes; otherwise `|`. If the rows then have several widths, the next candidate that gives one
    width is used. The text is UTF-8, or UTF-16 with a byte order mark. Raises DataError for a file that is missing,
    has another encoding, or has an unclosed quote.
    """
    name = one_line(path)
    try:
        separator, skipped_lines, text = _separated(_text(path.read_bytes()), separators)
        rows = list(_rows(text, separator, skipped_lines))
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file, a CSV expected") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: no text in UTF-8 ({one_line(error)}); save it again as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{name}: cannot be read as a CSV of UTF-8 text ({one_line(error)})") from error
    return rows, separator


def _text(content: bytes) -> str:
    return content.decode("utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")


def _separated(text: str, separators: str) -> tuple[str, int, str]:
    """The separator, the number of lines before the header, and the text from the header on."""
    first_line = io.StringIO(text, newline="").readline()
    if match := _SEPARATOR_LINE.fullmatch(first_line):
        return match[1], 1, text[len(first_line) :]
    unquoted = _QUOTED_CELL.sub(r"\1", first_line)
    # `|` is the last candidate, as column names may contain it
    candidates = separators if any(map(unquoted.count, separators)) or "|" not in unquoted else "|"
    ranked = sorted(dict.fromkeys(candidates), key=unquoted.count, reverse=True)
    present = [separator for separator in ranked if separator in unquoted]
    consistent = (separator for separator in present[1:] and present if _has_one_width(text, separator))
    return next(consistent, ranked[0]), 0, text


def _has_one_width(text: str, separator: str) -> bool:
    rows = _rows(text, separator, 0)
    try:
        width = len(next(rows).cells)
        return all(len(row.cells) == width for row in rows)
    except (csv.Error, StopIteration):
        return False


def _rows(text: str, separator: str, skipped_lines: int) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    for cells in reader:
        if any(map(str.strip, cells)):
            yield Row(tuple(cells), reader.line_num + skipped_lines)


ADD_HEADER = "add a header line, such as id,label"


@dataclass(frozen=True)
class Table:
    """Columns of equal length; all values are stripped NFC text.

    name: the file, for messages.  columns: name -> values, in the order of the file.
    row_numbers: the number of each row below the header, for a subset of the rows of a file.
    """

    name: str
    columns: dict[str, list[str]]
    row_numbers: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str, key: str) -> list[str]:
        """The values of a column. Raises DataError that names the recipe's `key` if the column is missing."""
        name = nfc(name)
        if name not in self.columns:
            raise DataError(
                f"{self.name}: no column {name!r}, which data.{key} names{did_you_mean(name, self.columns)}"
            )
        invalid = [value for value in self.columns[name] if has_control(value)]
        if invalid:
            raise DataError(f"{self.name}, column {name!r}: values with control characters: {_escaped(invalid)}")
        return self.columns[name]

    def take(self, rows: Sequence[int]) -> Table:
        """The table of some rows, counted from 0. The row numbers in messages stay those of the file."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return Table(
            self.name, columns, tuple(self.row_numbers[row] if self.row_numbers else row + 1 for row in rows)
        )

    @property
    def rows(self) -> list[str]:
        """The name of each row in messages."""
        return [f"row {number}" for number in self.row_numbers or range(1, len(self) + 1)]

    @property
    def named(self) -> list[str]:
        """The columns with a name; the row numbers that pandas writes without a name are left out."""
        return [name for name in self.columns if name and not name.startswith("Unnamed: ")]


def read_csv(path: Path) -> Table:
    """Read a CSV with a header; the separator is detected as in `read_rows`.

    Raises DataError for a file that is missing, not UTF-8 or UTF-16, has rows of unequal length, or has no rows.
    """
    name = one_line(path)
    rows, _ = read_rows(path)
    for row in rows[1:]:
        if len(row.cells) != len(rows[0].cells):
            width, expected = len(row.cells), len(rows[0].cells)
            raise DataError(f"{name}, line {row.line}: {width} values found, {expected} expected; correct it")
    if len(rows) < 2:
        raise DataError(f"{name}: no rows below the header; a header and a row for each image expected")
    return Table(name, _columns([row.cells for row in rows], name))


def _columns(rows: Sequence[Sequence[str]], name: str) -> dict[str, list[str]]:
    header = [nfc(value.strip()) for value in rows[0]]
    columns = [[nfc(value.strip()) for value in values] for values in zip(*rows[1:], strict=True)]
    # a separator at the end of every line gives an empty column
    named_columns = [
        (column, values) for column, values in zip(header, columns, strict=True) if column or any(values)
    ]
    names = [column for column, _ in named_columns]
    repeated = [column for column in dict.fromkeys(names) if names.count(column) > 1]
    if repeated:
        raise DataError(
            f"{name}: columns of the same name: {first_few(repeated)}; rename one, or, where the file has no"
            f" header, {ADD_HEADER}"
        )
    return dict(named_columns)


def _escaped(values: Sequence[str]) -> str:
    return first_few([one_line(value) for value in values])
