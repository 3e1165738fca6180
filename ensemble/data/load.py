"""Loading of the data set of a recipe: list, read every file once, divide, compute fingerprints."""

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
from ensemble.data.decoded_images import DecodedImages
from ensemble.data.digits import DIGITS_FINGERPRINT, digits_dataset
from ensemble.data.file_hashes import Progress, UnreadableFiles, described, digest_files
from ensemble.data.image_problems import DAMAGED
from ensemble.data.table_splits import grouped, read_groups
from ensemble.recipe.data_spec import DataSpec, forms

if TYPE_CHECKING:
    from ensemble.data.listing import Listing

__all__ = ["OnDisk", "current_fingerprint", "current_tests", "fold_of", "load_dataset", "refit_of", "tests_of"]

Note = Callable[[str], None]

_FINGERPRINT_SPLITS = ("train", "valid")
"""The splits that the fingerprint covers."""
MIN_PLACEHOLDER_ROWS = 5
"""Minimum size of a test set for a warning that all its labels are equal."""


def load_dataset(
    spec: DataSpec,
    runs: Path,
    progress: Progress | None = None,
    note: Note | None = None,
    decoded: DecodedImages | None = None,
) -> Dataset:
    """The data set of `spec`. Also writes `<runs>/.data/<fingerprint>/items.csv`, the list of its items.

    progress: called with (files read, files).  note: called with lines for the user.
    decoded: takes the images that are decoded now, for the image cache.
    Raises DataError, UnreadableFiles with all unreadable files, RecipeError for keys that exclude each other.
    """
    dataset = digits_dataset() if spec.form == "digits" else _from_files(spec, runs, progress, note, decoded)
    try:
        _write_items(runs / ".data" / dataset.fingerprint / "items.csv", dataset)
    except EnsError as error:  # not needed for a report; commands that write to the runs raise their own error
        (note or (lambda text: None))(f"{error}; the list of items is left out")
    return dataset


def current_fingerprint(spec: DataSpec, runs: Path) -> str:
    """The fingerprint that `load_dataset` would compute; unchanged files are not read again.

    Raises the errors of `load_dataset` for train and valid.
    """
    if spec.form == "digits":
        return DIGITS_FINGERPRINT
    listing, content = _examined(spec, runs, None, None, only=_FINGERPRINT_SPLITS)
    return fingerprint(listing.splits, listing.classes, content)


@dataclass(frozen=True)
class OnDisk:
    """The current state of a test set on disk. fingerprint: as in `Dataset.test_fingerprints`.  ids: of its images.

    unread: the ids of images that cannot be read and are left out (`skip_unreadable`).
    """

    fingerprint: str
    ids: frozenset[str]
    unread: tuple[str, ...] = ()


def current_tests(spec: DataSpec, runs: Path) -> dict[str, OnDisk]:
    """Every test set that is not empty, by its split; images of train and valid are not read.

    Unchanged files are not read again. Raises the errors of `load_dataset` for the tests.
    """
    if spec.form == "digits":
        return tests_of(digits_dataset())
    listing, left_out, content = _readable(spec, runs, None, None, lambda split: split not in _FINGERPRINT_SPLITS)
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
    """The test sets of a loaded data set, by split."""
    fingerprints = dataset.test_fingerprints
    return {
        split: OnDisk(fingerprints[split], frozenset(items.ids.tolist())) for split, items in dataset.tests.items()
    }


def labelled_twice(splits: Mapping[str, Items], content: Mapping[str, str]) -> list[str]:
    """Identical images of train and valid in different classes, each as `first and other`."""
    first: dict[str, tuple[int, str]] = {}
    pairs = []
    for split in _FINGERPRINT_SPLITS:
        items = splits.get(split)
        for path, target in () if items is None else zip(items.paths.tolist(), items.targets.tolist(), strict=True):
            label, first_path = first.setdefault(content[path], (target, path))
            if label != target:
                pairs.append(f"{first_path} and {path}")
    return pairs


def training_size(spec: DataSpec, runs: Path) -> int | None:
    """The number of images that train lists, without reading them; None if they cannot be listed."""
    from ensemble.data.listing import divided

    try:
        return len(divided(_listed(spec, runs), spec.split_seed).splits["train"])
    except EnsError:  # loading the data raises the error
        return None


def placeholder_notes(tests: Mapping[str, Items], classes: list[str]) -> Iterator[str]:
    """A warning for each test set whose rows all have the same label, as in a sample submission."""
    for split, items in tests.items():
        labels = set(items.targets.tolist())
        if len(labels) == 1 and -1 not in labels and len(items) >= MIN_PLACEHOLDER_ROWS:
            yield (
                f"warning: all {len(items)} rows of {split} are labelled {classes[labels.pop()]}; where that stands"
                " for no label, leave the column out: scores on it mean nothing"
            )


