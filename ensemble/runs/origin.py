"""Which data a run was made from, and which run was made last."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.errors import DataError, RecipeError
from ensemble.runs.run import Run, all_runs

if TYPE_CHECKING:
    from ensemble.recipe.schema import DataSpec

READING = ("skip_unreadable", "background", "max_pixels")
"""The keys of `data` that decide which files can be read, and nothing else."""


def usable_runs(folder: Path) -> list[Run]:
    """The complete runs by id; a broken one must not hide the others."""
    found = []
    for run in all_runs(folder):
        with suppress(DataError):
            found += [run] if run.complete and not run.failed and run.facts else []
    return found


def newest_run(folder: Path) -> Run | None:
    """The complete run that was made last, None where there is none.

    An import whose data set nobody knows is taken only where there is nothing else.
    """
    return max(usable_runs(folder), key=lambda run: (_has_data(run), *_made(run)), default=None)


def _has_data(run: Run) -> bool:
    return run.facts.get("data", {}).get("form") is not None


def _made(run: Run) -> tuple[str, str]:
    return str(run.facts.get("created", "")), run.id


def data_of(run: Run) -> DataSpec | None:
    """The `data` of the recipe that made `run` or one of its parents, else the newest other run of the same data.

    None where no recipe is there.
    """
    own = _own_data(run)
    if own is not None or not run.fingerprint:
        return own
    others = [one for one in usable_runs(run.path.parent) if one.fingerprint == run.fingerprint]
    found = map(_own_data, sorted(others, key=_made, reverse=True))
    return next((spec for spec in found if spec is not None), None)


def _own_data(run: Run) -> DataSpec | None:
    for path in _recipes(run, frozenset()):
        if (spec := _read(path)) is not None:
            return spec
    return None


def _recipes(run: Run, above: frozenset[str]) -> Iterator[Path]:
    own = run.path / "recipe.yaml"
    if own.is_file():
        yield own
        return
    for entry in run.facts.get("parents") or []:
        parent = Run(run.path.parent / str(entry.get("id")))
        if parent.id not in above and (parent.path / "run.json").is_file():
            yield from _recipes(parent, above | {run.id})


def _read(path: Path) -> DataSpec | None:
    from ensemble.recipe import text
    from ensemble.recipe.file import data_section

    try:
        value: Any = text.read(path)
    except RecipeError:
        return None
    problems: list[str] = []
    spec = data_section(value.get("data", {}) if isinstance(value, Mapping) else None, problems)
    return None if problems else spec


def newest_of(folder: Path, fits: Callable[[DataSpec], bool]) -> tuple[Run, DataSpec] | None:
    """The newest complete run whose data `fits` accepts, and that data. One run of each data set is looked at."""
    seen: set[str] = set()
    for run in sorted(usable_runs(folder), key=_made, reverse=True):
        if run.fingerprint in seen:
            continue
        spec = _own_data(run)
        if spec is None:  # an import, say; another run of the same data may know
            continue
        seen.add(run.fingerprint)
        if fits(spec):
            return run, spec
    return None


def same_place(first: DataSpec, second: DataSpec) -> bool:
    """Whether both are of one form and read the same folder or table."""
    return (first.form, _place(first)) == (second.form, _place(second))


def _place(spec: DataSpec) -> tuple[str, str]:
    return os.path.abspath(spec.path), spec.train  # noqa: PTH100 — Path.resolve would follow links


def same_but_for_reading(first: DataSpec, second: DataSpec) -> bool:
    """Whether both mean the same rows, if every file could be read."""
    own, other = (spec.model_dump(exclude={*READING, "path", "medical"}) for spec in (first, second))
    return own == other and _place(first) == _place(second)


def as_trained(spec: DataSpec, folder: Path) -> tuple[DataSpec, Run | None]:
    """`spec` with the keys `READING` of the newest run of it, and that run where they differ.

    What a person chose with `--set` when the run was trained holds for all that comes after.
    """
    if spec.form == "digits":
        return spec, None
    found = newest_of(folder, lambda other: same_but_for_reading(spec, other))
    if found is None:
        return spec, None
    run, own = found
    kept = spec.model_copy(update={key: getattr(own, key) for key in READING})
    return kept, None if kept == spec else run


def outdated(folder: Path, current: Run) -> list[Run]:
    """The complete members and folds runs that were trained from where `current` was, on other content."""
    others = [run for run in usable_runs(folder) if run.kind in ("member", "folds") and not run.is_fold]
    others = [run for run in others if run.fingerprint != current.fingerprint]
    spec = data_of(current) if others else None
    if spec is None or spec.form == "digits":
        return []
    return [run for run in others if (own := _own_data(run)) is not None and same_but_for_reading(own, spec)]
