"""The rows of any CSV file: one way to find the separator, to take quotes, and to refuse what is broken."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ensemble.errors import DataError, one_line


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
