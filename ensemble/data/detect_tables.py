"""Guesses of what a table means, and what a guess is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensemble.core.errors import DataError, first_few, one_line
from ensemble.data.columns import guess_roles
from ensemble.data.csv_files import read_csv
from ensemble.data.file_index import ImageIndex, refuse_no_header
from ensemble.data.folders import subfolders
from ensemble.data.scan import scan
from ensemble.data.split_names import SplitName, first_named, split_names, words_of
from ensemble.recipe.schema import DataSpec

TABLES = (".csv", ".tsv")
IMAGE_FOLDERS = ("images", "image", "imgs", "img")


@dataclass(frozen=True)
class Guess:
    """spec: what the data most likely is.  reasons: why, for a key of `data`.

    sample: a sample submission beside it.
    format: of a submission, by the sample's columns.  remarks: what was seen and has no key.
    questions: (key, its candidates), of what could not be told.
    group: the column that seems to say what belongs together.
    """

    spec: DataSpec
    reasons: Mapping[str, str] = field(default_factory=dict)
    sample: Path | None = None
    format: str = "kaggle"
    remarks: Sequence[str] = ()
    questions: Sequence[tuple[str, str]] = ()
    group: str | None = None


def tables_in(folder: Path) -> dict[str, str]:
    """The names of a folder's tables without their ending -> with it."""
    return {Path(name).stem: name for name in reversed(files_in(folder)) if name.lower().endswith(TABLES)}


def files_in(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."]


def is_sample(name: str) -> bool:
    text = "".join(words_of(name))
    return "submission" in text or text.startswith(("samplesub", "submit"))


_LISTS = {"labels", "label", "metadata", "groundtruth", "ground", "truth", "annotations", "classes", "list"}
"""Words in the name of a table that lists images with their labels."""


def plain_table(folder: Path) -> Guess | None:
    """What `train.csv` says."""
    table = first_named(files_in(folder), [name + suffix for name in ("train", "training") for suffix in TABLES])
    return of_table(folder, table) if table else None


def other_table(folder: Path) -> Guess | None:
    """What the only table says that may list the images: labels.csv beside a flat train/. Raises DataError."""
    stems = {name: file for name, file in tables_in(folder).items() if not is_sample(name)}
    named = split_names(stems)
    trains = [split.name for split in named.get("train", [])]
    others = [name for name in stems if name not in {split.name for role in named.values() for split in role}]
    chosen = trains[:1] or [name for name in others if _LISTS & set(words_of(name))] or others
    if len(chosen) > 1:
        files = [stems[name] for name in chosen]
        raise DataError(
            f"{one_line(folder)}: any of {first_few(files)} may list the images; point --data at one:"
            f" {one_line(folder / files[0])}"
        )
    return of_table(folder, stems[chosen[0]]) if chosen else None


def table_beside_folders(folder: Path) -> Guess | None:
    """The table beside folders of images that names most of these and has other labels than the folders' names."""
    images = scan(folder).images
    for name, file in tables_in(folder).items():
        try:
            guess = None if is_sample(name) else of_table(folder, file)
        except DataError:
            continue  # it is some other table, and the folders are what they look like
        if guess and guess.spec.id_column is not None:
            table = read_csv(folder / file)
            labels = set(table.columns[guess.spec.label_column]) if guess.spec.label_column else set()
            if 2 * len(table) >= len(images) and not {path.split("/")[0] for path in images} <= labels:
                return guess
    return None


def of_table(folder: Path, name: str) -> Guess:
    table = read_csv(folder / name)
    folders = subfolders(folder)
    named = first_named(folders, IMAGE_FOLDERS)
    images = scan(folder).images
    whole = ImageIndex(folder, "", images)
    refuse_no_header(table, whole, Path(name).stem)
    roles = guess_roles(table, lambda value: bool(whole.hit(value, Path(name).stem).files))
    inner = [path for path in images if path.startswith(f"{named}/")]
    # a folder of that name may hold other images than those of the table
    part = bool(named) and (roles.id is None or _holds(inner, table.columns[roles.id]))
    keys: dict[str, Any] = {"form": "csv", "path": str(folder), "train": name, **roles.keys}
    reasons = dict(roles.reasons)
    if part:
        keys["images"] = named
    for role, value in _splits_beside(folder, name, folders, images).items():
        if role not in roles.splits:
            keys[role] = value
            reasons[role] = (
                "a table called so" if value.lower().endswith(TABLES) else "a folder of images called so"
            )
    return Guess(DataSpec(**keys), reasons, remarks=roles.remarks, questions=roles.questions, group=roles.group)


def _holds(inner: Sequence[str], names: Iterable[str]) -> bool:
    if not inner:
        return True
    index = ImageIndex(Path(), "", inner)
    return any(index.hit(value.rsplit("/", 1)[-1], "").files for value in names)


def _splits_beside(folder: Path, name: str, folders: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """valid, test -> the table, or for a test the flat folder, beside train's table."""
    stems = tables_in(folder)
    tables = split_names(stem for stem, file in stems.items() if file == name or not is_sample(stem))
    beside = {role: stems[tables[role][0].name] for role in ("valid", "test") if role in tables}
    if "test" not in beside and (flat := _flat(split_names(folders).get("test", []), images)):
        beside["test"] = flat
    return {role: value for role, value in beside.items() if value != name}


def _flat(names: Sequence[SplitName], images: Sequence[str]) -> str | None:
    """The first folder whose images all lie directly in it, or in a folder of the same name there."""
    for split in names:
        inner = [path.split("/") for path in images if path.startswith(f"{split.name}/")]
        if inner and all(len(parts) == 2 for parts in inner):
            return split.name
        if inner and all(len(parts) == 3 and parts[1] == inner[0][1] for parts in inner):
            return f"{split.name}/{inner[0][1]}"
    return None
