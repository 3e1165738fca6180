"""Look up runs by name or age, and the data and commands that they were made with."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import DataError, RecipeError
from ensemble.runs.record import Kind
from ensemble.runs.run import Run, all_runs

if TYPE_CHECKING:
    from ensemble.recipe.data_spec import DataSpec


def id_of(folder: Path, name: str) -> str:
    """The run id in `name`, which may be a directory as completed by a shell: `runs/resnet34-1a2b3c4d/`."""
    path = Path(name)
    in_folder = path.name and (path / "run.json").is_file() and path.resolve().parent == folder.resolve()
    return path.name if in_folder else name.rstrip("/\\") or name


def named_run(folder: Path, name: str) -> Run:
    """The complete run with this id or directory, or the only run with this id prefix. Raises DataError."""
    runs, name = all_runs(folder), id_of(folder, name)
    matches = [run for run in runs if run.id == name] or [run for run in runs if run.id.startswith(name)]
    if len(matches) != 1:
        listed = ", ".join(run.id for run in (matches or runs)[:5]) or "none"
        raise DataError(
            f"{len(matches)} runs in {folder} are called {json.dumps(name)}, one expected (there are: {listed});"
            " type `ens ls`"
        )
    refuse_unfinished(matches[0], "name another run")
    return matches[0]


def refuse_unfinished(run: Run, otherwise: str) -> None:
    """Raises DataError unless the run is complete, with the command that resumes it. otherwise: alternative."""
    if run.failed:
        raise DataError(f"{run.id} failed; type {resume_command(run, ['--retry'])}, or {otherwise}")
    if not run.complete:
        raise DataError(f"{run.id} is not complete; type {resume_command(run)} to resume it, or {otherwise}")


_HASHED_KEYS = ("background", "split_seed")
"""Keys of `data` that change what a run learns but not its fingerprint."""


def ens(folder: Path, *words: str) -> str:
    """The `ens` command line with `words` for the runs in `folder`."""
    runs = [] if folder == Path("runs") else ["--runs", folder.as_posix()]
    return shlex.join(["ens", *runs, *words])


def resume_command(run: Run, extra: Sequence[str] = ()) -> str:
    """The command that makes or resumes `run`, described in words if its recipe is missing. extra: arguments."""
    if run.is_ensemble:
        return "`ens combine`"
    command = run_command(run, run.path.parent, extra)
    return f"`{command}`" if command else f"`{' '.join(['ens train', *extra])}` as before"


def run_command(run: Run, folder: Path, extra: Sequence[str] = ()) -> str:
    """The command that makes or resumes `run`; empty if its recipe is missing. extra: further arguments."""
    if run.is_import:
        return _import_command(run, folder)
    recipe = run.path / "recipe.yaml"
    if not recipe.is_file():
        return ""
    if run.kind is Kind.STUDENT:
        return _distill_command(run, recipe, folder, extra)
    return ens(folder, "train", "--recipe", recipe.as_posix(), *extra)


def _distill_command(run: Run, recipe: Path, folder: Path, extra: Sequence[str]) -> str:
    """The `ens distill` command of a student, as `ens train` with its recipe would train the baseline."""
    teacher = run.record.teacher
    if not {"run", "temperature", "alpha"} <= set(teacher):
        return ""
    options = [f"--{key}={float(teacher[key])!r}" for key in ("temperature", "alpha")]
    return ens(folder, "distill", str(teacher["run"]), "--recipe", recipe.as_posix(), *options, *extra)


def _import_command(run: Run, folder: Path) -> str:
    files = run.record.imported
    options = [option for split, name in files.items() for option in (f"--{split}", name)]
    arch = ["--arch", run.record.arch] if run.record.arch else []
    name = run.record.name or run.id.rpartition("-")[0]
    return ens(folder, "import", name, *options, *arch) if files else ""


def data_arguments(current: DataSpec | None, target: DataSpec) -> list[str]:
    """The options that turn a recipe with the data `current` into one with the data `target`.

    Without the keys that would make it a different run.
    """
    values = {} if current is None else current.model_dump()
    options: list[str] = []
    for key, value in target.model_dump().items():
        if current is None or values[key] == value or key in _HASHED_KEYS:
            continue
        if key == "path":
            same = os.path.abspath(str(values[key])) == os.path.abspath(str(value))  # noqa: PTH100
            options += [] if same else ["--data", str(value)]
        else:
            options += ["--set", f"data.{key}={json.dumps(value, ensure_ascii=False)}"]
    return options


READ_KEYS = ("skip_unreadable", "background", "max_pixels")
"""Keys of `data` that only decide which files can be read."""


def usable_runs(folder: Path) -> list[Run]:
    """The complete, readable runs by id; broken runs are skipped."""
    runs = []
    for run in all_runs(folder):
        with suppress(DataError):
            runs += [run] if run.complete and not run.failed and run.record else []
    return runs


def newest_run(folder: Path) -> Run | None:
    """The complete run with the latest creation time; None without one.

    An import of an unknown data set only counts if there is no other run.
    """
    return max(
        usable_runs(folder), key=lambda run: (run.record.data.form is not None, *_created(run)), default=None
    )


def _created(run: Run) -> tuple[str, str]:
    return run.record.created, run.id


def data_of(run: Run) -> DataSpec | None:
    """The `data` in the recipe of `run` or one of its parents, else of the newest other run with its fingerprint.

    None if no recipe exists.
    """
    own_spec = _own_data(run)
    if own_spec is not None or not run.fingerprint:
        return own_spec
    others = [other for other in usable_runs(run.path.parent) if other.fingerprint == run.fingerprint]
    specs = map(_own_data, sorted(others, key=_created, reverse=True))
    return next((spec for spec in specs if spec is not None), None)


def _own_data(run: Run) -> DataSpec | None:
    for path in _recipes(run, frozenset()):
        if (spec := _read(path)) is not None:
            return spec
    return None


def _recipes(run: Run, ancestors: frozenset[str]) -> Iterator[Path]:
    recipe = run.path / "recipe.yaml"
    if recipe.is_file():
        yield recipe
        return
    for entry in run.record.parents:
        parent = Run(run.path.parent / entry.id)
        if parent.id not in ancestors and (parent.path / "run.json").is_file():
            yield from _recipes(parent, ancestors | {run.id})


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
    """The newest complete run whose data `fits` accepts, and that data. Tests one run for each fingerprint."""
    seen: set[str] = set()
    for run in sorted(usable_runs(folder), key=_created, reverse=True):
        if run.fingerprint in seen:
            continue
        spec = _own_data(run)
        if spec is None:  # e.g. an import; another run of the same data may have a recipe
            continue
        seen.add(run.fingerprint)
        if fits(spec):
            return run, spec
    return None


def same_place(first: DataSpec, second: DataSpec) -> bool:
    """Whether both have the same form and read the same folder or table."""
    return (first.form, _location(first)) == (second.form, _location(second))


def _location(spec: DataSpec) -> tuple[str, str]:
    return os.path.abspath(spec.path), spec.train  # noqa: PTH100 — Path.resolve follows links


def same_but_for_reading(first: DataSpec, second: DataSpec) -> bool:
    """Whether both describe the same rows, provided that every file can be read."""
    first_values, second_values = (
        spec.model_dump(exclude={*READ_KEYS, "path", "medical"}) for spec in (first, second)
    )
    return first_values == second_values and _location(first) == _location(second)


def as_trained(spec: DataSpec, folder: Path) -> tuple[DataSpec, Run | None]:
    """`spec` with the keys `READ_KEYS` of the newest run with its data, and that run if they differ, else None.

    Values of these keys that were given with `--set` for training thereby apply to later commands too.
    """
    if spec.form == "digits":
        return spec, None
    newest = newest_of(folder, lambda other: same_but_for_reading(spec, other))
    if newest is None:
        return spec, None
    run, run_spec = newest
    updated = spec.model_copy(update={key: getattr(run_spec, key) for key in READ_KEYS})
    return updated, None if updated == spec else run


def outdated(folder: Path, current: Run) -> list[Run]:
    """The complete members and folds runs trained on the same data source as `current` with other content."""
    others = [run for run in usable_runs(folder) if run.kind in (Kind.MEMBER, Kind.FOLDS) and not run.is_fold]
    others = [run for run in others if run.fingerprint != current.fingerprint]
    spec = data_of(current) if others else None
    if spec is None or spec.form == "digits":
        return []
    return [
        run
        for run in others
        if (other_spec := _own_data(run)) is not None and same_but_for_reading(other_spec, spec)
    ]
