"""The file that an id or a path in a table means."""

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
    """The files that a name may mean, and what had to be overlooked to find them; nothing for what is plain."""

    files: Sequence[str] = ()
    overlooked: str = ""


@dataclass(frozen=True)
class ImageIndex:
    """The images below a folder. files: relative to it, `/`-separated.  prefix: from the root to it.

    system: files and folders that an operating system made and that are no part of it.
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
    def _by_small_path(self) -> dict[str, list[str]]:
        return _small(self._by_path)

    @cached_property
    def _by_small_name(self) -> dict[str, list[str]]:
        return _small(self._by_name)

    @cached_property
    def _folders(self) -> list[str]:
        """How a path begins that repeats the folder: as it was given, in full, or without links."""
        places = (self.folder, self.folder.absolute(), self.folder.resolve())
        spelled = (posixpath.normpath(place.as_posix()) for place in places)
        return list(dict.fromkeys([*(f"{place}/" for place in spelled), self.prefix]))

    def _keyed(self, keys: Sequence[str]) -> dict[str, list[str]]:
        """Files by key, with and without the extension."""
        keyed: dict[str, list[str]] = {}
        for key, path in zip(map(nfc, keys), self.files, strict=True):
            keyed.setdefault(key, []).append(path)
            bare = key[: -len(self.suffix)] if self.suffix else stem(key)
            if bare != key:
                keyed.setdefault(bare, []).append(path)
        return keyed

    @cached_property
    def _folder_names(self) -> set[str]:
        return {name.casefold() for path in self.files for name in path.split("/")[:-1]}

    def candidates(self, name: str, table: str, role: str | None = None) -> list[str]:
        """The files that `name` may mean: below the folder, in its folder `<table>`, or anywhere by name.

        A name may repeat the folder, as the recipe or the root spells it, or in full.
        role: of several files by that name, those in a folder that is called so are meant.
        """
        key = _key(name)
        return self._at(key, table) or _of_role(self._by_name.get(key, []), role)

    def _at(self, key: str, table: str) -> list[str]:
        bare = (key[len(start) :] for start in self._folders if start and key.startswith(start))
        places = (key, f"{table}/{key}", *bare)
        return next((self._by_path[place] for place in places if place in self._by_path), [])

    def hit(self, name: str, table: str, role: str | None = None) -> Hit:
        """`candidates`, else in another case of letters, else without leading folders that are nowhere."""
        if files := self.candidates(name, table, role):
            return Hit(files)
        key = _key(name)
        small = key.casefold()
        if files := self._by_small_path.get(small) or _of_role(self._by_small_name.get(small, []), role):
            return Hit(files, "under another case of letters")
        folders = key.split("/")
        for first in range(1, len(folders)):
            if folders[first - 1].casefold() in self._folder_names:
                break  # the folder is there, so the image is missing, and one of that name elsewhere is another
            if inner := self._at("/".join(folders[first:]), table):
                return Hit(inner, "without leading folders that are not there")
        return Hit()

    def find(
        self, names: Sequence[str], csv: Path, role: str | None = None, notes: Notes | None = None
    ) -> list[str]:
        """The file of each name, relative to the root. notes: what had to be overlooked is added to it.

        role: the split of the table. Raises DataError for missing and ambiguous ones.
        """
        hits = [self.hit(name, csv.stem, role) for name in names]
        missing = [name for name, hit in zip(names, hits, strict=True) if not hit.files]
        if missing:
            raise DataError(
                f"{one_line(csv)}: {len(missing)} of {len(names)} images are not in {one_line(self.folder)}:"
                f" {first_few(missing)}; {self._why_missing(missing, csv.stem)}"
            )
        several = [
            f"{name}: {' and '.join(hit.files)}" for name, hit in zip(names, hits, strict=True) if hit.files[1:]
        ]
        if several:
            raise DataError(
                f"{one_line(csv)}: {len(several)} names fit several images: {first_few(several)};"
                " set data.extension, or data.images to the folder that is meant"
            )
        if notes is not None:
            _note_overlooked(csv.name, names, hits, notes)
        return [self.prefix + hit.files[0] for hit in hits]

    def _why_missing(self, missing: Iterable[str], table: str) -> str:
        """What to do about names of which no image has any."""
        for name in missing:
            whole = _DECIMAL.fullmatch(name)
            if whole and (files := self.candidates(whole[1], table)):
                return f"{files[0]} is there: the ids were saved as decimal numbers, save them as text"
            if stem(name) != name and (others := self.hit(stem(name), table).files):
                return f"{others[0]} is there: correct the extension in the table, or leave it out"
        return "check data.images, data.extension and the column of the ids"


def _small(keyed: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The same without a difference between capital and small letters."""
    small: dict[str, list[str]] = {}
    for key, files in keyed.items():
        known = small.setdefault(key.casefold(), [])
        known += [file for file in files if file not in known]
    return small


