"""Detection of the roles of tables and their columns, and the type of a guess."""

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
from ensemble.recipe.data_spec import DataSpec

TABLES = (".csv", ".tsv")
IMAGE_FOLDERS = ("images", "image", "imgs", "img")


@dataclass(frozen=True)
class Guess:
    """spec: the most likely data specification.  reasons: key of `data` -> why.

    sample: a sample submission in the folder.
    format: format of a submission, from the columns of the sample.  remarks: observations that have no key.
    questions: (key, its candidates) for ambiguous keys.
    group: the column that probably holds groups.
    """

    spec: DataSpec
    reasons: Mapping[str, str] = field(default_factory=dict)
    sample: Path | None = None
    format: str = "kaggle"
    remarks: Sequence[str] = ()
    questions: Sequence[tuple[str, str]] = ()
    group: str | None = None


def tables_in(folder: Path) -> dict[str, str]:
    """The tables of a folder: name without the suffix -> file name."""
    return {Path(name).stem: name for name in reversed(files_in(folder)) if name.lower().endswith(TABLES)}


def files_in(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."]


def is_sample(name: str) -> bool:
    text = "".join(words_of(name))
    return "submission" in text or text.startswith(("samplesub", "submit"))


_LIST_WORDS = {"labels", "label", "metadata", "groundtruth", "ground", "truth", "annotations", "classes", "list"}
"""Words in the name of a table that lists images with their labels."""


def guess_from_train_table(folder: Path) -> Guess | None:
    """A guess from `train.csv`, or None."""
    table = first_named(files_in(folder), [name + suffix for name in ("train", "training") for suffix in TABLES])
    return guess_from_table(folder, table) if table else None


def guess_from_other_table(folder: Path) -> Guess | None:
    """A guess from the only table that may list images, as labels.csv for a flat train/. Raises DataError."""
    tables = {name: file for name, file in tables_in(folder).items() if not is_sample(name)}
    splits = split_names(tables)
    trains = [split.name for split in splits.get("train", [])]
    other_names = [
        name for name in tables if name not in {split.name for role in splits.values() for split in role}
    ]
    chosen = trains[:1] or [name for name in other_names if _LIST_WORDS & set(words_of(name))] or other_names
    if len(chosen) > 1:
        files = [tables[name] for name in chosen]
        raise DataError(
            f"{one_line(folder)}: any of {first_few(files)} may list the images; point --data at one:"
            f" {one_line(folder / files[0])}"
        )
    return guess_from_table(folder, tables[chosen[0]]) if chosen else None


def table_beside_folders(folder: Path) -> Guess | None:
    """A guess from a table of at least half of the images, whose labels are not the names of their folders."""
    images = scan(folder).images
    for name, file in tables_in(folder).items():
        try:
            guess = None if is_sample(name) else guess_from_table(folder, file)
        except DataError:
            continue  # an unrelated table; the folders are the classes
        if guess and guess.spec.id_column is not None:
            table = read_csv(folder / file)
            labels = set(table.columns[guess.spec.label_column]) if guess.spec.label_column else set()
            if 2 * len(table) >= len(images) and not {path.split("/")[0] for path in images} <= labels:
                return guess
    return None


def guess_from_table(folder: Path, name: str) -> Guess:
    table = read_csv(folder / name)
    folders = subfolders(folder)
    image_folder = first_named(folders, IMAGE_FOLDERS)
    images = scan(folder).images
    index = ImageIndex(folder, "", images)
    refuse_no_header(table, index, Path(name).stem)
    roles = guess_roles(table, lambda value: bool(index.hit(value, Path(name).stem).files))
    inner_images = [path for path in images if path.startswith(f"{image_folder}/")]
    # a folder of that name may contain other images than those of the table
    uses_folder = bool(image_folder) and (roles.id is None or _has_images(inner_images, table.columns[roles.id]))
    keys: dict[str, Any] = {"form": "csv", "path": str(folder), "train": name, **roles.keys}
    reasons = dict(roles.reasons)
    if uses_folder:
        keys["images"] = image_folder
    for role, value in _other_splits(folder, name, folders, images).items():
        if role not in roles.splits:
            keys[role] = value
            reasons[role] = (
                "a table called so" if value.lower().endswith(TABLES) else "a folder of images called so"
            )
    return Guess(DataSpec(**keys), reasons, remarks=roles.remarks, questions=roles.questions, group=roles.group)


def _has_images(inner: Sequence[str], names: Iterable[str]) -> bool:
    if not inner:
        return True
    index = ImageIndex(Path(), "", inner)
    return any(index.hit(value.rsplit("/", 1)[-1], "").files for value in names)


def _other_splits(folder: Path, name: str, folders: Sequence[str], images: Sequence[str]) -> dict[str, str]:
    """valid, test -> their table, or for test a flat folder, in the folder of train's table."""
    table_names = tables_in(folder)
    tables = split_names(stem for stem, file in table_names.items() if file == name or not is_sample(stem))
    others = {role: table_names[tables[role][0].name] for role in ("valid", "test") if role in tables}
    if "test" not in others and (flat_folder := _flat_folder(split_names(folders).get("test", []), images)):
        others["test"] = flat_folder
    return {role: value for role, value in others.items() if value != name}


def _flat_folder(names: Sequence[SplitName], images: Sequence[str]) -> str | None:
    """The first folder whose images are all directly in it, or in its subfolder of the same name."""
    for split in names:
        paths = [path.split("/") for path in images if path.startswith(f"{split.name}/")]
        if paths and all(len(parts) == 2 for parts in paths):
            return split.name
        if paths and all(len(parts) == 3 and parts[1] == paths[0][1] for parts in paths):
            return f"{split.name}/{paths[0][1]}"
    return None
