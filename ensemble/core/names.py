"""Names of files, ids and classes: which are images, how they are spelled, how they sort."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from ensemble.core.errors import DataError, first_few

_KNOWN = frozenset(
    "jpg jpeg jpe jfif png gif bmp dib tif tiff webp mpo ppm pgm pbm pnm jp2 j2k avif heic heif".split()  # noqa: SIM905
)
"""Names that end so, in any case of letters, are taken for images; HEIC only to be refused by name."""

_SYSTEM = frozenset(
    "@eadir|@tmp|@__thumb|@recycle|@recently-snapshot|#recycle|#snapshot|$recycle.bin|system volume information"  # noqa: SIM905
    "|.trashes|lost+found|network trash folder|temporary items|__macosx|thumbs.db|ehthumbs.db|ehthumbs_vista.db"
    "|desktop.ini|icon\r".split("|")
)
"""What Synology, QNAP, Windows and macOS leave in folders, in small letters."""

READ_AS_MISSING = frozenset(
    [
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
"""What pandas takes for no value unless it is told otherwise, and with it the scorers of competitions."""

_UNWANTED = {"Cc", "Cs", "Zl", "Zp"}
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_DIGITS = re.compile(r"([0-9]+)")


def extension(name: str) -> str:
    """The known image extension that `name` ends in, dot included, as it is spelled there; else nothing."""
    before, dot, after = name.rpartition(".")
    known = (after in _KNOWN or after.lower() in _KNOWN) and before and before[-1] != "/"
    return dot + after if known else ""


def stem(name: str) -> str:
    """`name` without its image extension; folders in it are kept."""
    ending = extension(name)
    return name[: -len(ending)] if ending else name


def is_system(name: str) -> bool:
    """Whether an operating system or a file server makes a file or folder of this name, in any case of letters."""
    return name.lower() in _SYSTEM


def has_control(text: str) -> bool:
    """Whether `text` holds a line break, another control character or a byte that is no UTF-8."""
    return not text.isprintable() and any(unicodedata.category(c) in _UNWANTED for c in text)


def nfc(text: str) -> str:
    """`text` in Unicode's composed form, the only one that ids and classes have."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts `2` before `10`; names that differ in leading zeros only keep a fixed order."""
    parts = _DIGITS.split(text)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], text


def refuse_shared_ids(ids: Sequence[str], sources: Sequence[str], where: str, advice: str) -> None:
    """Raise DataError that names the files or rows that share an id, and gives the advice."""
    if pairs := _shared(ids, sources):
        raise DataError(f"{where}: {len(pairs)} ids are not unique: {first_few(pairs)}; {advice}")


def look(text: str) -> str:
    """What a reader sees of a name: without case, invisible characters and doubled spaces."""
    visible = "".join(c for c in text.casefold() if unicodedata.category(c) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", visible).split())


def same_number(name: str, other: str) -> bool:
    """Whether two names are one number: `1`, `01` and `1.0`."""
    found = _number(name)
    return found is not None and found == _number(other)


def _number(name: str) -> Decimal | None:
    text = look(name)
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def look_alikes(names: Sequence[str]) -> list[list[str]]:
    """The names that look the same, in groups of two and more."""
    return _groups(names, look)


def same_numbers(names: Sequence[str]) -> list[list[str]]:
    """The names that are the same number, in groups of two and more."""
    return _groups([name for name in names if _number(name) is not None], _number)


def _groups(names: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def refuse_shared_files(paths: Sequence[str], ids: Sequence[str], where: str) -> None:
    """Raise DataError that names the files that more than one id stands for."""
    if pairs := _shared(paths, ids):
        raise DataError(f"{where}: {len(pairs)} files have two ids, remove a row of each: {first_few(pairs)}")


def _shared(keys: Sequence[str], names: Sequence[str]) -> list[str]:
    if len(set(keys)) == len(keys):
        return []
    first: dict[str, str] = {}
    pairs = []
    for key, name in zip(keys, names, strict=True):
        if key in first:
            pairs.append(f"{key}: {first[key]} and {name}")
        first.setdefault(key, name)
    return pairs
