"""A CSV file as columns of text: `0001` stays `0001`, `NA` stays `NA`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble.data.names import has_control, nfc
from ensemble.errors import DataError, first_few, one_line
from ensemble.registry import did_you_mean


@dataclass(frozen=True)
class Table:
    """Columns of equal length, every value as text without spaces around it, NFC.

    name: the file, for messages.  columns: name -> values, in the file's order.
    """

    name: str
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str, key: str) -> list[str]:
        """The values of one column. Raises DataError that names the recipe's `key` when it is not there."""
        name = nfc(name)
        if name not in self.columns:
            raise DataError(
                f"{self.name}: no column {name!r}, which data.{key} names{did_you_mean(name, self.columns)}"
            )
        return self.columns[name]


def read_csv(path: Path) -> Table:
    """Read a CSV with a header; the separator is the comma, semicolon or tab that the header has most of.

    Raises DataError for a file that is missing, no UTF-8 text, ragged, or without rows.
    """
    name = one_line(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header_line = file.readline()
            separator = max(",;\t", key=header_line.count)
            file.seek(0)
            rows = list(_rows(csv.reader(file, delimiter=separator, strict=True), name))
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file, a CSV expected") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{name}: cannot be read as a CSV of UTF-8 text ({one_line(error)})") from error
    if len(rows) < 2:
        raise DataError(f"{name}: no rows below the header; a header and a row for each image expected")
    return Table(name, _columns(rows, name))


def _rows(reader: Iterator[list[str]], name: str) -> Iterator[list[str]]:
    """The rows that are not blank. Raises DataError for one with another number of values than the header."""
    width = None
    for row in reader:
        if not any(value.strip() for value in row):
            continue
        width = len(row) if width is None else width
        if len(row) != width:
            line = getattr(reader, "line_num", 0)
            raise DataError(f"{name}, line {line}: {len(row)} values found, {width} expected")
        yield row


def _columns(rows: Sequence[Sequence[str]], name: str) -> dict[str, list[str]]:
    header = [nfc(value.strip()) for value in rows[0]]
    repeated = [column for column in dict.fromkeys(header) if header.count(column) > 1]
    if repeated:
        raise DataError(f"{name}: columns of the same name: {first_few(repeated)}; rename one")
    columns = {}
    for column, values in zip(header, zip(*rows[1:], strict=True), strict=True):
        columns[column] = [nfc(value.strip()) for value in values]
        bad = [value for value in columns[column] if has_control(value)]
        if bad:
            raise DataError(f"{name}, column {column!r}: values with control characters: {_escaped(bad)}")
    return columns


def _escaped(values: Sequence[str]) -> str:
    return first_few([one_line(value) for value in values])