def _key(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _of_role(files: list[str], role: str | None) -> list[str]:
    """Of files with the same name, those in a folder of the split `role`, where there are any."""
    if len(files) < 2 or role is None:
        return files
    own = [file for file in files if role_of(file.split("/", 1)[0]) == role]
    return own or files


def _note_overlooked(table: str, names: Sequence[str], hits: Sequence[Hit], notes: Notes) -> None:
    kinds: dict[str, list[str]] = {}
    for name, hit in zip(names, hits, strict=True):
        if hit.overlooked:
            kinds.setdefault(hit.overlooked, []).append(f"{name} is {hit.files[0]}")
    for kind, pairs in kinds.items():
        count = "1 image was" if len(pairs) == 1 else f"{len(pairs)} images were"
        notes.add(f"{table}: {count} found {kind}: {first_few(pairs, 2)}")


def note_unlisted(index: ImageIndex, listed: Iterable[str], notes: Notes) -> None:
    """Say how many images below the folder no table lists. listed: paths from the root."""
    known = set(listed)
    rest = [path for path in index.files if index.prefix + path not in known]
    if rest:
        count = "1 image is" if len(rest) == 1 else f"{len(rest)} images are"
        notes.add(f"{one_line(index.folder)}: {count} in no table and not used: {first_few(rest)}")


def refuse_no_header(table: Table, index: ImageIndex, stem_: str, named: Iterable[str | None] = ()) -> None:
    """Raise DataError where a cell of the header names an image, as the cells below it do, or a class below it.

    named: the columns that a person names; their header is one.
    """
    for cell, values in table.columns.items():
        if not cell or cell in named:
            continue
        # the name of a class may be that of an image too, but a column of images has each of them once
        each_once = len({cell, *values}) == len(values) + 1
        if index.candidates(cell, stem_) and (
            stem(cell) != cell or (each_once and index.candidates(values[0], stem_))
        ):
            raise DataError(_no_header(table, f"the image {cell!r}"))
        # numbers are names of columns too, those of classes for one
        if cell in values and not cell.isdecimal() and len(set(values) - {""}) > 1:
            raise DataError(_no_header(table, f"{cell!r}, which is a value of its column too,"))


def _no_header(table: Table, cell: str) -> str:
    return f"{table.name}: its first line holds {cell} where the names of columns are expected; {ADD_HEADER}"


def index_images(root: Path, images: str, extension: str | None, leave_out: frozenset[Path]) -> ImageIndex:
    """List the folder `images` below `root`; with `extension` only files that end so. Raises DataError."""
    folder = root / images
    if not folder.is_dir():
        raise DataError(f"no folder {one_line(folder)}; data.images must name the folder of the images")
    found = scan(folder, leave_out)
    prefix = "" if PurePath(images) == PurePath() else f"{PurePath(images).as_posix()}/"
    if extension is None:
        return ImageIndex(folder, prefix, found.images, system=found.system)
    suffix = "." + extension.lower().lstrip(".")
    files = [path for path in (*found.images, *found.others) if path.lower().endswith(suffix)]
    return ImageIndex(folder, prefix, files, suffix, found.system)


class Spellings:
    """Finds the rows of `ids` (n,), unique, that other spellings of them mean."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._exact = {name: row for row, name in enumerate(ids)}

    def rows(self, names: Iterable[str]) -> list[int | None]:
        """The row of each name: of the same id, else of the only one that is so without extensions and folders.

        Folders may stand before the id here or there; None where no row fits, or several do.
        """
        return [self._exact[name] if name in self._exact else self._meant(_comparable(name)) for name in names]

    def _meant(self, key: str) -> int | None:
        known = (self._stems[end] for end in _ends(key) if end in self._stems)
        rows = next(known, None) or self._below.get(key, [])
        return rows[0] if len(rows) == 1 else None

    @cached_property
    def _stems(self) -> Mapping[str, list[int]]:
        return _grouped((_comparable(name), row) for name, row in self._exact.items())

    @cached_property
    def _below(self) -> Mapping[str, list[int]]:
        """The rows by what is left of their ids without the first folders."""
        return _grouped((end, row) for key, rows in self._stems.items() for end in _ends(key) for row in rows)


def _comparable(name: str) -> str:
    return stem(nfc(name.strip()).replace("\\", "/"))


def _ends(key: str) -> Iterator[str]:
    """`a/b/c`, `b/c`, `c`."""
    yield key
    while "/" in key:
        key = key.partition("/")[2]
        yield key


def _grouped(pairs: Iterable[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, row in pairs:
        found.setdefault(key, []).append(row)
    return found
