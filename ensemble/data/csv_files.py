"""CSV files as columns of text: the separator detected, quotes read, broken rows refused."""

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
    """The cells of one row, and the line of the file that it ends on."""

    cells: tuple[str, ...]
    line: int


_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*')
"""The first line that Excel takes the separator from, and that is no row."""
_QUOTED = re.compile(r'(^|[^\w\s"])\s*"(?:[^"]|"")*"')
"""A quoted cell, and the separator before it; a quote within a cell, as of inches, is no more than a letter."""
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_rows(path: Path, separators: str = ",;\t") -> tuple[list[Row], str]:
    """The rows of a CSV that are not blank, and its separator.

    That is what a first line `sep=;` says, else which of `separators` the header has most of outside quotes, else
    `|`; where that gives rows of several widths, the next that gives one width. The text is UTF-8, or UTF-16 with
    its mark. Raises DataError for a file that is missing, other text, or has a quote that is never closed.
    """
    name = one_line(path)
    try:
        separator, skipped, text = _separated(_text(path.read_bytes()), separators)
        rows = list(_rows(text, separator, skipped))
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file, a CSV expected") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: no text in UTF-8 ({one_line(error)}); save it again as CSV UTF-8") from error
    except (OSError, csv.Error) as error:
        raise DataError(f"{name}: cannot be read as a CSV of UTF-8 text ({one_line(error)})") from error
    return rows, separator


def _text(content: bytes) -> str:
    return content.decode("utf-16" if content.startswith(_WIDE) else "utf-8-sig")


def _separated(text: str, separators: str) -> tuple[str, int, str]:
    """The separator, how many lines stand before the header, and the text from the header on."""
    first = io.StringIO(text, newline="").readline()
    if stated := _SEPARATOR_LINE.fullmatch(first):
        return stated[1], 1, text[len(first) :]
    plain = _QUOTED.sub(r"\1", first)
    # a bar is looked for last: the names of columns may hold some
    usable = separators if any(map(plain.count, separators)) or "|" not in plain else "|"
    likely = sorted(dict.fromkeys(usable), key=plain.count, reverse=True)
    present = [separator for separator in likely if separator in plain]
    fitting = (separator for separator in present[1:] and present if _has_one_width(text, separator))
    return next(fitting, likely[0]), 0, text


def _has_one_width(text: str, separator: str) -> bool:
    rows = _rows(text, separator, 0)
    try:
        width = len(next(rows).cells)
        return all(len(row.cells) == width for row in rows)
    except (csv.Error, StopIteration):
        return False


def _rows(text: str, separator: str, skipped: int) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    for cells in reader:
        if any(map(str.strip, cells)):
            yield Row(tuple(cells), reader.line_num + skipped)


ADD_HEADER = "add a header line, such as id,label"


@dataclass(frozen=True)
class Table:
    """Columns of equal length, every value as text without spaces around it, NFC.

    name: the file, for messages.  columns: name -> values, in the file's order.
    places: the number of each row below the header, where these are not all of a file's rows.
    """

    name: str
    columns: dict[str, list[str]]
    places: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str, key: str) -> list[str]:
        """The values of one column. Raises DataError that names the recipe's `key` when it is not there."""
        name = nfc(name)
        if name not in self.columns:
            raise DataError(
                f"{self.name}: no column {name!r}, which data.{key} names{did_you_mean(name, self.columns)}"
            )
        bad = [value for value in self.columns[name] if has_control(value)]
        if bad:
            raise DataError(f"{self.name}, column {name!r}: values with control characters: {_escaped(bad)}")
        return self.columns[name]

    def take(self, rows: Sequence[int]) -> Table:
        """The table of some rows, counted from 0; they keep the numbers that messages call them by."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return Table(self.name, columns, tuple(self.places[row] if self.places else row + 1 for row in rows))

    @property
    def rows(self) -> list[str]:
        """What messages call each row."""
        return [f"row {place}" for place in self.places or range(1, len(self) + 1)]

    @property
    def named(self) -> list[str]:
        """The columns that mean something: not the row numbers that pandas writes without a name."""
        return [name for name in self.columns if name and not name.startswith("Unnamed: ")]


def read_csv(path: Path) -> Table:
    """Read a CSV with a header; the separator is the comma, semicolon, tab or bar that the header has.

    Raises DataError for a file that is missing, no UTF-8 or UTF-16 text, ragged, or without rows.
    """
    name = one_line(path)
    rows, _ = read_rows(path)
    for row in rows[1:]:
        if len(row.cells) != len(rows[0].cells):
            found, expected = len(row.cells), len(rows[0].cells)
            raise DataError(f"{name}, line {row.line}: {found} values found, {expected} expected; correct it")
    if len(rows) < 2:
        raise DataError(f"{name}: no rows below the header; a header and a row for each image expected")
    return Table(name, _columns([row.cells for row in rows], name))


def _columns(rows: Sequence[Sequence[str]], name: str) -> dict[str, list[str]]:
    header = [nfc(value.strip()) for value in rows[0]]
    texts = [[nfc(value.strip()) for value in values] for values in zip(*rows[1:], strict=True)]
    # a separator at the end of every line makes a column of nothing
    kept = [(column, values) for column, values in zip(header, texts, strict=True) if column or any(values)]
    names = [column for column, _ in kept]
    repeated = [column for column in dict.fromkeys(names) if names.count(column) > 1]
    if repeated:
        raise DataError(
            f"{name}: columns of the same name: {first_few(repeated)}; rename one, or, where the file has no"
            f" header, {ADD_HEADER}"
        )
    return dict(kept)


def _escaped(values: Sequence[str]) -> str:
    return first_few([one_line(value) for value in values])
