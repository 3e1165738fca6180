"""Which names mean a split: `train`, `training_set`, `seg_test`, `val2017`, `TrainImages`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
