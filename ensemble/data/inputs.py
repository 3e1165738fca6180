"""Images named by a user: files, folders, patterns, or a CSV that lists them."""

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
"""Names of the image column of a CSV by default, in order of precedence."""


@dataclass(frozen=True)
class NamedImage:
    """name: as given, for the output.  path: of the file, which may be missing."""

    name: str
    path: Path


def named_images(
    sources: Sequence[str], *, column: str | None = None, folder: Path | None = None
) -> list[NamedImage]:
    """The images of files, folders, patterns and CSVs, in their order; those of a folder in natural order.

    A file that several sources contain is returned once; a CSV gives an image for each of its rows.

    column: the column of a CSV that names the images.  folder: of the images of a CSV, by default its own folder;
    names may leave out folders and the extension. Missing images are returned as well, and fail when they are read.
    Raises DataError for a folder, pattern or CSV without an image.
    """
    images: list[NamedImage] = []
    for source in sources:
        known_paths = {image.path for image in images}
        images += [image for image in _images_of(source, column, folder) if image.path not in known_paths]
    return images


def _images_of(source: str, column: str | None, folder: Path | None) -> list[NamedImage]:
    if not source:
        raise DataError("an empty name found, an image, a folder, a pattern or a CSV expected")
    if re.match(r"(?:https?|ftp|s3|gs)://", source):
        raise DataError(f"{one_line(source)} is an address, and nothing is downloaded; name a file on this machine")
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == ".csv":
        return _in_table(path, column, folder or path.parent)
    # the name of a file may contain characters of a pattern
    if path.exists() or not glob.has_magic(source):
        return [NamedImage(source, path)]
    pattern = _literal_folders(source)
    matches = sorted(glob.glob(pattern, recursive=True), key=natural_key)  # noqa: PTH207 (it may be absolute)
    if not matches:
        raise DataError(f"{one_line(source)!r} matches no file")
    return [NamedImage(name, Path(name)) for name in matches if not Path(name).is_dir()]


def _literal_folders(pattern: str) -> str:
    """`pattern` with its leading existing folders escaped, such as `photos [1]/*.png`."""
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
    refuse_no_header(table, index, csv.stem, known_columns=(column,))
    names = table.columns[_column(table, column)]
    hits = [index.hit(name, csv.stem).files for name in names]
    ambiguous = [f"{name}: {' and '.join(files)}" for name, files in zip(names, hits, strict=True) if files[1:]]
    if ambiguous:
        raise DataError(
            f"{table.name}: {len(ambiguous)} names fit several images: {first_few(ambiguous)}; name the folder with"
            " --images"
        )
    return [
        NamedImage(name, folder / (files[0] if files else name)) for name, files in zip(names, hits, strict=True)
    ]


def _column(table: Table, requested: str | None) -> str:
    if requested is not None:
        if requested not in table.columns:
            raise DataError(f"{table.name}: no column {requested!r}{did_you_mean(requested, table.columns)}")
        return requested
    names_by_lower_case = {name.lower(): name for name in reversed(table.named)}
    matches = [names_by_lower_case[name] for name in COLUMNS if name in names_by_lower_case]
    if not matches and len(table.named) == 1:
        return table.named[0]
    if not matches:
        raise DataError(
            f"{table.name}: none of its columns ({first_few(table.named)}) is called {', '.join(COLUMNS)};"
            " name the one with the images: --column"
        )
    return matches[0]
