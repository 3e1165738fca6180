"""Names of files, ids and classes: image extensions, normalisation and sorting."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from ensemble.core.errors import DataError, first_few

_EXTENSIONS = frozenset(
    "jpg jpeg jpe jfif png gif bmp dib tif tiff webp mpo ppm pgm pbm pnm jp2 j2k avif heic heif".split()  # noqa: SIM905
)
"""Image extensions, in any case. HEIC is included so that such files are refused by name."""

_SYSTEM_FILES = frozenset(
    "@eadir|@tmp|@__thumb|@recycle|@recently-snapshot|#recycle|#snapshot|$recycle.bin|system volume information"  # noqa: SIM905
    "|.trashes|lost+found|network trash folder|temporary items|__macosx|thumbs.db|ehthumbs.db|ehthumbs_vista.db"
    "|desktop.ini|icon\r".split("|")
)
"""Files and folders that Synology, QNAP, Windows and macOS create, in lower case."""

PANDAS_NA_VALUES = frozenset(
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
"""Texts that `pandas.read_csv` reads as NaN by default, as the scorers of competitions do."""

_CONTROL_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
_DIGITS = re.compile(r"([0-9]+)")


def extension(name: str) -> str:
    """The image extension of `name`, with the dot and in its original case; "" for other names."""
    base, dot, ending = name.rpartition(".")
    is_image = (ending in _EXTENSIONS or ending.lower() in _EXTENSIONS) and base and base[-1] != "/"
    return dot + ending if is_image else ""


def stem(name: str) -> str:
    """`name` without its image extension; folders are kept."""
    suffix = extension(name)
    return name[: -len(suffix)] if suffix else name


def is_system(name: str) -> bool:
    """Whether an operating system or a file server creates files or folders of this name, in any case."""
    return name.lower() in _SYSTEM_FILES


def has_control(text: str) -> bool:
    """Whether `text` has a line break, another control character, or a byte that is not UTF-8."""
    return not text.isprintable() and any(
        unicodedata.category(character) in _CONTROL_CATEGORIES for character in text
    )


def nfc(text: str) -> str:
    """`text` in Unicode normal form C, the form of all ids and classes."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def natural_key(text: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key for natural order, `2` before `10`; names that differ only in leading zeros have a fixed order."""
    parts = _DIGITS.split(text)
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)], text


def refuse_shared_ids(ids: Sequence[str], sources: Sequence[str], where: str, advice: str) -> None:
    """Raise DataError, with `advice`, that names the files or rows that share an id."""
    if pairs := _shared(ids, sources):
        raise DataError(f"{where}: {len(pairs)} ids are not unique: {first_few(pairs)}; {advice}")


def normalised_name(text: str) -> str:
    """`text` case-folded, in NFKC, without invisible characters and repeated spaces."""
    visible = "".join(character for character in text.casefold() if unicodedata.category(character) != "Cf")
    return " ".join(unicodedata.normalize("NFKC", visible).split())


def same_number(name: str, other: str) -> bool:
    """Whether two names are the same number, as `1`, `01` and `1.0` are."""
    number = _number(name)
    return number is not None and number == _number(other)


def _number(name: str) -> Decimal | None:
    text = normalised_name(name)
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def look_alikes(names: Sequence[str]) -> list[list[str]]:
    """Groups of two or more names whose `normalised_name` is equal."""
    return _groups(names, normalised_name)


def same_numbers(names: Sequence[str]) -> list[list[str]]:
    """Groups of two or more names that are the same number."""
    return _groups([name for name in names if _number(name) is not None], _number)


def _groups(names: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    groups: dict[object, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def refuse_shared_files(paths: Sequence[str], ids: Sequence[str], where: str) -> None:
    """Raise DataError that names the files with more than one id."""
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
