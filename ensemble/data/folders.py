"""Class folders, and flat folders of images without labels.

    <path>/train/<class>/…/<name>.png      labelled: the first folder is the class
    <path>/test/<name>.png                 without labels
The id of an item is its path inside the folder of the split, without the extension. A class folder may have
subfolders; subfolders that are probably the classes themselves are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from ensemble.core.errors import DataError, first_few, one_line
from ensemble.core.names import is_system, natural_key, nfc, refuse_shared_ids, stem
from ensemble.data.listing import HELD_OUT, Notes, RawListing, Rows
from ensemble.data.scan import FolderContents, holds_image, scan
from ensemble.data.split_names import (
    label_advice,
    refuse_a_folder_between,
    refuse_a_level_above,
    role_of,
    spelled_as,
)
from ensemble.recipe.data_spec import DataSpec, forms

VALID_NAMES = ("valid", "val", "validation")


@forms.register("folders")
def list_folders(spec: DataSpec, leave_out: frozenset[Path]) -> RawListing:
    """Class folders: `train/<class>/...`, and the same or a flat folder for the other splits.

    leave_out: resolved folders without data (the runs). Raises DataError.
    """
    root = Path(spec.path)
    valid = _valid(spec, root)
    test = spec.test if spec.test is not None else _beside(spec, root, ("test",))
    tests = ({"test": test} if test else {}) | {f"test-{name}": path for name, path in spec.tests.items()}
    folders = {"train": spec.train, **({"valid": valid} if isinstance(valid, str) else {}), **tests}
    split_folders = {split: (root / name).resolve() for split, name in folders.items()}
    notes = Notes()
    splits = {}
    if PurePath(spec.train) == PurePath() and isinstance(valid, str):
        _refuse_flat_valid(root, valid)
    for split, name in folders.items():
        others = leave_out | {path for other, path in split_folders.items() if other != split}
        splits[split] = folder_rows(root, name, split, frozenset(others), notes, spec.classes)
    _note_folders(root, folders, notes)
    if PurePath(spec.train) != PurePath():
        _note_unused(root, folders, notes)
    elif not spec.classes:
        _note_classes_or_splits(root, splits["train"], folders, notes)
    return RawListing(root, splits, None, None if isinstance(valid, str) else valid, notes.all())


def _note_folders(root: Path, folders: Mapping[str, str], notes: Notes) -> None:
    """Note which folder is used for which split, if the names are not the default ones."""
    if all(name == split or (split == "valid" and name in VALID_NAMES) for split, name in folders.items()):
        return
    sources = (
        f"{split} from {'its own folders' if name == '.' else one_line(name)}" for split, name in folders.items()
    )
    notes.add(f"{one_line(root)}: {', '.join(sources)}")


def _note_unused(root: Path, folders: Mapping[str, str], notes: Notes) -> None:
    """Note the folders in the root and beside train that are named as splits and not used."""
    split_folders = [(root / name).resolve() for name in folders.values()]
    used = {folder for path in split_folders for folder in (path, *path.parents)}
    parents = dict.fromkeys((PurePath(), PurePath(folders["train"]).parent))
    names = [parent / name for parent in parents for name in subfolders(root / parent) if role_of(name)]
    unused = [name.as_posix() for name in names if (root / name).resolve() not in used]
    if unused:
        notes.add(
            f"{one_line(root)}: folders that look like splits are not used: {first_few(unused)}; name them in"
            " data.valid, data.test or data.tests"
        )


def _note_classes_or_splits(root: Path, train: Rows, folders: Mapping[str, str], notes: Notes) -> None:
    """Note folders of the root that are used as classes but named as splits, and splits that may be classes."""
    classes = [name for name in sorted(set(train.labels or ()), key=natural_key) if role_of(name)]
    if classes:
        notes.add(
            f"{one_line(root)}: taken for classes, though called as splits are: {first_few(classes)}; name them in"
            " data.valid, data.test or data.tests if they are splits, or else list the classes in data.classes"
        )
    splits = [name for split, name in folders.items() if split != "train" and role_of(name)]
    if splits:
        notes.add(f"{one_line(root)}: {class_advice(root, splits)}")


def _refuse_flat_valid(root: Path, name: str) -> None:
    """Raise DataError for a folder named valid, beside class folders, that has no class folders itself."""
    contents = scan(root / name) if (root / name).is_dir() else None
    if contents and contents.images and not any("/" in path for path in contents.images):
        raise DataError(
            f"valid: {one_line(root / name)} is taken for the validation set and has no class folders;"
            f" move its images into some, or, {class_advice(root, [name])}"
        )


def class_advice(root: Path, names: Sequence[str]) -> str:
    """Advice for folders beside the class folders that are named as splits but are classes."""
    subject = f"{one_line(names[0])!r} is a class" if len(names) == 1 else f"{first_few(names)} are classes"
    data = f"{{form: folders, path: {one_line(root)}, train: .}}"
    return f"if {subject} too, use a recipe with data: {data}, without data.valid or data.test"


def subfolders(folder: Path) -> list[str]:
    """The subfolders of a folder, sorted, without hidden ones and those of operating systems."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot read the folder {one_line(folder)}: {error.strerror or error}") from error
    return [path.name for path in entries if path.is_dir() and path.name[0] != "." and not is_system(path.name)]


def _valid(spec: DataSpec, root: Path) -> str | float:
    if spec.valid is not None:
        return spec.valid
    return _beside(spec, root, VALID_NAMES) or HELD_OUT


