"""Detection of splits by names of folders, tables and columns, and checks of the level of class folders."""

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
_WORD_ROLE = {word: role for role, words in _ROLES.items() for word in words.split()}
_NEUTRAL = frozenset(
    "set sets data dataset datasets image images img imgs pic pics picture pictures photo photos seg segs"  # noqa: SIM905
    " input inputs split splits dir folder file files jpg jpeg png tif tiff bmp raw crop cropped resized small full"
    " all new final original clean public private mini sample samples stage task part x v isic kaggle"
    " the my batch size".split()
)
"""Words that are common in names of splits and have no meaning of their own."""
_COMPOUND = re.compile(
    rf"({'|'.join(sorted(_WORD_ROLE, key=len, reverse=True))})({'|'.join(sorted(_NEUTRAL, key=len, reverse=True))})"
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_a-zA-Z]+")


@dataclass(frozen=True)
class SplitName:
    """A name that contains the word of a single split.

    role: train, valid or test.  unknown: the other words that are not neutral.  extra: the number of other words.
    """

    name: str
    role: str
    unknown: tuple[str, ...]
    extra: int

    @property
    def rank(self) -> tuple[int, int, bool]:
        """Sort key, simplest name first; names with `pred`, for images to be predicted, are last."""
        return len(self.unknown), self.extra, "pred" in self.name.lower()


def split_name(name: str) -> SplitName | None:
    """The split of `name`; None if it contains no word of a split, or words of two."""
    words = words_of(name)
    roles = {_WORD_ROLE[word] for word in words if word in _WORD_ROLE}
    if len(roles) != 1:
        return None
    rest = [word for word in words if word not in _WORD_ROLE]
    unknown = tuple(word for word in rest if word not in _NEUTRAL and not word.isdigit())
    return SplitName(name, roles.pop(), unknown, len(rest))


