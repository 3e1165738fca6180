"""Runs found by name, the data and the commands that they were made from, and the newest run."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import DataError, RecipeError
from ensemble.runs.run import Run, all_runs

if TYPE_CHECKING:
    from ensemble.recipe.schema import DataSpec


def id_of(folder: Path, word: str) -> str:
    """The id in `word`, which may be the run's directory, as a shell completes it: `runs/resnet34-1a2b3c4d/`."""
    path = Path(word)
    in_folder = path.name and (path / "run.json").is_file() and path.resolve().parent == folder.resolve()
    return path.name if in_folder else word.rstrip("/\\") or word


def named_run(folder: Path, name: str) -> Run:
    """The complete run with this id or directory, or the only one whose id begins so. Raises DataError."""
    runs, name = all_runs(folder), id_of(folder, name)
    found = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
    if len(found) != 1:
        listed = ", ".join(run.id for run in (found or runs)[:5]) or "none"
        raise DataError(
            f"{len(found)} runs in {folder} are called {json.dumps(name)}, one expected (there are: {listed});"
            " type `ens ls`"
        )
    refuse_unfinished(found[0], "name another run")
    return found[0]


def refuse_unfinished(run: Run, otherwise: str) -> None:
    """Raises DataError for a run that failed or is not complete, with what to type. otherwise: what else to do."""
    if run.failed:
        raise DataError(f"{run.id} failed; type {go_on(run, ['--retry'])}, or {otherwise}")
    if not run.complete:
        raise DataError(f"{run.id} is not complete; type {go_on(run)} to resume it, or {otherwise}")


_HASHED = ("background", "split_seed")
"""Keys of `data` that decide what a run learns although its fingerprint is the same."""


def ens(folder: Path, *words: str) -> str:
    """A command line of `ens` for the runs in `folder`."""
    runs = [] if folder == Path("runs") else ["--runs", folder.as_posix()]
    return shlex.join(["ens", *runs, *words])


def go_on(run: Run, more: Sequence[str] = ()) -> str:
    """What to type to make or resume `run`, in words where nothing says with which recipe. more: further words."""
    if run.kind == "ensemble":
        return "`ens combine`"
    typed = made_by(run, run.path.parent, more)
    return f"`{typed}`" if typed else f"`{' '.join(['ens train', *more])}` as before"


def made_by(run: Run, folder: Path, more: Sequence[str] = ()) -> str:
    """The command that makes `run`, or goes on with it; empty where nothing says how. more: further words."""
    if run.kind == "import":
        return _imported(run, folder)
    recipe = run.path / "recipe.yaml"
    if not recipe.is_file():
        return ""
    if run.kind == "student":
        return _taught(run, recipe, folder, more)
    return ens(folder, "train", "--recipe", recipe.as_posix(), *more)


def _taught(run: Run, recipe: Path, folder: Path, more: Sequence[str]) -> str:
    """By `ens distill`: of the recipe alone `ens train` would make the baseline."""
    teacher: dict[str, Any] = run.facts.get("teacher") or {}
    if not {"run", "temperature", "alpha"} <= set(teacher):
        return ""
    how = [f"--{key}={float(teacher[key])!r}" for key in ("temperature", "alpha")]
    return ens(folder, "distill", str(teacher["run"]), "--recipe", recipe.as_posix(), *how, *more)


def _imported(run: Run, folder: Path) -> str:
    files: dict[str, str] = run.facts.get("imported") or {}
    words = [word for split, name in files.items() for word in (f"--{split}", name)]
    arch = ["--arch", str(run.facts["arch"])] if run.facts.get("arch") else []
    name = str(run.facts.get("name") or run.id.rpartition("-")[0])
    return ens(folder, "import", name, *words, *arch) if files else ""


def data_words(own: DataSpec | None, wanted: DataSpec) -> list[str]:
    """The options that turn a recipe with the data `own` into one with the data `wanted`.

    Not those that would make another run of it.
    """
    before = {} if own is None else own.model_dump()
    words: list[str] = []
    for key, value in wanted.model_dump().items():
        if own is None or before[key] == value or key in _HASHED:
            continue
        if key == "path":
            same = os.path.abspath(str(before[key])) == os.path.abspath(str(value))  # noqa: PTH100
            words += [] if same else ["--data", str(value)]
        else:
            words += ["--set", f"data.{key}={json.dumps(value, ensure_ascii=False)}"]
    return words


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
