"""CSV files with an id or path column, and a label column or a column for each class.

An id is the value of the id column, without the extension if it is the name of an image file; without an id column
it is the path without its extension.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ensemble.core.errors import DataError, RecipeError, first_few
from ensemble.core.names import nfc, refuse_shared_files, refuse_shared_ids, stem
from ensemble.data.columns import group_columns, numbers, one_hot_labels, soft_rows
from ensemble.data.csv_files import Table, read_csv
from ensemble.data.file_index import ImageIndex, index_images, note_unlisted, refuse_no_header
from ensemble.data.folders import folder_rows
from ensemble.data.listing import Notes, RawListing, Rows
from ensemble.data.table_splits import note_unused, rows_by_split, tests_of, valid_of, with_csv
from ensemble.recipe.data_spec import DataSpec, forms


@dataclass(frozen=True)
class Columns:
    """The roles of the columns of the tables. `label` and `labels` exclude each other."""

    id: str | None
    path: str | None
    label: str | None
    labels: tuple[str, ...]
    group: str | None
    unnamed: str | None
    soft: bool

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes of the label columns, the unnamed class last; None with a single label column."""
        return None if not self.labels else self.labels + ((self.unnamed,) if self.unnamed is not None else ())


@forms.register("csv")
def list_tables(spec: DataSpec, leave_out: frozenset[Path]) -> RawListing:
    """CSV files that name the images, with one label column or a column for each class.

    leave_out: resolved folders without data (the runs). Raises DataError, RecipeError.
    """
    root = Path(spec.path)
    train_path = root / with_csv(root, spec.train)
    table = read_csv(train_path)
    index = index_images(root, spec.images, spec.extension, leave_out)
    refuse_no_header(table, index, train_path.stem, _columns_in_recipe(spec))
    notes = Notes(system={index.prefix + name for name in index.system})
    columns = column_roles(spec, table)
    parts = rows_by_split(table, spec)
    valid = valid_of(spec, train_path, parts)
    splits = {split: table_rows(part, train_path, columns, index, split, notes) for split, part in parts.items()}
    others = {"valid": valid} if isinstance(valid, str) else {}
    others |= tests_of(spec, train_path, parts)
    for split, name in others.items():
        if split != "valid" and (root / name).is_dir():
            splits[split] = folder_rows(root, name, split, leave_out, notes)
        else:
            path = root / with_csv(root, name)
            other = read_csv(path)
            refuse_no_header(other, index, path.stem, _columns_in_recipe(spec))
            splits[split] = table_rows(other, path, columns, index, split, notes)
    note_unlisted(index, (path for rows in splits.values() for path in rows.paths), notes)
    note_unused(train_path, splits, notes)
    _note_columns(spec, columns, table, others, notes)
    fraction = None if "valid" in splits else valid
    order = sorted(splits, key=lambda split: ("train", "valid", "test").index(split.split("-")[0]))
    assert not isinstance(fraction, str)
    return RawListing(root, {split: splits[split] for split in order}, columns.class_names, fraction, notes.all())


def _columns_in_recipe(spec: DataSpec) -> tuple[str | None, ...]:
    """The columns that the recipe names."""
    columns = (spec.id_column, spec.path_column, spec.label_column, spec.group_column, spec.split_column)
    return (*columns, *spec.label_columns)


def _note_columns(spec: DataSpec, columns: Columns, table: Table, others: Mapping[str, str], notes: Notes) -> None:
    """Note the role of each column, and columns that probably hold groups and are not used.

    others: the tables and folders of the other splits.
    """
    name = PurePath(table.name).name
    columns_by_role = {
        "ids": columns.id or columns.path,
        "files": columns.path if columns.id else None,
        "labels": columns.label or ", ".join(columns.labels),
        "groups": columns.group,
        "splits": spec.split_column,
    }
    parts = [f"{role} from {column!r}" for role, column in columns_by_role.items() if column]
    parts += [f"{split} from {PurePath(path).name}" for split, path in others.items()]
    notes.add(f"{name}: {', '.join(parts)}")
    used = {columns.id, columns.path, columns.label, *columns.labels}
    groups = [column for column in group_columns(table) if column not in used]
    if groups and columns.group is None and spec.groups is None:
        notes.add(
            f"{name}: values of {groups[0]!r} repeat, and rows of one may be in train and in valid; set"
            f" data.group_column: {groups[0]} to keep them together"
        )