def first_named(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    """The first of `candidates` that is in `names`, ignoring case, as spelled in `names`."""
    names_by_lower_case = {name.lower(): name for name in reversed(names)}
    return next((names_by_lower_case[name] for name in candidates if name in names_by_lower_case), None)


def spelled_as(names: Sequence[str], candidates: Sequence[str]) -> str | None:
    """The first of `candidates` that is in `names`, otherwise the first that is when case is ignored."""
    exact = next((name for name in candidates if name in names), None)
    return exact or first_named(names, [name.lower() for name in candidates])


def words_of(name: str) -> list[str]:
    """The words of a name in lower case: `trainLabels` is train, labels; `testset1` is test, set, 1."""
    words: list[str] = []
    for part in _WORD.findall(name):
        match = _COMPOUND.fullmatch(part.lower())
        words += match.groups() if match else [part.lower()]
    return words


def role_of(name: str) -> str | None:
    """train, valid or test if the name has no unknown words; otherwise None."""
    split = split_name(name)
    return split.role if split and not split.unknown else None


_FLAG_ROLES = {"true": "valid", "1": "valid", "false": "train", "0": "train"}


def roles_of(column: str, values: Iterable[str]) -> dict[str, str | None]:
    """value -> train, valid, test or None. The column `is_valid`, the name in fastai, has true and false."""
    unique = set(values)
    if is_flag(column):
        return {value: _FLAG_ROLES.get(value.lower()) for value in unique}
    return {value: role_of(value) for value in unique}


def is_flag(column: str) -> bool:
    """Whether the name of a column is that of a boolean column for validation, such as `is_valid`."""
    return "".join(character for character in column.lower() if character.isalnum()) in (
        "isvalid",
        "isval",
        "isvalidation",
    )


def split_names(names: Iterable[str]) -> dict[str, list[SplitName]]:
    """role -> the names of that split, simplest first.

    A name with unknown words (`flowers_train`) counts only if a name of another split has the same words
    (`flowers_val`).
    """
    candidates = [split for split in map(split_name, names) if split]
    names_by_role: dict[str, list[SplitName]] = {}
    for split in sorted(candidates, key=lambda split: split.rank):
        if not split.unknown or _has_counterpart(split, candidates):
            names_by_role.setdefault(split.role, []).append(split)
    return names_by_role


def _has_counterpart(split: SplitName, others: Sequence[SplitName]) -> bool:
    return any(other.role != split.role and other.unknown == split.unknown for other in others)


_NUMBERED_NAME = re.compile(r"(.*?[^\W\d_])[ ._()-]*[0-9]+[)]?")
"""`cat.123`, `dog_7`, `rose (12)`: a word and a number."""


def refuse_a_level_above(images: Sequence[str], folder: Path) -> None:
    """Raise DataError if the first folders of the images are clearly not the classes.

    images: paths below `folder`. The first folders are not the classes if they are named as splits, or if they have
    no images but the same subfolders as each other, or as the first folders themselves: `a/cat a/dog b/cat b/dog`,
    or `flowers/rose` beside `rose`.
    """
    subfolders = _subfolders(images)
    splits = split_names(subfolders)
    if "train" in splits and len(splits) > 1:
        roles = {role: names[0].name for role, names in splits.items()}
        keys = ", ".join(f"data.{role}: {name}" for role, name in roles.items())
        raise DataError(
            f"{one_line(folder)}: the folders {first_few(roles.values())} look like splits, not classes; set {keys}"
            + _class_hint(subfolders)
        )
    nested = {name: inner for name, inner in subfolders.items() if inner is not None}
    for name, inner in nested.items():
        if copies := inner & subfolders.keys():
            raise DataError(
                f"{one_line(folder)}: the class folder {name!r} holds no image but folders called as other classes"
                f" are ({first_few(sorted(copies))}); remove it, or set data.train to the folder of the classes"
                + _class_hint(subfolders)
            )
    if pair := _pair_with_equal_folders(nested):
        shared = sorted(nested[pair[0]] & nested[pair[1]], key=natural_key)
        raise DataError(
            f"{one_line(folder)}: the class folders {first_few(pair)} hold no image but the same folders"
            f" ({first_few(shared)}); if the inner folders are the classes, gather each in one, or list them in"
            " a CSV" + _class_hint(subfolders)
        )


def refuse_a_folder_between(images: Sequence[str], folder: Path, split: str) -> None:
    """Raise DataError for a single folder between the folder of the split and the class folders: `test/test/cat`.

    In a validation or test set this folder may be the only class, unless it is named as a split.
    """
    subfolders = _subfolders(images)
    name, inner = next(iter(subfolders.items()))
    if len(subfolders) == 1 and inner and (split_names([name]) or (split == "train" and len(inner) > 1)):
        inner_folders: list[str] = sorted(inner, key=natural_key)
        key = f"data.tests.{split[5:]}" if split.startswith("test-") else f"data.{split}"
        raise DataError(
            f"{split}: {one_line(folder)} holds one folder, {name!r}, and that the folders"
            f" {first_few(inner_folders)}; set {key} to the inner one"
        )


def _subfolders(images: Iterable[str]) -> dict[str, set[str] | None]:
    """First folder -> its subfolders; None if an image is directly in it."""
    subfolders: dict[str, set[str] | None] = {}
    for path in images:
        first, *rest = map(nfc, path.split("/"))
        inner = subfolders.setdefault(first, set())
        if len(rest) < 2:
            subfolders[first] = None
        elif inner is not None:
            inner.add(rest[0])
    return subfolders


def _pair_with_equal_folders(nested: Mapping[str, set[str]]) -> tuple[str, str] | None:
    """Two folders, one of which has all subfolders of the other, at least two; otherwise None."""
    names = sorted(nested, key=lambda name: (-len(nested[name]), natural_key(name)))
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            if len(nested[second]) >= 2 and nested[second] <= nested[first]:
                return first, second
    return None


def _class_hint(names: Iterable[str]) -> str:
    classes = sorted(names, key=natural_key)
    text = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    return f" (if these are the classes all the same: data.classes: [{text}])"


def label_advice(images: Sequence[str]) -> str:
    """Advice for images outside class folders, whose names may begin with the class."""
    matches = [_NUMBERED_NAME.fullmatch(stem(PurePath(path).name)) for path in images]
    labels = sorted({match[1] for match in matches if match})
    if len(matches) == sum(map(bool, matches)) and 2 <= len(labels) <= len(images) / 2:
        return (
            f"their names seem to begin with their class ({first_few(labels, 3)}): move each into a folder of that"
            " name, or list them in train.csv with a header id,label"
        )
    return "move each into the folder of its class, or list them in train.csv with a header id,label"
