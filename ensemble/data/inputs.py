"""Images as a person names them: files, folders, patterns, or a CSV that lists them."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensemble.core.errors import DataError, first_few, one_line
from ensemble.core.names import natural_key
from ensemble.core.registry import did_you_mean
from ensemble.data.csv_files import Table, read_csv
from ensemble.data.file_index import ImageIndex, refuse_no_header
from ensemble.data.scan import scan

COLUMNS = ("path", "image", "file", "filename", "image_id", "id")
"""Columns of a CSV that are taken for its images unless another is named, in this order."""


@dataclass(frozen=True)
class NamedImage:
    """name: as the answer calls it.  path: where it is, or should be."""

    name: str
    path: Path


def named_images(
    words: Sequence[str], *, column: str | None = None, folder: Path | None = None
) -> list[NamedImage]:
    """The images behind `words`, in their order; a folder's in natural order of their names.

    A file that several words reach comes once; a CSV has an answer for each of its rows, whatever they name.

    column: of a CSV, which names the images.  folder: where a CSV's images are, its own folder unless given; a
    name may leave out folders and the extension. An image that is not there is named all the same, and found
    missing by whoever reads it. Raises DataError for a folder, pattern or CSV without an image.
    """
    images: list[NamedImage] = []
    for word in words:
        before = {image.path for image in images}
        images += [image for image in _behind(word, column, folder) if image.path not in before]
    return images


def _behind(word: str, column: str | None, folder: Path | None) -> list[NamedImage]:
    if not word:
        raise DataError("an empty name found, an image, a folder, a pattern or a CSV expected")
    if re.match(r"(?:https?|ftp|s3|gs)://", word):
        raise DataError(f"{one_line(word)} is an address, and nothing is downloaded; name a file on this machine")
    path = Path(word)
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == ".csv":
        return _in_table(path, column, folder or path.parent)
    # a file may bear the signs of a pattern in its name
    if path.exists() or not glob.has_magic(word):
        return [NamedImage(word, path)]
    pattern = _literal_folders(word)
    matches = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 (it may be absolute)
    if not matches:
        raise DataError(f"{one_line(word)!r} matches no file")
    return [NamedImage(name, Path(name)) for name in matches if not Path(name).is_dir()]


def _literal_folders(pattern: str) -> str:
    """`pattern` with the folders that it begins with and that are there taken literally: `photos [1]/*.png`."""
    folder, rest = Path(), Path(pattern).parts
    while rest[1:] and (folder / rest[0]).is_dir():
        folder, rest = folder / rest[0], rest[1:]
    return str(Path(glob.escape(str(folder)), *rest))


def _in_folder(folder: Path) -> list[NamedImage]:
    names = scan(folder).images
    if not names:
        raise DataError(f"no images in {one_line(folder)}; name a folder, a file or a CSV that has some")
    paths = [folder / name for name in sorted(names, key=natural_key)]
    return [NamedImage(path.as_posix(), path) for path in paths]


def _in_table(csv: Path, column: str | None, folder: Path) -> list[NamedImage]:
    table = read_csv(csv)
    if not folder.is_dir():
        raise DataError(f"no folder {one_line(folder)}, where the images of {table.name} should be")
    index = ImageIndex(folder, "", scan(folder).images)
    refuse_no_header(table, index, csv.stem, named=(column,))
    names = table.columns[_column(table, column)]
    hits = [index.hit(name, csv.stem).files for name in names]
    several = [f"{name}: {' and '.join(files)}" for name, files in zip(names, hits, strict=True) if files[1:]]
    if several:
        raise DataError(
            f"{table.name}: {len(several)} names fit several images: {first_few(several)}; name the folder with"
            " --images"
        )
    return [
        NamedImage(name, folder / (files[0] if files else name)) for name, files in zip(names, hits, strict=True)
    ]


def _column(table: Table, asked: str | None) -> str:
    if asked is not None:
        if asked not in table.columns:
            raise DataError(f"{table.name}: no column {asked!r}{did_you_mean(asked, table.columns)}")
        return asked
    lower = {name.lower(): name for name in reversed(table.named)}
    known = [lower[name] for name in COLUMNS if name in lower]
    if not known and len(table.named) == 1:
        return table.named[0]
    if not known:
        raise DataError(
            f"{table.name}: none of its columns ({first_few(table.named)}) is called {', '.join(COLUMNS)};"
            " name the one with the images: --column"
        )
    return known[0]