def column_roles(spec: DataSpec, train: Table) -> Columns:
    """The role of each column, detected where the recipe does not give it. Raises RecipeError, DataError."""
    _refuse_contradictions(spec)
    for key in ("id_column", "path_column", "label_column", "group_column", "split_column"):
        if getattr(spec, key) is not None:
            train.column(getattr(spec, key), key)
    labels = tuple(nfc(name) for name in spec.label_columns)
    known_columns = {*_columns_in_recipe(spec)[1:], *labels} - {None}
    id_column = spec.id_column
    if id_column is None and spec.path_column is None:
        id_column = next((name for name in train.named if name not in known_columns), None)
        if id_column is None:
            raise DataError(f"{train.name}: no column of ids; set data.id_column or data.path_column")
    label = spec.label_column
    if label is None and not labels:
        others = [name for name in train.named if name not in known_columns | {id_column}]
        if not others:
            raise DataError(
                f"{train.name}: no column is left for the label (there are {first_few(train.named)}); add one, or"
                " name the table that has it in data.train"
            )
        if len(others) != 1:
            raise DataError(
                f"{train.name}: {len(others)} columns may be the label ({first_few(others)}); set"
                " data.label_column, or data.label_columns for a column a class"
            )
        label = others[0]
    return Columns(
        id_column, spec.path_column, label, labels, spec.group_column, spec.unnamed_class, spec.soft_labels
    )


def _refuse_contradictions(spec: DataSpec) -> None:
    if spec.label_column is not None and spec.label_columns:
        raise RecipeError("data: both label_column and label_columns found; one expected")
    if not spec.label_columns and (spec.soft_labels or spec.unnamed_class is not None):
        raise RecipeError("data: soft_labels and unnamed_class need label_columns, a column for each class")
    names = (*spec.label_columns, *([spec.unnamed_class] if spec.unnamed_class is not None else []))
    if len(set(names)) < len(names):
        raise RecipeError(f"data.label_columns and unnamed_class: a class twice in {', '.join(names)}")


def table_rows(table: Table, path: Path, columns: Columns, index: ImageIndex, split: str, notes: Notes) -> Rows:
    """The rows of a split from a table. Labels and groups are optional for a test. Raises DataError."""
    is_test = split not in ("train", "valid")
    ids, names = _ids_and_names(table, columns)
    empty = [row for row, name in zip(table.rows, ids, strict=True) if not name]
    if empty:
        raise DataError(f"{table.name}: rows without an id: {first_few(empty)}")
    refuse_shared_ids(ids, table.rows, table.name, _shared_advice(columns))
    paths = index.find(names, path, split.split("-")[0], notes)
    if not is_test:
        refuse_shared_files(paths, ids, table.name)
    elif repeated := len(paths) - len(set(paths)):
        # allowed in a test set, where every id needs a prediction
        notes.add(f"{PurePath(table.name).name}: {repeated} of {len(ids)} ids of {split} repeat an image")
    has_groups = columns.group is not None and not (is_test and nfc(columns.group) not in table.columns)
    rows = Rows(ids, paths, groups=_groups(table, columns, ids) if has_groups else None)
    return _labelled(rows, table, columns, is_test)


def _shared_advice(columns: Columns) -> str:
    key, column = ("id_column", columns.id) if columns.id is not None else ("path_column", columns.path)
    return (
        f"the ids are from the column {column!r}; set data.{key} to the column that names each image once, or"
        " remove the rows that are there twice"
    )


def _ids_and_names(table: Table, columns: Columns) -> tuple[list[str], list[str]]:
    """The ids, and the names by which the image files are looked up."""
    if columns.path is None:
        assert columns.id is not None
        names = table.column(columns.id, "id_column")
        return [stem(_normalised_path(name)) for name in names], names
    names = table.column(columns.path, "path_column")
    if columns.id is not None:
        return table.column(columns.id, "id_column"), names
    return [stem(_normalised_path(name)) for name in names], names


def _normalised_path(name: str) -> str:
    """The path with `/` between folders and without `.`, as in ids."""
    return posixpath.normpath(name.replace("\\", "/")) if name else name


def _groups(table: Table, columns: Columns, ids: Sequence[str]) -> list[str]:
    assert columns.group is not None
    groups = table.column(columns.group, "group_column")
    ungrouped = [name for name, group in zip(ids, groups, strict=True) if not group]
    if ungrouped:
        raise DataError(f"{table.name}: rows without a group in {columns.group!r}: {first_few(ungrouped)}")
    return groups


def _labelled(rows: Rows, table: Table, columns: Columns, is_test: bool) -> Rows:
    label_columns = columns.labels or ((nfc(columns.label),) if columns.label else ())
    if is_test and not any(name in table.columns for name in label_columns):
        return rows
    if columns.label is not None:
        return Rows(rows.ids, rows.paths, table.column(columns.label, "label_column"), rows.groups)
    names = columns.class_names
    assert names is not None
    values, unnamed = numbers(table, columns.labels), columns.unnamed is not None
    if not columns.soft:
        labels = one_hot_labels(values, rows.ids, names, unnamed, table.name)
        return Rows(rows.ids, rows.paths, labels, rows.groups)
    soft = soft_rows(values, rows.ids, unnamed, table.name)
    labels = ["" if row[0] != row[0] else names[int(row.argmax())] for row in soft]
    return Rows(rows.ids, rows.paths, labels, rows.groups, soft)
