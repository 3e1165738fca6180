"""A submission as rows of text, before it is bytes."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

from ensemble.data.names import READ_AS_MISSING
from ensemble.errors import RecipeError, first_few, one_line
from ensemble.predictions import Floats

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip that holds no time repeats its bytes


class Spec(Protocol):
    """The keys of a recipe's `submit`, whoever holds them."""

    @property
    def format(self) -> str: ...
    @property
    def id_column(self) -> str: ...
    @property
    def label_column(self) -> str: ...
    @property
    def positive(self) -> str | None: ...
    @property
    def header(self) -> bool: ...
    @property
    def separator(self) -> str: ...
    @property
    def inner_name(self) -> str: ...
    @property
    def label_as(self) -> str: ...
    @property
    def order(self) -> str: ...
    @property
    def zip(self) -> bool: ...


@dataclass(frozen=True)
class Sheet:
    """header: the column names.  rows: one for each item, as many cells as columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    with_header: bool = True
    separator: str = ","

    def csv(self) -> bytes:
        """UTF-8, a line feed after every row, quotes where a cell needs them."""
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.separator, lineterminator="\n")
        if self.with_header:
            writer.writerow(self.header)
        writer.writerows(self.rows)
        return out.getvalue().encode()


def missing_notes(sheet: Sheet) -> tuple[str, ...]:
    """A note where a cell would be read as missing: `Submission contains null values` is all that is then said."""
    bad = sorted({cell for row in sheet.rows for cell in row if cell in READ_AS_MISSING})
    if not bad:
        return ()
    return (
        f"{first_few(bad)} may be read as missing values: pandas, and most scorers, do so unless told otherwise",
    )


def numbers(values: Floats) -> list[str]:
    """Probabilities (n,) as text with nine significant digits, which name one float32 each."""
    return [f"{value:.9g}" for value in values.tolist()]


def zipped(content: bytes, name: str) -> bytes:
    """A flat zip that holds `content` as `name`, with the same bytes every time.

    Raises RecipeError when `name` is not a plain file name.
    """
    if not name.isprintable() or name in ("", ".", "..") or PurePath(name).name != name or "\\" in name:
        raise RecipeError(f"inner_name {one_line(name)!r} found, a file name without folders expected")
    out = io.BytesIO()
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # the same on Windows
    info.external_attr = 0o644 << 16
    # stored, not deflated: zlib's bytes differ from one build to the next
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(info, content)
    return out.getvalue()


def columns(ids: Sequence[str], *cells: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Rows out of columns."""
    return tuple(zip(ids, *cells, strict=True))
