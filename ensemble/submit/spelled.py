"""How the table of the test set calls and spells the ids, where nothing else says how a competition does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.data.csvfile import Table, read_csv
from ensemble.data.spelling import Spellings
from ensemble.errors import DataError, one_line
from ensemble.submit.sheet import Spec

if TYPE_CHECKING:
    from ensemble.recipe.schema import DataSpec


def spelling_notes(ids: list[str], spec: Spec, split: str, data: DataSpec | None) -> tuple[str, ...]:
    """A note where the table of `split` has another header for the ids, or other spellings of `ids` (n,)."""
    path = None if data is None else _table_of(data, split)
    if data is None or path is None:
        return ()
    try:
        table = read_csv(path)
    except DataError:  # the predictions are there, and are all that is needed
        return ()
    header = next((name for name in _columns(data, table) if name in table.columns), None)
    if header is None:
        return ()
    spelled = _other_spelling(ids, table.columns[header])
    other_header = spec.header and header != spec.id_column
    if spelled is None and not other_header:
        return ()
    told = [f"calls the ids {header!r} (here {spec.id_column!r})"] if other_header else []
    told += [f"spells them {spelled[1]!r} (here {spelled[0]!r})"] if spelled else []
    keys = f", or `submit: {{id_column: {header}}}` in the recipe" if spelled is None else ""
    return (
        f"{one_line(path.name)} {' and '.join(told)}: where the competition does so too, --sample with its sample"
        f" submission{keys} writes them so",
    )


def _table_of(data: DataSpec, split: str) -> Path | None:
    name = data.test if split == "test" else data.tests.get(split.removeprefix("test-"))
    if data.form != "csv" or name is None:
        return None
    # not at the start: it loads the reader of recipes, which runs of nobody's images do without
    from ensemble.data.tablesplits import with_csv

    root = Path(data.path)
    path = root / with_csv(root, name)
    return path if path.is_file() else None


def _columns(data: DataSpec, table: Table) -> Iterable[str]:
    """The columns that the ids may be in, the likeliest first."""
    return [name for name in (data.id_column, data.path_column, *table.named[:1]) if name is not None]


def _other_spelling(ids: list[str], values: list[str]) -> tuple[str, str] | None:
    """An id and what stands for it among `values`; None where these are the ids, or do not say all of them."""
    rows = Spellings(ids).rows(values)
    if not set(range(len(ids))) <= set(rows):
        return None
    pairs = ((ids[row], value) for row, value in zip(rows, values, strict=True) if row is not None)
    return next((pair for pair in pairs if pair[0] != pair[1]), None)
