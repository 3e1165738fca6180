"""The `data` section of a recipe, guessed from a folder."""

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
    is_sample,
    of_table,
    other_table,
    plain_table,
    table_beside_folders,
    tables_in,
)
from ensemble.data.folders import class_advice, subfolders
from ensemble.data.scan import holds_image, scan
from ensemble.data.split_names import SplitName, label_advice, role_of, split_names
from ensemble.recipe.schema import DataSpec


def of_folders(root: Path, place: Path) -> Guess | None:
    """Split folders, or class folders, in `place`; None where neither is there. Raises DataError."""
    folders = subfolders(place)
    filled = {name for name in folders if holds_image(place / name)}
    splits = split_names(folders)
    if "train" in splits and not _is_class(place, splits["train"][0].name, filled, splits):
        return _of_splits(root, place, splits, filled)
    named = {split.name for role in ("valid", "test") for split in splits.get(role, [])}
    if len(filled - named) < 2:
        return None
    others = {role: splits[role][0].name for role in ("valid", "test") if role in splits}
    spec = DataSpec(form="folders", path=str(place), train=".", valid=others.get("valid"), test=others.get("test"))
    return Guess(spec, {"train": "its own folders are the classes"} | _why(others))


def _is_class(place: Path, name: str, filled: set[str], splits: Mapping[str, Sequence[SplitName]]) -> bool:
    """Whether `train` is a class, as of vehicles: it is flat, and so are neighbours that are no splits."""
    called = {split.name for role in splits.values() for split in role}
    return bool(filled - called) and _is_flat(place / name) and any(_is_flat(place / n) for n in filled - called)


def _is_flat(folder: Path) -> bool:
    """Whether all images lie directly in it."""
    return holds_image(folder, directly=True) and not any(holds_image(folder / name) for name in subfolders(folder))


def _of_splits(
    root: Path, place: Path, splits: Mapping[str, Sequence[SplitName]], filled: set[str]
) -> Guess | None:
    chosen = {role: [name for name in names if name.name in filled] or names for role, names in splits.items()}
    train = chosen["train"]
    if len(train) > 1 and train[0].rank == train[1].rank:
        names = [split.name for split in train if split.rank == train[0].rank]
        raise DataError(
            f"{one_line(place)}: any of the folders {first_few(names)} may be train; write a recipe that names one:"
            f" data: {{form: folders, path: {one_line(place)}, train: {names[0]}}}"
        )
    if _is_flat(place / train[0].name) and tables_in(place):
        return None  # the labels are in a table beside it
    keys: dict[str, Any] = {role: _inside(root, place, names[0].name) for role, names in chosen.items()}
    further = {split.name: _inside(root, place, split.name) for split in chosen.get("test", [])[1:]}
    if further:
        keys["tests"] = further
    spec = DataSpec(form="folders", path=str(root), **keys)
    return Guess(spec, _why({role: names[0].name for role, names in chosen.items()}))


def _why(named: Mapping[Any, str]) -> dict[str, str]:
    return {role: f"the folder {name!r} is called so" for role, name in named.items() if name != role}


def _inside(root: Path, place: Path, name: str) -> str:
    """The split's folder from the root, or the one that lies alone in it: seg_train/seg_train."""
    folder = place / name
    for _ in range(2):
        inner = subfolders(folder)
        if len(inner) != 1 or not _repeats(folder.name, inner[0]):
            break
        if holds_image(folder, directly=True):
            break
        folder = folder / inner[0]
    return folder.relative_to(root).as_posix()


def _repeats(outer: str, inner: str) -> bool:
    """Whether a folder in a split's folder is the split once more, and no class."""
    roles = [set(split_names([name])) for name in (outer, inner)]
    return (
        inner.lower() == outer.lower()
        or roles[0] == roles[1]
        or inner.lower() in (*IMAGE_FOLDERS, "data", "unknown")
    )


def guess_spec(path: Path) -> DataSpec:
    """The data specification for `path`: a folder with train/ or train.csv, of class folders, or a CSV.

    What cannot be guessed from columns is left open, so that loading asks for its key; groups are left to
    the recipe, as they change which rows validate. Raises DataError.
    """
    return _guessed(path).spec


def guess(path: Path) -> Guess:
    """The specification with groups, and what it was guessed from. Raises DataError."""
    guessed = _guessed(path)
    stems = tables_in(Path(guessed.spec.path))
    samples = [Path(guessed.spec.path, file) for stem, file in stems.items() if is_sample(stem)]
    if len(samples) == 1:
        wide = len(read_rows(samples[0])[0][0].cells) > 2
        guessed = replace(guessed, sample=samples[0], format="kaggle-probs" if wide else "kaggle")
    # a table of its own for valid may lack the column
    if guessed.group is None or guessed.spec.valid is not None:
        return guessed
    reason = f"values repeat: what belongs to one {guessed.group} is all in train or all in valid"
    spec = guessed.spec.model_copy(update={"group_column": guessed.group})
    return replace(guessed, spec=spec, reasons={**guessed.reasons, "group_column": reason})


def _guessed(path: Path) -> Guess:
    path = path.expanduser()
    if path.is_file() and path.suffix.lower() in TABLES:
        return of_table(path.parent, path.name)
    if not path.is_dir():
        problem = "is no folder and no CSV" if path.exists() else "does not exist"
        raise DataError(f"{one_line(path)} {problem}; a folder of images or a .csv file expected")
    return _of_folder(path)


def _of_folder(root: Path) -> Guess:
    """A folder, or the only one in it that has images, as an archive is unpacked. Raises DataError."""
    place, unsure = root, None
    for _ in range(4):
        guessed = plain_table(place) or of_folders(root, place)
        if guessed and guessed.spec.train == ".":
            guessed = table_beside_folders(place) or guessed
        other = None if guessed else other_table(place)
        if guessed := guessed or (other if other and other.spec.id_column else None):
            return guessed
        unsure = unsure or other
        inner = [name for name in subfolders(place) if holds_image(place / name)]
        if len(inner) != 1:
            break
        place = place / inner[0]
    if unsure:
        return unsure
    files, folders = files_in(root), subfolders(root)
    raise DataError(
        f"{one_line(root)} holds neither train/ with a folder of images for each class, nor"
        f" train.csv, nor class folders themselves ({_there(files, folders)}); {_advice(root)}"
    )


def _advice(root: Path) -> str:
    images = [path for path in scan(root).images if "/" not in path]
    if images:
        return label_advice(images)
    folders = subfolders(root)
    splits = [name for name in folders if role_of(name)]
    advice = "point --data at one of them, or write a recipe: `ens init`"
    return f"{advice}; {class_advice(root, splits)}" if splits and len(folders) > 1 else advice


def _there(files: Sequence[str], folders: Sequence[str]) -> str:
    tables = [name for name in files if name.lower().endswith(TABLES)]
    names = [f"CSV files {first_few(tables)}"] if tables else []
    names += [f"folders {first_few(folders)}"] if folders else []
    return "there are " + " and ".join(names) if names else f"{len(files)} files and no folder are there"
