"""Ids that another tool spells in its own way: with the extension of the file, with folders or without them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

from ensemble.data.names import nfc, stem


class Spellings:
    """Finds the rows of `ids` (n,), unique, that other spellings of them mean."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._exact = {name: row for row, name in enumerate(ids)}

    def rows(self, names: Iterable[str]) -> list[int | None]:
        """The row of each name: of the same id, else of the only one that is so without extensions and folders.

        Folders may stand before the id here or there; None where no row fits, or several do.
        """
        return [self._exact[name] if name in self._exact else self._meant(_key(name)) for name in names]

    def _meant(self, key: str) -> int | None:
        known = (self._stems[end] for end in _ends(key) if end in self._stems)
        rows = next(known, None) or self._below.get(key, [])
        return rows[0] if len(rows) == 1 else None

    @cached_property
    def _stems(self) -> Mapping[str, list[int]]:
        return _grouped((_key(name), row) for name, row in self._exact.items())

    @cached_property
    def _below(self) -> Mapping[str, list[int]]:
        """The rows by what is left of their ids without the first folders."""
        return _grouped((end, row) for key, rows in self._stems.items() for end in _ends(key) for row in rows)


def _key(name: str) -> str:
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
