"""What a folder or a CSV that somebody points at most likely is: the `data` of a recipe, guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ensemble.data.csvrows import read_rows
from ensemble.data.folders import class_advice, subfolders
from ensemble.data.guess_folders import of_folders
from ensemble.data.guess_tables import of_table, other_table, plain_table, table_beside_folders
from ensemble.data.guessed import TABLES, Guess, files_in, is_sample, tables_in
from ensemble.data.levels import label_advice
from ensemble.data.scan import holds_image, scan
from ensemble.data.splitnames import role_of
from ensemble.errors import DataError, first_few, one_line
from ensemble.recipe.schema import DataSpec


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
