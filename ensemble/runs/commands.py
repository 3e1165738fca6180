"""What to type to make a run again, or to have a complete one predict a test set that has changed."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.runs.run import Run

if TYPE_CHECKING:
    from ensemble.recipe.schema import DataSpec


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
