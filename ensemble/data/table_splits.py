"""Splits and groups from tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np

from ensemble.core.errors import DataError, RecipeError, first_few, one_line
from ensemble.data.csv_files import Table, read_csv
from ensemble.data.dataset import Items
from ensemble.data.folders import VALID_NAMES, subfolders
from ensemble.data.listing import HELD_OUT, Notes
from ensemble.data.scan import scan
from ensemble.data.split_names import role_of, roles_of, spelled_as
from ensemble.recipe.data_spec import DataSpec


def rows_by_split(table: Table, spec: DataSpec) -> dict[str, Table]:
    """The rows of each split in `data.split_column`; without that, all rows are in train. Raises DataError."""
    if spec.split_column is None:
        return {"train": table}
    values = table.column(spec.split_column, "split_column")
    roles = roles_of(spec.split_column, values)
    unknown = sorted(value for value, role in roles.items() if role is None)
    if unknown:
        raise DataError(
            f"{table.name}, column {spec.split_column!r}: {first_few(unknown)} found, train, valid or test"
            " expected; correct the values, or leave out data.split_column"
        )
    rows: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for row, value in enumerate(values):
        rows[roles[value] or ""].append(row)
    if not rows["train"]:
        raise DataError(
            f"{table.name}, column {spec.split_column!r}: no row is of train ({first_few(set(values))})"
        )
    return {split: table.take(split_rows) for split, split_rows in rows.items() if split_rows}


def valid_of(spec: DataSpec, train_path: Path, parts: Collection[str]) -> str | float | None:
    """The validation table, or the share of train to hold out; None if the table has validation rows."""
    if "valid" in parts:
        if spec.valid is not None:
            raise RecipeError("data: valid found, and data.split_column has rows of valid; leave out one of them")
        return None
    if spec.valid is not None:
        return spec.valid
    return _beside(train_path, VALID_NAMES) or HELD_OUT


def tests_of(spec: DataSpec, train_path: Path, parts: Collection[str]) -> dict[str, str]:
    tests = {f"test-{name}": path for name, path in spec.tests.items()}
    if "test" in parts:
        if spec.test is not None:
            raise RecipeError("data: test found, and data.split_column has rows of test; leave out one of them")
        return tests
    test = spec.test if spec.test is not None else _beside(train_path, ("test",)) or _flat_test(spec)
    return ({"test": test} if test else {}) | tests


def _flat_test(spec: DataSpec) -> str | None:
    """The folder `test` in the folder of train's table, relative to the root, if it has only images directly in it.

    The case of its name is ignored.
    """
    parent = PurePath(spec.train).parent
    folder = Path(spec.path, parent)
    name = spelled_as(subfolders(folder), ("test",)) if folder.is_dir() else None
    images = scan(folder / name).images if name else []
    return (parent / name).as_posix() if name and images and not any("/" in path for path in images) else None


def note_unused(train_path: Path, splits: Collection[str], notes: Notes) -> None:
    """Note tables and folders beside train's table that are named as a split that the data set lacks."""
    for role in ("valid", "test"):
        if role in splits or any(split.startswith(f"{role}-") for split in splits):
            continue
        unused = [path.name for path in sorted(train_path.parent.iterdir()) if _is_named_as(path, role)]
        if unused:
            notes.add(f"{first_few(unused)} looks like a {role} set and is not used; name it in data.{role}")


def _is_named_as(path: Path, role: str) -> bool:
    is_table = path.suffix.lower() in (".csv", ".tsv") and path.is_file()
    return role_of(path.stem) == role and (is_table or (role == "test" and path.is_dir()))


def with_csv(root: Path, name: str) -> str:
    """`name` with the suffix .csv if it has no suffix and is not a file."""
    return f"{name}.csv" if not (root / name).is_file() and PurePath(name).suffix == "" else name


def _beside(train_path: Path, names: Sequence[str]) -> str | None:
    """The absolute path of the first table of `names` in the folder of train's table, ignoring case."""
    candidates = [f"{name}{train_path.suffix}" for name in names]
    lower_case = {name.lower() for name in candidates}
    paths = [path for path in sorted(train_path.parent.iterdir()) if path.name.lower() in lower_case]
    name = spelled_as([path.name for path in paths if path.is_file() and path.name != train_path.name], candidates)
    return str(train_path.with_name(name).absolute()) if name else None


LABELLED = ("train", "valid")


def read_groups(path: Path) -> dict[tuple[str, str], str]:
    """(split, id) -> group, from a CSV with these three columns. Raises DataError."""
    if not path.is_file():
        raise DataError(
            f"{one_line(path)}: no such file; data.groups names a CSV that `ens check --groups` wrote, and"
            f" data.group_column: {one_line(path.name)} a column of the table"
        )
    table = read_csv(path)
    columns = [table.column(name, "groups") for name in ("split", "id", "group")]
    group_by_item: dict[tuple[str, str], str] = {}
    for split, name, group in zip(*columns, strict=True):
        if group_by_item.setdefault((split, name), group) != group:
            raise DataError(
                f"{path}: {split} {name!r} is in two groups, {group_by_item[split, name]!r} and {group!r}"
            )
    return group_by_item


def grouped(splits: Mapping[str, Items], groups: Mapping[tuple[str, str], str]) -> dict[str, Items]:
    """`splits` with the groups of a file for train and valid; an item that is not in the file is its own group.

    When the file was written, a part of train may have been held out as valid, so ids of train and valid are looked
    up in both. Raises DataError if the file has none of the items, and for items that already have groups.
    """
    by_id: dict[str, set[str]] = {}
    for (split, name), group in groups.items():
        if split in LABELLED:
            by_id.setdefault(name, set()).add(group)
    grouped_splits, n_matched = dict(splits), 0
    for split in LABELLED:
        if split not in splits:
            continue
        items = splits[split]
        if items.groups is not None:
            raise DataError("the items have groups by data.group_column; leave out that or data.groups")
        item_groups = []
        for name in items.ids.tolist():
            id_groups = by_id.get(name, set())
            group_name = groups.get((split, name)) or (next(iter(id_groups)) if len(id_groups) == 1 else None)
            n_matched += group_name is not None
            item_groups.append(group_name or f"alone:{name}")
        grouped_splits[split] = Items(
            items.ids, items.paths, items.targets, np.array(item_groups, np.str_), items.soft
        )
    if groups and not n_matched:
        raise DataError(
            f"data.groups names {first_few(name for _, name in groups)}, none of which is an id of train or valid"
        )
    return grouped_splits
