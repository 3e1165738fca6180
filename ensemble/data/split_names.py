"""Names of folders and columns that mean a split, and folders that are no classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ensemble.core.errors import DataError, first_few, one_line
from ensemble.core.names import natural_key, nfc, stem

_ROLES = {
    "train": "train training trn trainval",
    "valid": "valid val validation validate dev eval evaluation",
    "test": "test testing tst pred predict prediction unlabeled unlabelled",
}
_WORDS = {word: role for role, words in _ROLES.items() for word in words.split()}
_COMPANIONS = frozenset(
    "set sets data dataset datasets image images img imgs pic pics picture pictures photo photos seg segs"  # noqa: SIM905
    " input inputs split splits dir folder file files jpg jpeg png tif tiff bmp raw crop cropped resized small full"
    " all new final original clean public private mini sample samples stage task part x v isic kaggle"
    " the my batch size".split()
)
"""Words that go with a split's name in practice and say nothing more."""
_JOINED = re.compile(
    rf"({'|'.join(sorted(_WORDS, key=len, reverse=True))})({'|'.join(sorted(_COMPANIONS, key=len, reverse=True))})"
)
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")


@dataclass(frozen=True)
class SplitName:
    """A name with the word of one split in it.

    role: train, valid or test.  unknown: words that do not usually go with it.  extra: how many words are beside.
    """

    name: str
    role: str
    unknown: tuple[str, ...]
    extra: int

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Sorts the plainest name first; what is to be predicted (`pred`) comes after what is a test."""
        return len(self.unknown), self.extra, "pred" in self.name.lower()


def split_name(name: str) -> SplitName | None:
    """What `name` says of a split; None where it names none, or two."""
    words = words_of(name)
    roles = {_WORDS[word] for word in words if word in _WORDS}
    if len(roles) != 1:
        return None
    rest = [word for word in words if word not in _WORDS]
    unknown = tuple(word for word in rest if word not in _COMPANIONS and not word.isdigit())
    return SplitName(name, roles.pop(), unknown, len(rest))


def first_named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of `wanted` that is among `names`, in any case of letters, as it is spelled there."""
    spelled = {name.lower(): name for name in reversed(names)}
    return next((spelled[name] for name in wanted if name in spelled), None)


def spelled_as(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of `wanted` that is among `names` as it is, else the first that is in another case of letters."""
    exact = next((name for name in wanted if name in names), None)
    return exact or first_named(names, [name.lower() for name in wanted])


def words_of(name: str) -> list[str]:
    """The words of a name in small letters: `trainLabels` is train, labels; `testset1` is test, set, 1."""
    words: list[str] = []
    for part in _PART.findall(name):
        joined = _JOINED.fullmatch(part.lower())
        words += joined.groups() if joined else [part.lower()]
    return words


def role_of(name: str) -> str | None:
    """train, valid or test where `name` plainly means it; else None."""
    split = split_name(name)
    return split.role if split and not split.unknown else None


_FLAGS = {"true": "valid", "1": "valid", "false": "train", "0": "train"}


def roles_of(column: str, values: Iterable[str]) -> dict[str, str | None]:
    """value -> train, valid or test, None where it means none. `is_valid`, fastai's name, has true and false."""
    own = set(values)
    if is_flag(column):
        return {value: _FLAGS.get(value.lower()) for value in own}
    return {value: role_of(value) for value in own}


def is_flag(column: str) -> bool:
    """Whether a column is called as one that says of each row whether it is for validation."""
    return "".join(letter for letter in column.lower() if letter.isalnum()) in ("isvalid", "isval", "isvalidation")


def split_names(names: Iterable[str]) -> dict[str, list[SplitName]]:
    """role -> the names that mean it, the plainest first.

    A name with words of its own (`flowers_train`) counts where another split's name has the same (`flowers_val`).
    """
    named = [split for split in map(split_name, names) if split]
    kept: dict[str, list[SplitName]] = {}
    for split in sorted(named, key=lambda split: split.rank):
        if not split.unknown or _has_partner(split, named):
            kept.setdefault(split.role, []).append(split)
    return kept


def _has_partner(split: SplitName, others: Sequence[SplitName]) -> bool:
    return any(other.role != split.role and other.unknown == split.unknown for other in others)


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
