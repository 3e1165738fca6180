"""The roles of the columns of a table, and labels read from columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ensemble.core.errors import DataError, first_few
from ensemble.core.predictions import ROW_TOLERANCE
from ensemble.data.csv_files import Table
from ensemble.data.split_names import is_flag, role_of, roles_of, words_of

_BOOLEANS = {"true": 1.0, "false": 0.0}
Floats = npt.NDArray[np.floating[Any]]


def numbers(table: Table, columns: Sequence[str], key: str = "label_columns") -> Floats:
    """float64 (n, columns) of a table; NaN for empty rows. Raises DataError for a value that is not a number."""
    values = np.empty((len(table), len(columns)), np.float64)
    for index, column in enumerate(columns):
        for row, text in enumerate(table.column(column, key)):
            values[row, index] = _number(text, table, column, row)
    incomplete = np.isnan(values).any(axis=1) & ~np.isnan(values).all(axis=1)
    if incomplete.any():
        rows = [table.rows[row] for row in np.flatnonzero(incomplete)]
        raise DataError(f"{table.name}: some of the label columns are empty in {first_few(rows)}")
    return values


def probability(text: str) -> float:
    """A cell's number; 1 and 0 for `True` and `False`, as pandas 2 writes dummy columns. Raises ValueError."""
    boolean = _BOOLEANS.get(text.lower())
    return float(text) if boolean is None else boolean