def _beside(spec: DataSpec, root: Path, names: Sequence[str]) -> str | None:
    """The first of `names` that is a folder beside train, relative to the root; otherwise ignoring case.

    A folder in another case must contain an image, so that an empty `Test/` is still ignored.
    """
    parent = PurePath(spec.train).parent
    if PurePath(spec.train) == PurePath() or not (root / parent).is_dir():
        return None  # the folders of the root are the classes, or train is missing as well
    siblings = [name for name in subfolders(root / parent) if name != PurePath(spec.train).name]
    matches = [name for name in siblings if name.lower() in names]
    name = spelled_as([name for name in matches if name in names or holds_image(root / parent / name)], names)
    return None if name is None else (parent / name).as_posix()


def folder_rows(
    root: Path, name: str, split: str, leave_out: frozenset[Path], notes: Notes, classes: Sequence[str] = ()
) -> Rows:
    """The rows of a split: class folders, or, for a test, a flat folder of unlabelled images.

    classes: `data.classes`; with them the first folder is always the class. Raises DataError.
    """
    folder = root / name
    if not folder.is_dir():
        raise DataError(f"{split}: no folder {one_line(folder)}; {_hint(root, split)}")
    contents = scan(folder, leave_out)
    prefix = "" if PurePath(name) == PurePath() else f"{PurePath(name).as_posix()}/"
    notes.system.update(prefix + path for path in contents.system)
    _note_other_files(contents, folder, notes)
    ids = [nfc(stem(path)) for path in contents.images]
    paths = [prefix + path for path in contents.images]
    refuse_shared_ids(ids, paths, split, "rename the files")
    if not ids:
        raise DataError(
            f"{split}: no images in {one_line(folder)} ({len(contents.others)} other files); put a folder of"
            " images for each class there" + ("" if split in ("train", "valid") else ", or images without labels")
        )
    if split not in ("train", "valid") and not any("/" in path for path in contents.images):
        order = sorted(range(len(ids)), key=lambda row: natural_key(ids[row]))
        return Rows([ids[row] for row in order], [paths[row] for row in order])
    if split == "train" and PurePath(name) == PurePath():
        _note_no_classes(contents, folder, notes)
        contents = replace(contents, folders=[])
    labels = _labels(contents, ids, folder, split)
    if not classes:
        refuse_a_folder_between(contents.images, folder, split)
    if split == "train" and not classes:
        refuse_a_level_above(contents.images, folder)
    return Rows(ids, paths, labels)


def _labels(contents: FolderContents, ids: Sequence[str], folder: Path, split: str) -> list[str]:
    """The first folder of each id."""
    outside = [path for path in contents.images if "/" not in path]
    if outside:
        raise DataError(
            f"{split}: {len(outside)} images lie in {one_line(folder)} outside its class folders:"
            f" {first_few(outside)}; {label_advice(outside)}"
        )
    folders = [name.split("/", 1)[0] for name in ids]
    _refuse_spaced_twins(folders, folder, split)
    # stripped, as in the CSV readers
    labels = [name.strip() for name in folders]
    empty = sorted({nfc(name).strip() for name in contents.folders} - set(labels))
    if empty and split == "train":
        raise DataError(
            f"train: class folders without an image in {one_line(folder)}: {first_few(empty)};"
            " add images or remove the folder"
        )
    return labels


def _refuse_spaced_twins(folders: Sequence[str], folder: Path, split: str) -> None:
    """Raise DataError for class folders whose names differ only by leading or trailing spaces."""
    names_by_class: dict[str, list[str]] = {}
    for name in sorted(set(folders)):
        names_by_class.setdefault(name.strip(), []).append(name)
    if twins := [names for names in names_by_class.values() if len(names) > 1]:
        raise DataError(
            f"{split}: class folders in {one_line(folder)} that differ by spaces at their ends alone:"
            f" {first_few(twins[0])}; put the images into one of them, or rename one"
        )


def _note_no_classes(contents: FolderContents, folder: Path, notes: Notes) -> None:
    """Note the folders in the root without an image, such as submissions/, which are not classes."""
    classes = {path.split("/", 1)[0] for path in contents.images}
    if others := [name for name in contents.folders if name not in classes]:
        notes.add(f"{one_line(folder)}: folders without an image are no class: {first_few(others)}")


def _note_other_files(contents: FolderContents, folder: Path, notes: Notes) -> None:
    if contents.others:
        count = "1 file is" if len(contents.others) == 1 else f"{len(contents.others)} files are"
        notes.add(f"{one_line(folder)}: {count} no image and passed over: {first_few(contents.others)}")


def refuse_no_root(spec: DataSpec) -> None:
    """Raise DataError if `spec.path` is not a folder."""
    path = Path(spec.path)
    if path.is_dir():
        return
    if path.exists():
        raise DataError(f"data.path: {one_line(path)} is no folder; name the folder of the images or tables")
    where = (
        "" if path.is_absolute() else f" in {one_line(Path.cwd())}; data.path is relative to where `ens` is typed"
    )
    raise DataError(f"data.path: there is no folder {one_line(path)}{where}; correct it")


def _hint(root: Path, split: str) -> str:
    key = f"data.tests.{split.removeprefix('test-')}" if split.startswith("test-") else f"data.{split}"
    names = subfolders(root)
    return f"set {key} to one that is there ({first_few(names) or 'there is none'})"
