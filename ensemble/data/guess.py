"""What a folder or a CSV that somebody points at most likely is: the `data` of a recipe, guessed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ensemble.data.csvfile import Table, read_csv
from ensemble.data.scan import scan
from ensemble.errors import DataError, first_few, one_line
from ensemble.recipe.schema import DataSpec

_TRAIN, _VALID, _TEST = ("train", "training"), ("valid", "val", "validation"), ("test", "testing")
_TABLES = (".csv", ".tsv")
_IMAGES = ("images", "image", "imgs", "img")
_LABELS = {"label", "labels", "class", "target", "category", "diagnosis"}


def guess_spec(path: Path) -> DataSpec:
    """The data specification for `path`: a folder with train/ or train.csv, of class folders, or a CSV.

    What cannot be guessed from columns is left open, so that loading asks for its key. Raises DataError.
    """
    if path.is_file() and path.suffix.lower() in _TABLES:
        return _table_spec(path.parent, path.name)
    if not path.is_dir():
        found = "is no folder and no CSV" if path.exists() else "does not exist"
        raise DataError(f"{one_line(path)} {found}; a folder of images or a .csv file expected")
    entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
    files = [entry.name for entry in entries if entry.is_file()]
    folders = [entry.name for entry in entries if entry.is_dir()]
    table = _named(files, [name + suffix for name in _TRAIN for suffix in _TABLES])
    if table:
        return _table_spec(path, table)
    train = _named(folders, _TRAIN)
    if train or _class_folders(path, folders):
        return _folder_spec(path, train or ".", folders)
    raise DataError(
        f"{one_line(path)} holds neither train/ with a folder of images for each class, nor"
        f" train.csv, nor class folders themselves ({_there(files, folders)}); point --data at one of them,"
        " or write a recipe: `ens init`"
    )


def _named(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first of `wanted` that is among `names`, in any case of letters, as it is spelled there."""
    spelled = {name.lower(): name for name in reversed(names)}
    return next((spelled[name] for name in wanted if name in spelled), None)


def _class_folders(path: Path, folders: Sequence[str]) -> bool:
    named = [name for name in folders if name.lower() not in (*_VALID, *_TEST)]
    return sum(bool(scan(path / name).images) for name in named) >= 2


def _folder_spec(path: Path, train: str, folders: Sequence[str]) -> DataSpec:
    valid, test = _named(folders, _VALID), _named(folders, _TEST)
    return DataSpec(form="folders", path=str(path), train=train, valid=valid, test=test)


def _table_spec(path: Path, name: str) -> DataSpec:
    folders = [entry.name for entry in sorted(path.iterdir()) if entry.is_dir()]
    return DataSpec(
        form="csv",
        path=str(path),
        train=name,
        images=_named(folders, _IMAGES) or ".",
        **_label_keys(read_csv(path / name)),
    )


def _label_keys(table: Table) -> dict[str, Any]:
    """The keys that say which columns are labels; none where that is plain or cannot be told."""
    named = [name for name in table.columns if name.lower() in _LABELS]
    if len(named) == 1:
        return {"label_column": named[0]}
    others = table.named[1:]
    shares = [_shares(table.columns[name]) for name in others]
    if len(others) < 2 or any(share is None for share in shares):
        return {}
    whole = all(value in (0, 1) for share in shares if share for value in share)
    return {"label_columns": tuple(others), **({} if whole else {"soft_labels": True})}


def _shares(texts: Sequence[str]) -> list[float] | None:
    """The values as numbers from 0 to 1, or None where one is not."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    return values if all(0 <= value <= 1 for value in values) else None


def _there(files: Sequence[str], folders: Sequence[str]) -> str:
    tables = [name for name in files if name.lower().endswith(_TABLES)]
    found = [name for name, some in ((f"CSV files {first_few(tables)}", tables),) if some]
    found += [f"folders {first_few(folders)}"] if folders else []
    return "there are " + " and ".join(found) if found else f"{len(files)} files and no folder are there"
