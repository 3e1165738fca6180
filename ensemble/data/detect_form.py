"""Detection of the `data` section of a recipe from a folder or a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ensemble.core.errors import DataError, first_few, one_line
from ensemble.data.csv_files import read_rows
from ensemble.data.detect_tables import (
    IMAGE_FOLDERS,
    TABLES,
    Guess,
    files_in,
    guess_from_other_table,
    guess_from_table,
    guess_from_train_table,
    is_sample,
    table_beside_folders,
    tables_in,
)
from ensemble.data.folders import class_advice, subfolders
from ensemble.data.scan import holds_image, scan
from ensemble.data.split_names import SplitName, label_advice, role_of, split_names
from ensemble.recipe.data_spec import DataSpec


def guess_from_folders(root: Path, folder: Path) -> Guess | None:
    """A guess from split folders or class folders in `folder`; None if there are none. Raises DataError."""
    names = subfolders(folder)
    with_images = {name for name in names if holds_image(folder / name)}
    splits = split_names(names)
    if "train" in splits and not _is_class(folder, splits["train"][0].name, with_images, splits):
        return _guess_from_splits(root, folder, splits, with_images)
    split_folders = {split.name for role in ("valid", "test") for split in splits.get(role, [])}
    if len(with_images - split_folders) < 2:
        return None
    other_splits = {role: splits[role][0].name for role in ("valid", "test") if role in splits}
    spec = DataSpec(
        form="folders", path=str(folder), train=".", valid=other_splits.get("valid"), test=other_splits.get("test")
    )
    return Guess(spec, {"train": "its own folders are the classes"} | _reasons(other_splits))


def _is_class(folder: Path, name: str, with_images: set[str], splits: Mapping[str, Sequence[SplitName]]) -> bool:
    """Whether the folder `train` is a class (of vehicles): it and other folders, not named as splits, are flat."""
    split_folders = {split.name for role in splits.values() for split in role}
    return (
        bool(with_images - split_folders)
        and _is_flat(folder / name)
        and any(_is_flat(folder / other) for other in with_images - split_folders)
    )


def _is_flat(folder: Path) -> bool:
    """Whether all images are directly in the folder."""
    return holds_image(folder, directly=True) and not any(holds_image(folder / name) for name in subfolders(folder))


def _guess_from_splits(
    root: Path, base: Path, splits: Mapping[str, Sequence[SplitName]], with_images: set[str]
) -> Guess | None:
    chosen = {role: [name for name in names if name.name in with_images] or names for role, names in splits.items()}
    train = chosen["train"]
    if len(train) > 1 and train[0].rank == train[1].rank:
        names = [split.name for split in train if split.rank == train[0].rank]
        raise DataError(
            f"{one_line(base)}: any of the folders {first_few(names)} may be train; write a recipe that names one:"
            f" data: {{form: folders, path: {one_line(base)}, train: {names[0]}}}"
        )
    if _is_flat(base / train[0].name) and tables_in(base):
        return None  # the labels are in a table in the same folder
    keys: dict[str, Any] = {role: _split_path(root, base, names[0].name) for role, names in chosen.items()}
    more_tests = {split.name: _split_path(root, base, split.name) for split in chosen.get("test", [])[1:]}
    if more_tests:
        keys["tests"] = more_tests
    spec = DataSpec(form="folders", path=str(root), **keys)
    return Guess(spec, _reasons({role: names[0].name for role, names in chosen.items()}))


def _reasons(folders: Mapping[Any, str]) -> dict[str, str]:
    return {role: f"the folder {name!r} is called so" for role, name in folders.items() if name != role}


def _split_path(root: Path, parent: Path, name: str) -> str:
    """The folder of the split relative to the root, or its only folder, as in seg_train/seg_train."""
    folder = parent / name
    for _ in range(2):
        inner = subfolders(folder)
        if len(inner) != 1 or not _is_same_split(folder.name, inner[0]):
            break
        if holds_image(folder, directly=True):
            break
        folder = folder / inner[0]
    return folder.relative_to(root).as_posix()


def _is_same_split(outer: str, inner: str) -> bool:
    """Whether a folder inside the folder of a split is that split again, not a class."""
    roles = [set(split_names([name])) for name in (outer, inner)]
    return (
        inner.lower() == outer.lower()
        or roles[0] == roles[1]
        or inner.lower() in (*IMAGE_FOLDERS, "data", "unknown")
    )


def guess_spec(path: Path) -> DataSpec:
    """The data specification of `path`: a folder with train/ or train.csv, a folder of class folders, or a CSV.

    Keys of ambiguous columns are left unset, and loading raises an error that names them. Groups are left to the
    recipe, as they change which rows are in valid. Raises DataError.
    """
    return _guess(path).spec


def guess(path: Path) -> Guess:
    """The data specification with groups, the reasons, and the sample submission. Raises DataError."""
    guessed = _guess(path)
    tables = tables_in(Path(guessed.spec.path))
    samples = [Path(guessed.spec.path, file) for stem, file in tables.items() if is_sample(stem)]
    if len(samples) == 1:
        has_probabilities = len(read_rows(samples[0])[0][0].cells) > 2
        guessed = replace(guessed, sample=samples[0], format="kaggle-probs" if has_probabilities else "kaggle")
    # a separate table of valid may not have the column
    if guessed.group is None or guessed.spec.valid is not None:
        return guessed
    reason = f"values repeat: what belongs to one {guessed.group} is all in train or all in valid"
    spec = guessed.spec.model_copy(update={"group_column": guessed.group})
    return replace(guessed, spec=spec, reasons={**guessed.reasons, "group_column": reason})


def _guess(path: Path) -> Guess:
    path = path.expanduser()
    if path.is_file() and path.suffix.lower() in TABLES:
        return guess_from_table(path.parent, path.name)
    if not path.is_dir():
        problem = "is no folder and no CSV" if path.exists() else "does not exist"
        raise DataError(f"{one_line(path)} {problem}; a folder of images or a .csv file expected")
    return _guess_from_folder(path)


def _guess_from_folder(root: Path) -> Guess:
    """A guess from a folder, or from its only folder with images, as in an unpacked archive. Raises DataError."""
    folder, without_ids = root, None
    for _ in range(4):
        guessed = guess_from_train_table(folder) or guess_from_folders(root, folder)
        if guessed and guessed.spec.train == ".":
            guessed = table_beside_folders(folder) or guessed
        table_guess = None if guessed else guess_from_other_table(folder)
        if guessed := guessed or (table_guess if table_guess and table_guess.spec.id_column else None):
            return guessed
        without_ids = without_ids or table_guess
        folders_with_images = [name for name in subfolders(folder) if holds_image(folder / name)]
        if len(folders_with_images) != 1:
            break
        folder = folder / folders_with_images[0]
    if without_ids:
        return without_ids
    files, folders = files_in(root), subfolders(root)
    raise DataError(
        f"{one_line(root)} holds neither train/ with a folder of images for each class, nor"
        f" train.csv, nor class folders themselves ({_contents(files, folders)}); {_advice(root)}"
    )


def _advice(root: Path) -> str:
    images = [path for path in scan(root).images if "/" not in path]
    if images:
        return label_advice(images)
    folders = subfolders(root)
    splits = [name for name in folders if role_of(name)]
    advice = "point --data at one of them, or write a recipe: `ens init`"
    return f"{advice}; {class_advice(root, splits)}" if splits and len(folders) > 1 else advice


def _contents(files: Sequence[str], folders: Sequence[str]) -> str:
    tables = [name for name in files if name.lower().endswith(TABLES)]
    names = [f"CSV files {first_few(tables)}"] if tables else []
    names += [f"folders {first_few(folders)}"] if folders else []
    return "there are " + " and ".join(names) if names else f"{len(files)} files and no folder are there"
