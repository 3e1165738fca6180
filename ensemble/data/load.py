"""A recipe's `data` as a checked data set: listed, every file read once, divided, fingerprinted."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.data.dataset import Dataset, Items
from ensemble.data.digests import Progress, UnreadableFiles, described, digest_files
from ensemble.data.digits import DIGITS_FINGERPRINT, digits_dataset
from ensemble.data.fingerprint import fingerprint, fingerprint_of_test
from ensemble.data.groups import grouped, read_groups
from ensemble.data.pools import fold_of, refit_of
from ensemble.errors import EnsError
from ensemble.files import write_atomically
from ensemble.recipe.schema import DataSpec

if TYPE_CHECKING:
    from ensemble.data.listing import Listing

__all__ = ["current_fingerprint", "fold_of", "load_dataset", "refit_of"]

Note = Callable[[str], None]


def load_dataset(spec: DataSpec, runs: Path, progress: Progress | None = None, note: Note | None = None) -> Dataset:
    """Everything that `spec` stands for, and `<runs>/.data/<fingerprint>/items.csv` that lists it.

    progress: called with (files read, files).  note: called with lines that a person should see.
    Raises DataError, UnreadableFiles for all files at once, RecipeError for keys that exclude each other.
    """
    dataset = digits_dataset() if spec.form == "digits" else _from_files(spec, runs, progress, note)
    _write_items(runs / ".data" / dataset.fingerprint / "items.csv", dataset)
    return dataset


def current_fingerprint(spec: DataSpec, runs: Path) -> str:
    """The fingerprint that `load_dataset` would give; no file is opened again that has not changed since.

    Raises what `load_dataset` raises about train and valid.
    """
    if spec.form == "digits":
        return DIGITS_FINGERPRINT
    listing, content = _examined(spec, runs, None, None, only=("train", "valid"))
    return fingerprint(listing.splits, listing.classes, content)


def training_size(spec: DataSpec, runs: Path) -> int | None:
    """How many images train lists, none of them opened; None where they cannot be listed."""
    from ensemble.data.listing import divided

    try:
        return len(divided(_listed(spec, runs), spec.split_seed).splits["train"])
    except EnsError:  # whoever loads the data says what is wrong
        return None


def _from_files(spec: DataSpec, runs: Path, progress: Progress | None, note: Note | None) -> Dataset:
    from ensemble.data.images import ImageReader

    listing, content = _examined(spec, runs, progress, note)
    classes, splits = listing.classes, listing.splits
    tests = [split for split in splits if split not in ("train", "valid")]
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
    from ensemble.data.listing import divided, without

    say = note or (lambda text: None)
    listing = _listed(spec, runs)
    if spec.groups is not None:
        listing = replace(listing, splits=grouped(listing.splits, read_groups(Path(spec.path, spec.groups))))
    for line in listing.notes:
        say(line)
    if only:
        listing = replace(listing, splits={s: items for s, items in listing.splits.items() if s in only})
    paths = [path for items in listing.splits.values() for path in items.paths.tolist()]
    digests = digest_files(spec, paths, runs / ".data", progress)
    problems, total = digests.problems, len(digests.sha256)
    if problems and not spec.skip_unreadable:
        raise UnreadableFiles(problems, total)
    if problems:
        say(f"skipped {len(problems)} of {total} images: {described(problems)}")
        listing = without(listing, set(problems))
    return divided(listing, spec.split_seed), digests.sha256


def _listed(spec: DataSpec, runs: Path) -> Listing:
    from ensemble.data.folders import list_folders
    from ensemble.data.listing import numbered
    from ensemble.data.tables import list_tables

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
