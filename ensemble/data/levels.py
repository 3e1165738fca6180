"""Folders that are no classes: splits, a level above the classes, or images with the label in their own names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from ensemble.data.names import natural_key, nfc, stem
from ensemble.data.splitnames import split_names
from ensemble.errors import DataError, first_few, one_line

_LABELLED = re.compile(r"(.*?[^\W\d_])[ ._()-]*[0-9]+[)]?")
"""`cat.123`, `dog_7`, `rose (12)`: a word and a number."""


def refuse_a_level_above(images: Sequence[str], folder: Path) -> None:
    """Raise DataError where the first folders of the images are plainly not the classes.

    images: paths below `folder`. They are not where they are called as splits are, or hold no image themselves and
    the same folders again: `a/cat a/dog b/cat b/dog`, or `flowers/rose` beside `rose`.
    """
    below = _below(images)
    splits = split_names(below)
    if "train" in splits and len(splits) > 1:
        named = {role: names[0].name for role, names in splits.items()}
        keys = ", ".join(f"data.{role}: {name}" for role, name in named.items())
        raise DataError(
            f"{one_line(folder)}: the folders {first_few(named.values())} look like splits, not classes; set {keys}"
            + _or_classes(below)
        )
    deep = {name: inner for name, inner in below.items() if inner is not None}
    for name, inner in deep.items():
        if copies := inner & below.keys():
            raise DataError(
                f"{one_line(folder)}: the class folder {name!r} holds no image but folders called as other classes"
                f" are ({first_few(sorted(copies))}); remove it, or set data.train to the folder of the classes"
                + _or_classes(below)
            )
    if pair := _same_inside(deep):
        shared = sorted(deep[pair[0]] & deep[pair[1]], key=natural_key)
        raise DataError(
            f"{one_line(folder)}: the class folders {first_few(pair)} hold no image but the same folders"
            f" ({first_few(shared)}); if the inner folders are the classes, gather each in one, or list them in"
            " a CSV" + _or_classes(below)
        )


def refuse_a_folder_between(images: Sequence[str], folder: Path, split: str) -> None:
    """Raise DataError where one folder lies between the split's and those of the classes: `test/test/cat`.

    In a validation or test set that may be the only class, unless it is called as a split is.
    """
    below = _below(images)
    name, inner = next(iter(below.items()))
    if len(below) == 1 and inner and (split_names([name]) or (split == "train" and len(inner) > 1)):
        inside: list[str] = sorted(inner, key=natural_key)
        key = f"data.tests.{split[5:]}" if split.startswith("test-") else f"data.{split}"
        raise DataError(
            f"{split}: {one_line(folder)} holds one folder, {name!r}, and that the folders"
            f" {first_few(inside)}; set {key} to the inner one"
        )


def _below(images: Iterable[str]) -> dict[str, set[str] | None]:
    """First folder -> the folders in it; None where an image lies directly in it."""
    below: dict[str, set[str] | None] = {}
    for path in images:
        first, *rest = map(nfc, path.split("/"))
        inner = below.setdefault(first, set())
        if len(rest) < 2:
            below[first] = None
        elif inner is not None:
            inner.add(rest[0])
    return below


def _same_inside(deep: Mapping[str, set[str]]) -> tuple[str, str] | None:
    """Two folders of which one has the folders of the other, two at least; None without such."""
    names = sorted(deep, key=lambda name: (-len(deep[name]), natural_key(name)))
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            if len(deep[second]) >= 2 and deep[second] <= deep[first]:
                return first, second
    return None


def _or_classes(names: Iterable[str]) -> str:
    listed = sorted(names, key=natural_key)
    shown = ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
    return f" (if these are the classes all the same: data.classes: [{shown}])"


def label_advice(images: Sequence[str]) -> str:
    """What to do about images outside of class folders: their names may begin with their class."""
    matches = [_LABELLED.fullmatch(stem(PurePath(path).name)) for path in images]
    labels = sorted({match[1] for match in matches if match})
    if len(matches) == sum(map(bool, matches)) and 2 <= len(labels) <= len(images) / 2:
        return (
            f"their names seem to begin with their class ({first_few(labels, 3)}): move each into a folder of that"
            " name, or list them in train.csv with a header id,label"
        )
    return "move each into the folder of its class, or list them in train.csv with a header id,label"
