"""What the folders in a folder most likely are: splits, or classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ensemble.data.folders import subfolders
from ensemble.data.guessed import IMAGE_FOLDERS, Guess, tables_in
from ensemble.data.scan import holds_image
from ensemble.data.splitnames import SplitName, split_names
from ensemble.errors import DataError, first_few, one_line
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
