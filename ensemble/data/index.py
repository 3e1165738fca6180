"""Which file an id or a path in a table means: a folder listed once, then looked up."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from ensemble.data.names import nfc, stem
from ensemble.data.scan import scan
from ensemble.errors import DataError, first_few, one_line


@dataclass(frozen=True)
class ImageIndex:
    """The images below a folder. files: relative to it, `/`-separated.  prefix: from the root to it."""

    folder: Path
    prefix: str
    files: Sequence[str]
    suffix: str | None = None

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return self._keyed(self.files)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return self._keyed([posixpath.basename(path) for path in self.files])

    def _keyed(self, keys: Sequence[str]) -> dict[str, list[str]]:
        """Files by key, with and without the extension."""
        keyed: dict[str, list[str]] = {}
        for key, path in zip(map(nfc, keys), self.files, strict=True):
            keyed.setdefault(key, []).append(path)
            bare = key[: -len(self.suffix)] if self.suffix else stem(key)
            if bare != key:
                keyed.setdefault(bare, []).append(path)
        return keyed

    def candidates(self, name: str, table: str) -> list[str]:
        """The files that `name` may mean: below the folder, in its folder `<table>`, or anywhere by name.

        A name may repeat the folder, as the recipe or the root spells it.
        """
        key = posixpath.normpath(name.replace("\\", "/"))
        repeated = (f"{posixpath.normpath(self.folder.as_posix())}/", self.prefix)
        bare = (key[len(start) :] for start in repeated if start and key.startswith(start))
        for place in (key, f"{table}/{key}", *bare):
            if place in self._by_path:
                return self._by_path[place]
        return self._by_name.get(key, [])

    def find(self, names: Sequence[str], csv: Path) -> list[str]:
        """The file of each name, relative to the root. Raises DataError for missing and ambiguous ones."""
        hits = [self.candidates(name, csv.stem) for name in names]
        missing = [name for name, files in zip(names, hits, strict=True) if not files]
        if missing:
            raise DataError(
                f"{one_line(csv)}: {len(missing)} of {len(names)} images are not in {one_line(self.folder)}:"
                f" {first_few(missing)}; check data.images and data.extension"
            )
        several = [f"{name}: {' and '.join(files)}" for name, files in zip(names, hits, strict=True) if files[1:]]
        if several:
            raise DataError(
                f"{one_line(csv)}: {len(several)} names fit several images: {first_few(several)};"
                " set data.extension, or data.images to the folder that is meant"
            )
        return [self.prefix + files[0] for files in hits]


def index_images(root: Path, images: str, extension: str | None, leave_out: frozenset[Path]) -> ImageIndex:
    """List the folder `images` below `root`; with `extension` only files that end so. Raises DataError."""
    folder = root / images
    if not folder.is_dir():
        raise DataError(f"no folder {one_line(folder)}; data.images must name the folder of the images")
    found = scan(folder, leave_out)
    prefix = "" if PurePath(images) == PurePath() else f"{PurePath(images).as_posix()}/"
    if extension is None:
        return ImageIndex(folder, prefix, found.images)
    suffix = "." + extension.lower().lstrip(".")
    files = [path for path in (*found.images, *found.others) if path.lower().endswith(suffix)]
    return ImageIndex(folder, prefix, files, suffix)
