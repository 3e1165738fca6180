"""A CSV file as columns of text: `0001` stays `0001`, `NA` stays `NA`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble.data.csvrows import read_rows
from ensemble.data.names import has_control, nfc
from ensemble.errors import DataError, first_few, one_line
from ensemble.registry import did_you_mean

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