def _number(text: str, table: Table, column: str, row: int) -> float:
    if not text:
        return np.nan
    try:
        value = probability(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise DataError(f"{table.name}, column {column!r}, {table.rows[row]}: {text!r} found, 0 to 1 expected")
    return value


def one_hot_labels(
    values: Floats, ids: Sequence[str], names: Sequence[str], unnamed: bool, where: str
) -> list[str]:
    """The class of each row, "" for a row of NaN.

    values: (n, c) of 0 and 1.  names: the c columns; with `unnamed`, also the class of rows of zeros, as the last.
    Raises DataError that names rows with two positives, with fractions, or, without `unnamed`, with zeros only.
    """
    known = np.asarray(~np.isnan(values).any(axis=1))
    _refuse(
        known & ((values != 0) & (values != 1)).any(axis=1),
        ids,
        f"{where}: rows with values other than 0 and 1",
        "set data.soft_labels: true if they are probabilities",
    )
    positives = np.nan_to_num(values).sum(axis=1)
    _refuse(
        positives > 1,
        ids,
        f"{where}: rows with two positive labels",
        "one expected; correct them, or set data.soft_labels: true and give probabilities",
    )
    _refuse(
        known & (positives == 0) & (not unnamed),
        ids,
        f"{where}: rows of zeros",
        "set data.unnamed_class to the name of the class that they mean",
    )
    indices = np.where(positives == 0, len(names) - 1, np.argmax(np.nan_to_num(values), axis=1))
    return [
        names[index] if is_known else "" for index, is_known in zip(indices.tolist(), known.tolist(), strict=True)
    ]


def soft_rows(values: Floats, ids: Sequence[str], unnamed: bool, where: str) -> npt.NDArray[np.float32]:
    """float32 (n, k) whose rows sum to 1, NaN where unknown. With `unnamed` the last column is 1 minus the others.

    values: (n, c) in 0..1. Raises DataError that names rows whose sum differs from 1 by more than 1e-3.
    """
    totals = values.sum(axis=1)
    if unnamed:
        remainder = 1 - totals
        invalid = remainder < -ROW_TOLERANCE
        values = np.column_stack([values, np.clip(remainder, 0, 1)])
        totals = values.sum(axis=1)
    else:
        invalid = np.abs(totals - 1) > ROW_TOLERANCE
    _refuse(invalid, ids, f"{where}: rows that do not sum to one within {ROW_TOLERANCE:g}", "correct them")
    soft: npt.NDArray[np.float32] = (values / totals[:, None]).astype(np.float32)
    return soft


def _refuse(invalid: npt.NDArray[np.bool_], ids: Sequence[str], problem: str, advice: str) -> None:
    if invalid.any():
        names = [name for name, is_invalid in zip(ids, invalid.tolist(), strict=True) if is_invalid]
        raise DataError(f"{problem}: {first_few(names)}; {advice}")


SAMPLE_ROWS = 200
"""Number of rows whose images are looked up to detect the id column."""
_LABEL_NAMES = {"label", "labels", "class", "target", "category", "diagnosis"}
_MORE_LABEL_NAMES = {"classname", "labelname", "dx", "breed", "species", "disease", "y"}
_GROUP_WORDS = set(
    "patient subject lesion case slide person participant individual donor specimen biopsy study series video"  # noqa: SIM905
    " session sequence scene user client site".split()
)
_SPLIT_NAMES = {"split", "set", "subset", "phase", "partition", "usage", "fold", "dataset", "datatype"}
_FOLD_NAMES = {"fold", "folds", "kfold"}


@dataclass(frozen=True)
class Roles:
    """The roles of the columns of a table.

    id: the column whose values name images, or None.  keys, reasons: keys of the recipe's `data`, and why.
    group: a column of groups.  splits: the splits that a split column names.
    remarks: columns with a role that has no key.  questions: (key, its candidates).
    """

    id: str | None
    keys: Mapping[str, Any]
    reasons: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    splits: frozenset[str] = frozenset()
    remarks: Sequence[str] = ()
    questions: Sequence[tuple[str, str]] = ()


def guess_roles(table: Table, is_image: Callable[[str], bool]) -> Roles:
    """The role of each column of `table`. is_image: whether a value names an existing image."""
    keys: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    image_columns = [name for name in table.named if _is_id(table.columns[name], is_image)]
    unique_columns = [name for name in image_columns if len(set(table.columns[name])) == len(table)]
    id_column = next(iter(unique_columns or image_columns), None)
    if id_column is not None:
        keys["id_column"], reasons["id_column"] = id_column, "its values name images that are there"
    split = next((name for name in table.named if name != id_column and _is_split(name, table.columns[name])), None)
    if split is not None:
        keys["split_column"], reasons["split_column"] = split, _values(table.columns[split])
    groups = [name for name in group_columns(table) if name != id_column]
    folds = [name for name in table.named if _joined_words(name) in _FOLD_NAMES | {"cvfold"} and name != split]
    used = {id_column, split, *groups, *folds} - {None}
    label_keys, label_reasons, label_questions = _label(
        table, [name for name in table.named if name not in used], id_column
    )
    return Roles(
        id=id_column,
        keys=keys | label_keys,
        reasons=reasons | label_reasons,
        group=groups[0] if groups else None,
        splits=frozenset()
        if split is None
        else frozenset(role or "" for role in roles_of(split, table.columns[split]).values()),
        remarks=[f"{name}: {_values(table.columns[name])}; folds of your own have no key yet" for name in folds]
        + [f"{name}: another column of what may belong together" for name in groups[1:]],
        questions=([] if id_column is not None else [("id_column", first_few(table.named))]) + label_questions,
    )


def group_columns(table: Table) -> list[str]:
    """The columns with a name such as patient, lesion or case, and with repeated values."""
    return [name for name in table.named if _is_group(name, table.columns[name])]


def _joined_words(name: str) -> str:
    return "".join(words_of(name))


def _is_id(values: Sequence[str], is_image: Callable[[str], bool]) -> bool:
    """Whether more than half of the first values name an image."""
    sample = values[:SAMPLE_ROWS]
    return sum(bool(value) and is_image(value) for value in sample) > len(sample) / 2


def _is_split(name: str, values: Sequence[str]) -> bool:
    """Whether the values are train, valid and test; the name only has to be similar to one of `_SPLIT_NAMES`."""
    roles = set(roles_of(name, values).values())
    likely = (
        bool(_SPLIT_NAMES & {_joined_words(name), *words_of(name)}) or role_of(name) is not None or is_flag(name)
    )
    return likely and "train" in roles and None not in roles and len(roles) > 1


def _is_group(name: str, values: Sequence[str]) -> bool:
    """Whether a column with a name such as patient, lesion or case has repeated values."""
    return bool(_GROUP_WORDS & set(words_of(name))) and 1 < len(set(values)) < len(values) and "" not in values


def _label(
    table: Table, names: Sequence[str], id_column: str | None
) -> tuple[dict[str, Any], dict[str, str], list[tuple[str, str]]]:
    """The keys of the label columns, the reasons, and the candidates where the label column is ambiguous."""
    for known_names in (_LABEL_NAMES, _MORE_LABEL_NAMES):
        matches = [name for name in names if name.lower() in known_names or _joined_words(name) in known_names]
        if len(matches) == 1:
            return {"label_column": matches[0]}, {"label_column": _values(table.columns[matches[0]])}, []
        if matches:
            return {}, {}, _candidates(table, matches)
    others = [name for name in names if name != id_column] if id_column is not None else list(names[1:])
    if len(others) == 1:
        # in a table of two columns, loading uses the other one as the label by default
        is_default = len(table.named) == 2
        return (
            {} if is_default else {"label_column": others[0]},
            {"label_column": f"the only column that is left; {_values(table.columns[others[0]])}"},
            [],
        )
    columns = [_probabilities(table.columns[name]) for name in others]
    if len(others) < 2 or any(column is None for column in columns):
        return {}, {}, _candidates(table, others)
    is_one_hot = all(value in (0, 1) for column in columns if column for value in column)
    soft: dict[str, Any] = {} if is_one_hot else {"soft_labels": True}
    reason = "a column for each class" + ("" if is_one_hot else ", with shares between 0 and 1")
    zero_rows = (
        sum(not any(row) for row in zip(*[column for column in columns if column], strict=True))
        if is_one_hot
        else 0
    )
    questions = (
        [("unnamed_class", f"{zero_rows} rows, the first of which is {_zero_row(table, others)}")]
        if zero_rows
        else []
    )
    return {"label_columns": tuple(others), **soft}, {"label_columns": reason}, questions


def _zero_row(table: Table, names: Sequence[str]) -> str:
    rows = zip(*[map(probability, table.columns[name]) for name in names], strict=True)
    return next(row_name for row_name, row in zip(table.rows, rows, strict=True) if not any(row))


def _candidates(table: Table, names: Sequence[str]) -> list[tuple[str, str]]:
    """Candidates for the label: the columns with repeated values, otherwise all of `names`."""
    likely = [name for name in names if 1 < len(set(table.columns[name])) <= max(2, len(table) // 2)]
    return [
        (
            "label_column",
            "; ".join(f"{name}: {_values(table.columns[name])}" for name in likely or names) or "none is left",
        )
    ]


def _values(values: Sequence[str]) -> str:
    unique = sorted(set(values))
    return f"{len(unique)} different values such as {', '.join(unique[:3])}"


def _probabilities(texts: Sequence[str]) -> list[float] | None:
    """The values as numbers from 0 to 1; None if any value is not one."""
    try:
        values = [probability(text) for text in texts]
    except ValueError:
        return None
    return values if all(0 <= value <= 1 for value in values) else None
