"""Lookup of the image file for an id or a path in a table."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from ensemble.core.errors import DataError, first_few, one_line
from ensemble.core.names import nfc, stem
from ensemble.data.csv_files import ADD_HEADER, Table
from ensemble.data.listing import Notes
from ensemble.data.scan import scan
from ensemble.data.split_names import role_of

_DECIMAL = re.compile(r"([0-9]+)\.0+")


@dataclass(frozen=True)
class Hit:
    """The files that a name may mean, and how their names differ from it; "" for an exact match."""

    files: Sequence[str] = ()
    difference: str = ""


@dataclass(frozen=True)
class ImageIndex:
    """The images below a folder. files: relative to it, `/`-separated.  prefix: from the root to it.

    suffix: `data.extension` with a dot, or None.  system: files and folders created by an operating system.
    """

    folder: Path
    prefix: str
    files: Sequence[str]
    suffix: str | None = None
    system: Sequence[str] = field(default=())

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return self._keyed(self.files)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return self._keyed([posixpath.basename(path) for path in self.files])

    @cached_property
    def _by_folded_path(self) -> dict[str, list[str]]:
        return _case_folded(self._by_path)

    @cached_property
    def _by_folded_name(self) -> dict[str, list[str]]:
        return _case_folded(self._by_name)

    @cached_property
    def _folders(self) -> list[str]:
        """Prefixes of a path that repeat the folder: as given, absolute, without links, or relative to the root."""
        paths = (self.folder, self.folder.absolute(), self.folder.resolve())
        spellings = (posixpath.normpath(path.as_posix()) for path in paths)
        return list(dict.fromkeys([*(f"{path}/" for path in spellings), self.prefix]))

    def _keyed(self, keys: Sequence[str]) -> dict[str, list[str]]:
        """Files by key, with and without the extension."""
        files_by_key: dict[str, list[str]] = {}
        for key, path in zip(map(nfc, keys), self.files, strict=True):
            files_by_key.setdefault(key, []).append(path)
            key_stem = key[: -len(self.suffix)] if self.suffix else stem(key)
            if key_stem != key:
                files_by_key.setdefault(key_stem, []).append(path)
        return files_by_key

    @cached_property
    def _folder_names(self) -> set[str]:
        return {name.casefold() for path in self.files for name in path.split("/")[:-1]}

    def candidates(self, name: str, table: str, role: str | None = None) -> list[str]:
        """The files that `name` may mean: below the folder, in its subfolder `<table>`, or anywhere by file name.

        `name` may begin with the folder, as spelled in the recipe or for the root, or absolute.
        role: if several files have that name, the ones in a folder named as that split.
        """
        key = _key(name)
        return self._at(key, table) or _of_role(self._by_name.get(key, []), role)

    def _at(self, key: str, table: str) -> list[str]:
        relative = (key[len(prefix) :] for prefix in self._folders if prefix and key.startswith(prefix))
        paths = (key, f"{table}/{key}", *relative)
        return next((self._by_path[path] for path in paths if path in self._by_path), [])

    def hit(self, name: str, table: str, role: str | None = None) -> Hit:
        """`candidates`, otherwise ignoring case, otherwise without leading folders that do not exist."""
        if files := self.candidates(name, table, role):
            return Hit(files)
        key = _key(name)
        folded = key.casefold()
        if files := self._by_folded_path.get(folded) or _of_role(self._by_folded_name.get(folded, []), role):
            return Hit(files, "under another case of letters")
        folders = key.split("/")
        for depth in range(1, len(folders)):
            if folders[depth - 1].casefold() in self._folder_names:
                break  # the folder exists, so the image is missing; a file of that name elsewhere is another image
            if inner_files := self._at("/".join(folders[depth:]), table):
                return Hit(inner_files, "without leading folders that are not there")
        return Hit()

    def find(
        self, names: Sequence[str], csv: Path, role: str | None = None, notes: Notes | None = None
    ) -> list[str]:
        """The file of each name, relative to the root. Inexact matches are added to `notes`.

        role: the split of the table. Raises DataError for missing and ambiguous names.
        """
        hits = [self.hit(name, csv.stem, role) for name in names]
        missing = [name for name, hit in zip(names, hits, strict=True) if not hit.files]
        if missing:
            raise DataError(
                f"{one_line(csv)}: {len(missing)} of {len(names)} images are not in {one_line(self.folder)}:"
                f" {first_few(missing)}; {self._why_missing(missing, csv.stem)}"
            )
        ambiguous = [
            f"{name}: {' and '.join(hit.files)}" for name, hit in zip(names, hits, strict=True) if hit.files[1:]
        ]
        if ambiguous:
            raise DataError(
                f"{one_line(csv)}: {len(ambiguous)} names fit several images: {first_few(ambiguous)};"
                " set data.extension, or data.images to the folder that is meant"
            )
        if notes is not None:
            _note_differences(csv.name, names, hits, notes)
        return [self.prefix + hit.files[0] for hit in hits]

    def _why_missing(self, missing: Iterable[str], table: str) -> str:
        """Advice for names that match no image."""
        for name in missing:
            match = _DECIMAL.fullmatch(name)
            if match and (files := self.candidates(match[1], table)):
                return f"{files[0]} is there: the ids were saved as decimal numbers, save them as text"
            if stem(name) != name and (others := self.hit(stem(name), table).files):
                return f"{others[0]} is there: correct the extension in the table, or leave it out"
        return "check data.images, data.extension and the column of the ids"


def _case_folded(keyed: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """`keyed` with case-folded keys."""
    folded: dict[str, list[str]] = {}
    for key, files in keyed.items():
        folded_files = folded.setdefault(key.casefold(), [])
        folded_files += [file for file in files if file not in folded_files]
    return folded


def _key(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _of_role(files: list[str], role: str | None) -> list[str]:
    """If several files share a name, those in a folder of the split `role`, if there are any."""
    if len(files) < 2 or role is None:
        return files
    role_files = [file for file in files if role_of(file.split("/", 1)[0]) == role]
    return role_files or files


def _note_differences(table: str, names: Sequence[str], hits: Sequence[Hit], notes: Notes) -> None:
    pairs_by_difference: dict[str, list[str]] = {}
    for name, hit in zip(names, hits, strict=True):
        if hit.difference:
            pairs_by_difference.setdefault(hit.difference, []).append(f"{name} is {hit.files[0]}")
    for difference, pairs in pairs_by_difference.items():
        count = "1 image was" if len(pairs) == 1 else f"{len(pairs)} images were"
        notes.add(f"{table}: {count} found {difference}: {first_few(pairs, 2)}")


def note_unlisted(index: ImageIndex, listed: Iterable[str], notes: Notes) -> None:
    """Add a note on the images below the folder that no table lists. listed: paths from the root."""
    known = set(listed)
    unlisted = [path for path in index.files if index.prefix + path not in known]
    if unlisted:
        count = "1 image is" if len(unlisted) == 1 else f"{len(unlisted)} images are"
        notes.add(f"{one_line(index.folder)}: {count} in no table and not used: {first_few(unlisted)}")


def refuse_no_header(
    table: Table, index: ImageIndex, table_stem: str, known_columns: Iterable[str | None] = ()
) -> None:
    """Raise DataError if a cell of the first line names an image, as the cells below it, or is a class below it.

    known_columns: the columns that the user names; their cells of the first line are headers.
    """
    for cell, values in table.columns.items():
        if not cell or cell in known_columns:
            continue
        # a class may have the name of an image, but in a column of images each value is unique
        is_unique = len({cell, *values}) == len(values) + 1
        if index.candidates(cell, table_stem) and (
            stem(cell) != cell or (is_unique and index.candidates(values[0], table_stem))
        ):
            raise DataError(_no_header(table, f"the image {cell!r}"))
        # a column may be named by a number, such as that of a class
        if cell in values and not cell.isdecimal() and len(set(values) - {""}) > 1:
            raise DataError(_no_header(table, f"{cell!r}, which is a value of its column too,"))


def _no_header(table: Table, cell: str) -> str:
    return f"{table.name}: its first line holds {cell} where the names of columns are expected; {ADD_HEADER}"


def index_images(root: Path, images: str, extension: str | None, leave_out: frozenset[Path]) -> ImageIndex:
    """List the folder `images` below `root`; with `extension`, only files with it. Raises DataError."""
    folder = root / images
    if not folder.is_dir():
        raise DataError(f"no folder {one_line(folder)}; data.images must name the folder of the images")
    contents = scan(folder, leave_out)
    prefix = "" if PurePath(images) == PurePath() else f"{PurePath(images).as_posix()}/"
    if extension is None:
        return ImageIndex(folder, prefix, contents.images, system=contents.system)
    suffix = "." + extension.lower().lstrip(".")
    files = [path for path in (*contents.images, *contents.others) if path.lower().endswith(suffix)]
    return ImageIndex(folder, prefix, files, suffix, contents.system)


class Spellings:
    """Finds rows of `ids`, unique (n,), by other spellings of the ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._row_by_id = {name: row for row, name in enumerate(ids)}

    def rows(self, names: Iterable[str]) -> list[int | None]:
        """The row of each name: of the same id, otherwise of the only equal id without extensions and folders.

        Either may have leading folders that the other lacks. None where no row matches, or several do.
        """
        return [
            self._row_by_id[name] if name in self._row_by_id else self._unique_row(_comparable(name))
            for name in names
        ]

    def _unique_row(self, key: str) -> int | None:
        candidates = (self._by_stem[end] for end in _ends(key) if end in self._by_stem)
        rows = next(candidates, None) or self._by_end.get(key, [])
        return rows[0] if len(rows) == 1 else None

    @cached_property
    def _by_stem(self) -> Mapping[str, list[int]]:
        return _grouped((_comparable(name), row) for name, row in self._row_by_id.items())

    @cached_property
    def _by_end(self) -> Mapping[str, list[int]]:
        """Rows by the ends of their ids, without the first folders."""
        return _grouped((end, row) for key, rows in self._by_stem.items() for end in _ends(key) for row in rows)


def _comparable(name: str) -> str:
    return stem(nfc(name.strip()).replace("\\", "/"))


def _ends(key: str) -> Iterator[str]:
    """For `a/b/c`: `a/b/c`, `b/c`, `c`."""
    yield key
    while "/" in key:
        key = key.partition("/")[2]
        yield key


def _grouped(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    rows_by_key: dict[str, list[int]] = {}
    for key, row in pairs:
        rows_by_key.setdefault(key, []).append(row)
    return rows_by_key