def _from_files(
    spec: DataSpec, runs: Path, progress: Progress | None, note: Note | None, decoded: DecodedImages | None
) -> Dataset:
    from ensemble.data.image_problems import note_on_depth
    from ensemble.data.images import ImageReader

    listing, content = _examined(spec, runs, progress, note, decoded=decoded)
    if note and (line := note_on_depth(listing.root, listing.splits["train"].paths.tolist())):
        note(line)
    classes, splits = listing.classes, listing.splits
    if note and (pairs := labelled_twice(splits, content)):
        note(
            f"warning: pictures with two labels, byte for byte the same: {len(pairs)} ({first_few(pairs)});"
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
        decoded=decoded or DecodedImages(),
    )


def _examined(
    spec: DataSpec,
    runs: Path,
    progress: Progress | None,
    note: Note | None,
    only: tuple[str, ...] | None = None,
    decoded: DecodedImages | None = None,
) -> tuple[Listing, Mapping[str, str]]:
    """The divided listing, and path -> SHA-256. only: the splits to read, None for all."""
    from ensemble.data.listing import divided

    listing, _, content = _readable(
        spec, runs, progress, note, lambda split: only is None or split in only, decoded
    )
    return divided(listing, spec.split_seed), content


def _readable(
    spec: DataSpec,
    runs: Path,
    progress: Progress | None,
    note: Note | None,
    is_requested: Callable[[str], bool],
    decoded: DecodedImages | None = None,
) -> tuple[Listing, Mapping[str, list[str]], Mapping[str, str]]:
    """The undivided listing of readable images; split -> ids that are left out; path -> SHA-256.

    is_requested: whether a split is to be read.
    """
    from ensemble.data.listing import without

    add_note = note or (lambda text: None)
    listing = _listed(spec, runs)
    if spec.groups is not None:
        listing = replace(listing, splits=grouped(listing.splits, read_groups(Path(spec.path, spec.groups))))
    for line in listing.notes:
        add_note(line)
    listing = replace(
        listing, splits={split: items for split, items in listing.splits.items() if is_requested(split)}
    )
    paths = [path for items in listing.splits.values() for path in items.paths.tolist()]
    digests = digest_files(spec, paths, runs / ".data", progress, decoded.add if decoded else None)
    problems, total = digests.problems, len(digests.sha256)
    for line in _remark_notes(digests.remarks, total):
        add_note(line)
    if problems and not spec.skip_unreadable:
        raise UnreadableFiles(problems, total)
    if problems:
        add_note(f"skipped {len(problems)} of {total} images: {described(problems)}")
        complete, listing = listing, without(listing, set(problems))
        return listing, _left_out(complete, listing), digests.sha256
    return listing, {}, digests.sha256


def _remark_notes(remarks: Mapping[str, str], total: int) -> Iterator[str]:
    """A warning on probably damaged images, and a note on broken metadata."""
    damaged = [path for path, remark in remarks.items() if DAMAGED in remark]
    if damaged:
        yield f"warning: {len(damaged)} of {total} images {DAMAGED} ({first_few(damaged)}); look at them"
    others = {path: remark.removeprefix(DAMAGED).removeprefix("; ") for path, remark in remarks.items()}
    others = {path: remark for path, remark in others.items() if remark}
    if others:
        yield f"{len(others)} of {total} images are read in spite of their metadata: {described(others)}"


def _left_out(complete: Listing, kept: Listing) -> dict[str, list[str]]:
    ids = {split: set(items.ids.tolist()) for split, items in kept.splits.items()}
    return {
        split: [name for name in items.ids.tolist() if name not in ids[split]]
        for split, items in complete.splits.items()
    }


def _listed(spec: DataSpec, runs: Path) -> Listing:
    from ensemble.data.folders import refuse_no_root
    from ensemble.data.listing import numbered

    refuse_no_root(spec)
    return numbered(forms.get(spec.form)(spec, frozenset({runs.resolve()})), spec.classes)


def _write_items(path: Path, dataset: Dataset) -> None:
    """Write id, path, split, label ("" where unknown) and group of every item, unless the file is up to date."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "path", "split", "label", "group"])
    for split, items in dataset.splits.items():
        writer.writerows(_item_rows(split, items, dataset))
    content = text.getvalue().encode()
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)


def _item_rows(split: str, items: Items, dataset: Dataset) -> list[tuple[str, str, str, str, str]]:
    names = [*dataset.classes.tolist(), ""]  # UNKNOWN is -1, the last index
    labels = [names[target] for target in items.targets.tolist()]
    groups = [""] * len(items) if items.groups is None else items.groups.tolist()
    return list(zip(items.ids.tolist(), items.paths.tolist(), [split] * len(items), labels, groups, strict=True))
