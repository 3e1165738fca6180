"""A recipe's `data` as a checked data set: listed, every file read once, divided, fingerprinted."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.core.errors import EnsError, first_few
from ensemble.core.files import write_atomically
from ensemble.data.dataset import Dataset, Items, fingerprint, fingerprint_of_test, fold_of, refit_of
from ensemble.data.digits import DIGITS_FINGERPRINT, digits_dataset
from ensemble.data.file_hashes import Progress, UnreadableFiles, described, digest_files
from ensemble.data.image_problems import DAMAGED
from ensemble.data.table_splits import grouped, read_groups
from ensemble.recipe.schema import DataSpec

if TYPE_CHECKING:
    from ensemble.data.listing import Listing

__all__ = ["OnDisk", "current_fingerprint", "current_tests", "fold_of", "load_dataset", "refit_of", "tests_of"]

Note = Callable[[str], None]

_LEARNT = ("train", "valid")
"""The splits that the fingerprint covers."""
FEW_TESTS = 5
"""Rows of a test of which all having one label may well be the truth."""


def load_dataset(spec: DataSpec, runs: Path, progress: Progress | None = None, note: Note | None = None) -> Dataset:
    """Everything that `spec` stands for, and `<runs>/.data/<fingerprint>/items.csv` that lists it.

    progress: called with (files read, files).  note: called with lines that a person should see.
    Raises DataError, UnreadableFiles for all files at once, RecipeError for keys that exclude each other.
    """
    dataset = digits_dataset() if spec.form == "digits" else _from_files(spec, runs, progress, note)
    try:
        _write_items(runs / ".data" / dataset.fingerprint / "items.csv", dataset)
    except EnsError as error:  # a report counts without it; who must write to the runs fails by himself
        (note or (lambda text: None))(f"{error}; the list of items is left out")
    return dataset


def current_fingerprint(spec: DataSpec, runs: Path) -> str:
    """The fingerprint that `load_dataset` would give; no file is opened again that has not changed since.

    Raises what `load_dataset` raises about train and valid.
    """
    if spec.form == "digits":
        return DIGITS_FINGERPRINT
    listing, content = _examined(spec, runs, None, None, only=_LEARNT)
    return fingerprint(listing.splits, listing.classes, content)


@dataclass(frozen=True)
class OnDisk:
    """A test set as it is on disk. fingerprint: as in `Dataset.test_fingerprints`.  ids: of its images.

    unread: the ids of those that cannot be read and are left out, as `skip_unreadable` says.
    """

    fingerprint: str
    ids: frozenset[str]
    unread: tuple[str, ...] = ()


def current_tests(spec: DataSpec, runs: Path) -> dict[str, OnDisk]:
    """Every test set that is not empty, by its split, without a look into images of train and valid.

    No file is opened again that has not changed since. Raises what `load_dataset` raises about the tests.
    """
    if spec.form == "digits":
        return tests_of(digits_dataset())
    listing, left_out, content = _readable(spec, runs, None, None, lambda split: split not in _LEARNT)
    return {
        split: OnDisk(
            fingerprint_of_test(items, listing.classes, content),
            frozenset(items.ids.tolist()),
            tuple(sorted(left_out.get(split, ()))),
        )
        for split, items in listing.splits.items()
        if len(items)
    }


def tests_of(dataset: Dataset) -> dict[str, OnDisk]:
    """The test sets of a data set that is loaded, by split."""
    prints = dataset.test_fingerprints
    return {split: OnDisk(prints[split], frozenset(items.ids.tolist())) for split, items in dataset.tests.items()}


def labelled_twice(splits: Mapping[str, Items], content: Mapping[str, str]) -> list[str]:
    """The images of train and valid whose bytes are there under another class too, each as `first and other`."""
    first: dict[str, tuple[int, str]] = {}
    twins = []
    for split in _LEARNT:
        items = splits.get(split)
        for path, target in () if items is None else zip(items.paths.tolist(), items.targets.tolist(), strict=True):
            label, known = first.setdefault(content[path], (target, path))
            if label != target:
                twins.append(f"{known} and {path}")
    return twins


def training_size(spec: DataSpec, runs: Path) -> int | None:
    """How many images train lists, none of them opened; None where they cannot be listed."""
    from ensemble.data.listing import divided

    try:
        return len(divided(_listed(spec, runs), spec.split_seed).splits["train"])
    except EnsError:  # whoever loads the data says what is wrong
        return None


def placeholder_notes(tests: Mapping[str, Items], classes: list[str]) -> Iterator[str]:
    """A line on each test set whose rows all have one label, as a sample submission that lists a test does."""
    for split, items in tests.items():
        labels = set(items.targets.tolist())
        if len(labels) == 1 and -1 not in labels and len(items) >= FEW_TESTS:
            yield (
                f"warning: all {len(items)} rows of {split} are labelled {classes[labels.pop()]}; where that stands"
                " for no label, leave the column out: scores on it mean nothing"
            )


def _from_files(spec: DataSpec, runs: Path, progress: Progress | None, note: Note | None) -> Dataset:
    from ensemble.data.image_problems import note_on_depth
    from ensemble.data.images import ImageReader

    listing, content = _examined(spec, runs, progress, note)
    if note and (line := note_on_depth(listing.root, listing.splits["train"].paths.tolist())):
        note(line)
    classes, splits = listing.classes, listing.splits
    if note and (twins := labelled_twice(splits, content)):
        note(
            f"warning: pictures with two labels, byte for byte the same: {len(twins)} ({first_few(twins)});"
            " `ens check` shows them"
        )
    tests = [split for split in splits if split not in ("train", "valid")]
    for line in placeholder_notes({split: splits[split] for split in tests}, classes.tolist()):
        (note or (lambda text: None))(line)
    return Dataset(
        classes=classes,
        splits=splits,
        fingerprint=fingerprint(splits, classes, content),
        test_fingerprints={split: fingerprint_of_test(splits[split], classes, content) for split in tests},
        open_image=ImageReader(str(listing.root), spec.max_pixels, spec.background),
        content=content,
        background=spec.background,
    )


def _examined(
    spec: DataSpec,
    runs: Path,
    progress: Progress | None,
    note: Note | None,
    only: tuple[str, ...] | None = None,
) -> tuple[Listing, Mapping[str, str]]:
    """The divided listing, and path -> sha256. only: the splits to look at."""
    from ensemble.data.listing import divided

    listing, _, content = _readable(spec, runs, progress, note, lambda split: only is None or split in only)
    return divided(listing, spec.split_seed), content


def _readable(
    spec: DataSpec, runs: Path, progress: Progress | None, note: Note | None, wanted: Callable[[str], bool]
) -> tuple[Listing, Mapping[str, list[str]], Mapping[str, str]]:
    """The listing of what can be read, not divided yet; the ids by split that are left out; path -> sha256.

    wanted: the splits to look at.
    """
    from ensemble.data.listing import without

    say = note or (lambda text: None)
    listing = _listed(spec, runs)
    if spec.groups is not None:
        listing = replace(listing, splits=grouped(listing.splits, read_groups(Path(spec.path, spec.groups))))
    for line in listing.notes:
        say(line)
    listing = replace(listing, splits={s: items for s, items in listing.splits.items() if wanted(s)})
    paths = [path for items in listing.splits.values() for path in items.paths.tolist()]
    digests = digest_files(spec, paths, runs / ".data", progress)
    problems, total = digests.problems, len(digests.sha256)
    for line in _remark_notes(digests.remarks, total):
        say(line)
    if problems and not spec.skip_unreadable:
        raise UnreadableFiles(problems, total)
    if problems:
        say(f"skipped {len(problems)} of {total} images: {described(problems)}")
        whole, listing = listing, without(listing, set(problems))
        return listing, _left_out(whole, listing), digests.sha256
    return listing, {}, digests.sha256


def _remark_notes(remarks: Mapping[str, str], total: int) -> Iterator[str]:
    """A line on what is most likely damaged, and one on broken metadata."""
    damaged = [path for path, remark in remarks.items() if DAMAGED in remark]
    if damaged:
        yield f"warning: {len(damaged)} of {total} images {DAMAGED} ({first_few(damaged)}); look at them"
    others = {path: remark.removeprefix(DAMAGED).removeprefix("; ") for path, remark in remarks.items()}
    others = {path: remark for path, remark in others.items() if remark}
    if others:
        yield f"{len(others)} of {total} images are read in spite of their metadata: {described(others)}"


def _left_out(whole: Listing, kept: Listing) -> dict[str, list[str]]:
    ids = {split: set(items.ids.tolist()) for split, items in kept.splits.items()}
    return {s: [one for one in items.ids.tolist() if one not in ids[s]] for s, items in whole.splits.items()}


def _listed(spec: DataSpec, runs: Path) -> Listing:
    from ensemble.data.folders import list_folders, refuse_no_root
    from ensemble.data.listing import numbered
    from ensemble.data.tables import list_tables

    refuse_no_root(spec)
    list_form = list_folders if spec.form == "folders" else list_tables
    return numbered(list_form(spec, frozenset({runs.resolve()})), spec.classes)


def _write_items(path: Path, dataset: Dataset) -> None:
    """id, path, split, label (empty where unknown), group of every item; left alone when it is there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "path", "split", "label", "group"])
    for split, items in dataset.splits.items():
        writer.writerows(_item_rows(split, items, dataset))
    content = text.getvalue().encode()
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)


def _item_rows(split: str, items: Items, dataset: Dataset) -> list[tuple[str, str, str, str, str]]:
    names = [*dataset.classes.tolist(), ""]  # UNKNOWN is -1, the last
    labels = [names[target] for target in items.targets.tolist()]
    groups = [""] * len(items) if items.groups is None else items.groups.tolist()
    return list(zip(items.ids.tolist(), items.paths.tolist(), [split] * len(items), labels, groups, strict=True))
