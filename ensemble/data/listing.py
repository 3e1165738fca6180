"""Listings of data sets before and after class numbering, and the notes collected on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import DataError, RecipeError, first_few, one_line
from ensemble.core.names import (
    has_control,
    look_alikes,
    natural_key,
    nfc,
    normalised_name,
    same_number,
    same_numbers,
)
from ensemble.core.predictions import UNKNOWN, Ints, Texts
from ensemble.data.dataset import Items
from ensemble.data.splits import held_out


@dataclass
class Notes:
    """lines: notes for the user.  system: files of operating systems, which are summarised in one note."""

    lines: list[str] = field(default_factory=list)
    system: set[str] = field(default_factory=set)

    def add(self, line: str) -> None:
        """Add a note, unless it exists already."""
        if line not in self.lines:
            self.lines.append(line)

    def all(self) -> list[str]:
        """All notes; the one on the files of operating systems is the last."""
        if not self.system:
            return list(self.lines)
        count = "1 file or folder" if len(self.system) == 1 else f"{len(self.system)} files and folders"
        return [*self.lines, f"{count} of operating systems passed over: {first_few(sorted(self.system))}"]


HELD_OUT = 0.2
"""Share of train that is held out as valid by default."""


@dataclass(frozen=True)
class Rows:
    """The rows of a split, with class names.

    ids, paths: n each; paths relative to the root of the data set.  labels: n class names (or their numbers), ""
    where unknown; None if the split has none.  groups: n or None.  soft: float32 (n, k), columns in the order of
    `RawListing.own_order`, or None.
    """

    ids: Sequence[str]
    paths: Sequence[str]
    labels: Sequence[str] | None = None
    groups: Sequence[str] | None = None
    soft: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RawListing:
    """A listing before the classes are numbered.

    splits: `train`, and optionally `valid`, `test`, `test-<name>`.  own_order: the classes in the order of the data
    set, or None for natural order.  fraction: share of train to be held out as valid; None with a valid split.
    notes: lines for the user.
    """

    root: Path
    splits: Mapping[str, Rows]
    own_order: Sequence[str] | None
    fraction: float | None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Listing:
    """A listing with numbered classes. classes: str (k,)."""

    root: Path
    classes: Texts
    splits: Mapping[str, Items]
    fraction: float | None
    notes: Sequence[str] = ()


def numbered(raw: RawListing, classes: Sequence[str]) -> Listing:
    """The listing with class indices as labels. classes: `data.classes`, may be empty.

    Raises DataError for rows of train or valid without a label and for a class that is not in train.
    """
    for split in ("train", "valid"):
        if split in raw.splits:
            _refuse_unlabelled(split, raw.splits[split])
    names, numbers = _class_numbers(raw, [nfc(name.strip()) for name in classes])
    columns = None if raw.own_order is None else [list(raw.own_order).index(name) for name in names]
    items = {
        split: _items(split, rows, numbers, columns, listed=bool(classes)) for split, rows in raw.splits.items()
    }
    notes = [*raw.notes, *_notes_of_look_alikes(names)]
    return Listing(raw.root, np.array(names, np.str_), items, raw.fraction, notes)


def _notes_of_look_alikes(names: Sequence[str]) -> list[str]:
    groups = [(alike, "differ by case or invisible characters alone") for alike in look_alikes(names)]
    groups += [(alike, "are the same number") for alike in same_numbers(names)]
    return [
        f"classes that {problem}: {first_few(alike)}; rename them if they are the same" for alike, problem in groups
    ]


def _refuse_unlabelled(split: str, rows: Rows) -> None:
    if rows.labels is None:
        raise DataError(f"{split}: no labels found; each training and validation image needs one")
    unlabelled = [name for name, label in zip(rows.ids, rows.labels, strict=True) if not label]
    if unlabelled:
        raise DataError(
            f"{split}: {len(unlabelled)} rows without a label: {first_few(unlabelled)}; label or remove them"
        )


def _class_numbers(raw: RawListing, listed: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """The names of the classes in order, and label -> class index."""
    train_labels = set(raw.splits["train"].labels or ())
    if not listed:
        names = list(raw.own_order or sorted(train_labels, key=natural_key))
        return names, {name: index for index, name in enumerate(names)}
    if len(set(listed)) < len(listed):
        raise RecipeError(f"data.classes: the same class twice in {', '.join(listed)}")
    if raw.own_order is not None and set(listed) != set(raw.own_order):
        raise RecipeError(f"data.classes: {first_few(listed)} found, {first_few(raw.own_order)} expected")
    by_name = {name: index for index, name in enumerate(listed)}
    by_number = {str(index): index for index in range(len(listed))}
    # labels that are names in the list stay names, even if the names are numbers
    numeric = train_labels <= by_number.keys() and not train_labels <= by_name.keys()
    return list(listed), by_number if numeric else by_name


def _items(
    split: str, rows: Rows, numbers: Mapping[str, int], columns: Sequence[int] | None, *, listed: bool
) -> Items:
    soft = rows.soft if rows.soft is None or columns is None else rows.soft[:, columns]
    return Items(
        ids=np.array(rows.ids, np.str_),
        paths=np.array(rows.paths, np.str_),
        targets=_targets(split, rows, numbers, listed) if soft is None else _largest(soft),
        groups=None if rows.groups is None else np.array(rows.groups, np.str_),
        soft=soft,
    )


def _targets(split: str, rows: Rows, numbers: Mapping[str, int], listed: bool) -> Ints:
    if rows.labels is None:
        return np.full(len(rows.ids), UNKNOWN, np.int64)
    unknown = sorted(set(rows.labels) - numbers.keys() - {""}, key=natural_key)
    if unknown:
        owner = "data.classes does" if listed else "train does"
        # with a list of classes, labels may also be their numbers
        hint = _hint(unknown[0], [*numbers, *map(str, range(len(numbers) if listed else 0))])
        raise DataError(
            f"{split}: classes that {owner} not have: {first_few(unknown)} (it has {first_few(numbers)}){hint}"
        )
    return np.array([numbers[label] if label else UNKNOWN for label in rows.labels], np.int64)


def _hint(label: str, classes: Iterable[str]) -> str:
    """The class that an unknown label probably stands for, as an addition to a message."""
    for name in classes:
        if normalised_name(name) == normalised_name(label):
            return f"; {name!r} differs by case or invisible characters alone"
        if same_number(name, label):
            return f"; {label!r} and {name!r} are the same number: write both in one way"
    return ""


def _largest(soft: npt.NDArray[np.float32]) -> Ints:
    """The most probable class of each row, the lower index in a tie; UNKNOWN for rows of NaN."""
    known = ~np.isnan(soft).any(axis=1)
    return np.where(known, np.argmax(np.nan_to_num(soft), axis=1), UNKNOWN).astype(np.int64)


def without(listing: Listing, paths: set[str]) -> Listing:
    """The listing without the items whose file is in `paths`."""
    splits = {
        split: items.take(np.array([path not in paths for path in items.paths.tolist()], bool))
        for split, items in listing.splits.items()
    }
    return replace(listing, splits=splits)


def divided(listing: Listing, seed: int) -> Listing:
    """The listing with train and valid sorted by id; `fraction` of every class is held out as valid.

    Raises DataError if this is impossible, and for a training set without images, classes or class names.
    """
    _check_train(listing)
    splits = dict(listing.splits)
    train = splits.pop("train")
    if listing.fraction is None:
        parts = {"train": train, "valid": splits.pop("valid")}
    else:
        _refuse_single_images(listing)
        mask = held_out(train.ids, train.targets, listing.fraction, seed, train.groups)
        parts = {"train": train.take(~mask), "valid": train.take(mask)}
        _refuse_lost_classes(listing, parts["train"])
    for split, items in {**parts, **splits}.items():
        if not len(items):
            raise DataError(f"{split}: no images are left; give it some, or leave data.{split.split('-')[0]} out")
    # sorted, so that the order of the rows of a table does not change the result of training
    parts = {split: items.take(np.argsort(items.ids, kind="stable")) for split, items in parts.items()}
    return replace(listing, splits={**parts, **splits}, fraction=None)


def _check_train(listing: Listing) -> None:
    train, classes = listing.splits["train"], listing.classes
    where = one_line(listing.root)
    if not len(train):
        raise DataError(f"{where}: no training images found; check data.path, data.train and data.images")
    if len(classes) < 2:
        raise DataError(f"{where}: 1 class found ({classes[0]!s}), at least 2 expected")
    invalid = [name for name in classes.tolist() if not name or has_control(name)]
    if invalid:
        raise DataError(f"{where}: class names with control characters: {first_few(map(one_line, invalid))}")
    missing = np.bincount(train.targets, minlength=len(classes)) == 0
    if missing.any() and train.soft is None:
        raise DataError(
            f"{where}: classes without a training image: {first_few(classes[missing])};"
            " add images or take the class out"
        )


def _refuse_lost_classes(listing: Listing, train: Items) -> None:
    """Raise DataError if a class has no training image left, as all its groups are held out."""
    counts = np.bincount(train.targets, minlength=len(listing.classes))
    if train.soft is None and (counts == 0).any():
        raise DataError(
            f"every image of {first_few(listing.classes[counts == 0])} is in a group that is held out; set another"
            " data.split_seed, or name a validation set in data.valid"
        )


def _refuse_single_images(listing: Listing) -> None:
    counts = Counter(listing.splits["train"].targets.tolist())
    single = [name for index, name in enumerate(listing.classes.tolist()) if counts[index] == 1]
    if single:
        raise DataError(
            f"a part of each class is to be held out, but these have a single image: {first_few(single)};"
            " add images, or name a validation set in data.valid"
        )
