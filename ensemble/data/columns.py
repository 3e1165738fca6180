"""The columns of a table: what they mean, and labels read from them."""

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

_TRUTHS = {"true": 1.0, "false": 0.0}
Floats = npt.NDArray[np.floating[Any]]


def numbers(table: Table, columns: Sequence[str], key: str = "label_columns") -> Floats:
    """float64 (n, columns) of a table; empty rows are NaN. Raises DataError for what is no number."""
    values = np.empty((len(table), len(columns)), np.float64)
    for index, column in enumerate(columns):
        for row, text in enumerate(table.column(column, key)):
            values[row, index] = _number(text, table, column, row)
    partly = np.isnan(values).any(axis=1) & ~np.isnan(values).all(axis=1)
    if partly.any():
        rows = [table.rows[row] for row in np.flatnonzero(partly)]
        raise DataError(f"{table.name}: some of the label columns are empty in {first_few(rows)}")
    return values


def share(text: str) -> float:
    """A cell's number; 1 and 0 for `True` and `False`, as pandas 2 writes columns of dummies. Raises ValueError."""
    truth = _TRUTHS.get(text.lower())
    return float(text) if truth is None else truth


def _number(text: str, table: Table, column: str, row: int) -> float:
    if not text:
        return np.nan
    try:
        value = share(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise DataError(f"{table.name}, column {column!r}, {table.rows[row]}: {text!r} found, 0 to 1 expected")
    return value


def one_hot_labels(
    values: Floats, ids: Sequence[str], names: Sequence[str], unnamed: bool, where: str
) -> list[str]:
    """The class of each row, "" for a row of NaN.

    values: (n, c) of 0 and 1.  names: the c columns, then the unnamed class, which a row of
    zeros means, where `unnamed`. Raises DataError that names rows with two positives, fractions, or none.
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
    places = np.where(positives == 0, len(names) - 1, np.argmax(np.nan_to_num(values), axis=1))
    return [names[place] if has else "" for place, has in zip(places.tolist(), known.tolist(), strict=True)]


def soft_rows(values: Floats, ids: Sequence[str], unnamed: bool, where: str) -> npt.NDArray[np.float32]:
    """float32 (n, k) that sum to one, NaN where unknown; what is left of one goes to the unnamed class.

    values: (n, c) in 0..1. Raises DataError that names rows that do not sum to one within 1e-3.
    """
    totals = values.sum(axis=1)
    if unnamed:
        rest = 1 - totals
        bad = rest < -ROW_TOLERANCE
        values = np.column_stack([values, np.clip(rest, 0, 1)])
        totals = values.sum(axis=1)
    else:
        bad = np.abs(totals - 1) > ROW_TOLERANCE
    _refuse(bad, ids, f"{where}: rows that do not sum to one within {ROW_TOLERANCE:g}", "correct them")
    soft: npt.NDArray[np.float32] = (values / totals[:, None]).astype(np.float32)
    return soft


def _refuse(bad: npt.NDArray[np.bool_], ids: Sequence[str], found: str, advice: str) -> None:
    if bad.any():
        named = [name for name, is_bad in zip(ids, bad.tolist(), strict=True) if is_bad]
        raise DataError(f"{found}: {first_few(named)}; {advice}")


LOOKED_AT = 200
"""Rows of which the images are looked for."""
_LABELS = {"label", "labels", "class", "target", "category", "diagnosis"}
_MORE_LABELS = {"classname", "labelname", "dx", "breed", "species", "disease", "y"}
_GROUPS = set(
    "patient subject lesion case slide person participant individual donor specimen biopsy study series video"  # noqa: SIM905
    " session sequence scene user client site".split()
)
_SPLITS = {"split", "set", "subset", "phase", "partition", "usage", "fold", "dataset", "datatype"}
_FOLDS = {"fold", "folds", "kfold"}


@dataclass(frozen=True)
class Roles:
    """What was told of the columns.

    id: the column whose values name images, where any does.  keys, reasons: of a recipe's data.
    group: a column of what belongs together.  splits: those that a split column names.
    remarks: columns that seem to mean something that has no key.  questions: (key, its candidates).
    """

    id: str | None
    keys: Mapping[str, Any]
    reasons: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    splits: frozenset[str] = frozenset()
    remarks: Sequence[str] = ()
    questions: Sequence[tuple[str, str]] = ()


def guess_roles(table: Table, is_image: Callable[[str], bool]) -> Roles:
    """What each column of `table` is for. is_image: whether a value names an image that is there."""
    keys: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    names = [name for name in table.named if _names_images(table.columns[name], is_image)]
    once = [name for name in names if len(set(table.columns[name])) == len(table)]
    chosen = next(iter(once or names), None)
    if chosen is not None:
        keys["id_column"], reasons["id_column"] = chosen, "its values name images that are there"
    split = next((name for name in table.named if name != chosen and _is_split(name, table.columns[name])), None)
    if split is not None:
        keys["split_column"], reasons["split_column"] = split, _values(table.columns[split])
    groups = [name for name in group_columns(table) if name != chosen]
    folds = [name for name in table.named if _squeezed(name) in _FOLDS | {"cvfold"} and name != split]
    used = {chosen, split, *groups, *folds} - {None}
    label, why, question = _label(table, [name for name in table.named if name not in used], chosen)
    return Roles(
        id=chosen,
        keys=keys | label,
        reasons=reasons | why,
        group=groups[0] if groups else None,
        splits=frozenset()
        if split is None
        else frozenset(role or "" for role in roles_of(split, table.columns[split]).values()),
        remarks=[f"{name}: {_values(table.columns[name])}; folds of your own have no key yet" for name in folds]
        + [f"{name}: another column of what may belong together" for name in groups[1:]],
        questions=([] if chosen is not None else [("id_column", first_few(table.named))]) + question,
    )


def group_columns(table: Table) -> list[str]:
    """The columns that are called as patients, lesions or cases are, and whose values repeat."""
    return [name for name in table.named if _is_group(name, table.columns[name])]


def _squeezed(name: str) -> str:
    return "".join(words_of(name))


def _names_images(values: Sequence[str], is_image: Callable[[str], bool]) -> bool:
    """Whether most of the first values name an image."""
    some = values[:LOOKED_AT]
    return sum(bool(value) and is_image(value) for value in some) > len(some) / 2


def _is_split(name: str, values: Sequence[str]) -> bool:
    """Whether the column says train, valid or test of each row; its values decide, its name need only be likely."""
    roles = set(roles_of(name, values).values())
    likely = bool(_SPLITS & {_squeezed(name), *words_of(name)}) or role_of(name) is not None or is_flag(name)
    return likely and "train" in roles and None not in roles and len(roles) > 1


def _is_group(name: str, values: Sequence[str]) -> bool:
    """Whether values repeat in a column that is called as patients, lesions or cases are."""
    return bool(_GROUPS & set(words_of(name))) and 1 < len(set(values)) < len(values) and "" not in values


def _label(
    table: Table, names: Sequence[str], id_column: str | None
) -> tuple[dict[str, Any], dict[str, str], list[tuple[str, str]]]:
    """The keys that say which columns are labels, why, and the candidates where that cannot be told."""
    for known in (_LABELS, _MORE_LABELS):
        named = [name for name in names if name.lower() in known or _squeezed(name) in known]
        if len(named) == 1:
            return {"label_column": named[0]}, {"label_column": _values(table.columns[named[0]])}, []
        if named:
            return {}, {}, _candidates(table, named)
    others = [name for name in names if name != id_column] if id_column is not None else list(names[1:])
    if len(others) == 1:
        # loading takes the only one, unless other columns are beside it
        plain = len(table.named) == 2
        return (
            {} if plain else {"label_column": others[0]},
            {"label_column": f"the only column that is left; {_values(table.columns[others[0]])}"},
            [],
        )
    shares = [_shares(table.columns[name]) for name in others]
    if len(others) < 2 or any(share is None for share in shares):
        return {}, {}, _candidates(table, others)
    whole = all(value in (0, 1) for share in shares if share for value in share)
    soft: dict[str, Any] = {} if whole else {"soft_labels": True}
    why = "a column for each class" + ("" if whole else ", with shares between 0 and 1")
    zeros = sum(not any(row) for row in zip(*[share for share in shares if share], strict=True)) if whole else 0
    asking = [("unnamed_class", f"{zeros} rows, the first of which is {_zero_row(table, others)}")] if zeros else []
    return {"label_columns": tuple(others), **soft}, {"label_columns": why}, asking


def _zero_row(table: Table, names: Sequence[str]) -> str:
    rows = zip(*[map(share, table.columns[name]) for name in names], strict=True)
    return next(place for place, row in zip(table.rows, rows, strict=True) if not any(row))


def _candidates(table: Table, names: Sequence[str]) -> list[tuple[str, str]]:
    """Those that repeat their values as labels do, before the others."""
    likely = [name for name in names if 1 < len(set(table.columns[name])) <= max(2, len(table) // 2)]
    return [
        (
            "label_column",
            "; ".join(f"{name}: {_values(table.columns[name])}" for name in likely or names) or "none is left",
        )
    ]


def _values(values: Sequence[str]) -> str:
    different = sorted(set(values))
    return f"{len(different)} different values such as {', '.join(different[:3])}"


def _shares(texts: Sequence[str]) -> list[float] | None:
    """The values as numbers from 0 to 1, or None where one is not."""
    try:
        values = [share(text) for text in texts]
    except ValueError:
        return None
    return values if all(0 <= value <= 1 for value in values) else None
