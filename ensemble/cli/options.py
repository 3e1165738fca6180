"""Option types that click lacks."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ensemble.cli import completion
from ensemble.core.errors import one_line

if TYPE_CHECKING:
    from ensemble.cli.terminal import Settings
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import DataSpec


if TYPE_CHECKING:
    NumberType = click.ParamType[float]
else:
    NumberType = click.ParamType  # generic for type checkers alone in some releases of click


class FiniteFloat(NumberType):
    """A number within bounds. click's own FloatRange lets `nan` through, as `nan < 0` is false."""

    name = "number"

    def __init__(self, low: float = -math.inf, high: float = math.inf) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as a float, or a usage error that says what was expected."""
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        if not self.low <= number <= self.high:
            self.fail(f"{value!r} is not {self._bounds()}", param, ctx)
        return number

    def _bounds(self) -> str:
        if math.isinf(self.high):
            return f"{self.low:g} or more"
        return f"{self.high:g} or less" if math.isinf(self.low) else f"from {self.low:g} to {self.high:g}"


if TYPE_CHECKING:
    PathType = click.Path[Any]
else:
    PathType = click.Path


class HomePath(PathType):
    """A path in which `~` is the home folder: shells write it out in `--data ~/x`, not in `--data=~/x`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, as click's own type has it."""
        if isinstance(value, str) and value.startswith("~"):
            value = os.path.expanduser(value)  # noqa: PTH111 — Path would change how the rest is spelled
        return super().convert(value, param, ctx)


finite_float = FiniteFloat()
share = FiniteFloat(0, 1)


class Duration(NumberType):
    """A time such as `45s`, `90m`, `2h` or `1h30m`, in seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a usage error that says what was expected."""
        found = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", str(value).strip())
        seconds = 0.0
        if found:
            seconds = sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1), strict=True))
        if seconds <= 0:
            self.fail(f"{value!r} is not a time; 45s, 90m, 2h or 1h30m is expected", param, ctx)
        return seconds


F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_RECIPE = Path("ens.yaml")
DEFAULT_RECIPES = (DEFAULT_RECIPE, Path("ens.yml"))


def data_options(command: F) -> F:
    """Adds --recipe and --data."""
    command = click.option(
        "--data",
        type=HomePath(path_type=Path),
        help="A folder of images or a CSV, instead of the recipe's data.",
    )(command)
    return click.option(
        "--recipe",
        type=HomePath(path_type=Path),
        help="A recipe file. [default: ens.yaml where there is one, else the digits]",
    )(command)


def runs_options(command: F) -> F:
    """Adds --recipe, --data and --set to a command that works from runs; `cli.current` says what they stand for."""
    return runs_data_options(_data_set_option(command))


def _data_set_option(command: F) -> F:
    return click.option(
        "--set",
        "settings_",
        multiple=True,
        metavar="data.KEY=VALUE",
        shell_complete=completion.keys,
        help="A key of the data that wins over the recipe's or the run's.",
    )(command)


def runs_data_options(command: F) -> F:
    """Adds --recipe and --data of `runs_options`."""
    command = click.option(
        "--data", type=HomePath(path_type=Path), help="The folder of images or CSV whose runs are meant."
    )(command)
    return click.option(
        "--recipe",
        type=HomePath(path_type=Path),
        help="A recipe file. [default: ens.yaml where there is one, else the data of the newest run, else the"
        " digits]",
    )(command)


def data_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`--set data.key=value` as parsed. Raises UsageError for a key of anything else."""
    keys = parse_settings(settings)
    other = [key for key in keys if not key.startswith("data.")]
    if other:
        raise click.UsageError(
            f"--set {other[0]}: a key of data expected, such as data.{other[0].rpartition('.')[2]}"
        )
    return keys


def track_options(command: F) -> F:
    """Adds --track and --track-weights."""
    command = click.option("--track-weights", is_flag=True, help="Copy the weights to the tracker too.")(command)
    return click.option(
        "--track",
        type=click.Choice(["mlflow"]),
        help="Tell MLflow of every run: MLFLOW_TRACKING_URI, else <runs>/mlflow.db.",
    )(command)


def tracked(settings: Settings, track: str | None, weights: bool) -> Settings:
    """The settings with what --track asks for. Raises EnsError where its packages are not installed."""
    if track is None:
        if weights:
            raise click.UsageError("--track-weights needs --track mlflow")
        return settings
    from ensemble.tracking import tracking

    return replace(settings, track=tracking(track, settings.runs, weights))


def recipe_path(recipe: Path | None, data: Path | None) -> Path | None:
    """--recipe, else ens.yaml (or ens.yml) where there is one and --data does not stand for it."""
    if recipe or data is not None:
        return recipe
    return next((path for path in DEFAULT_RECIPES if path.is_file()), None)


def current(recipe: Path | None, data: Path | None, overrides: Mapping[str, Any] | None = None) -> RecipeFile:
    """The recipe in force: --recipe, else --data alone, else ens.yaml, else the built-in digits.

    overrides: keys that win over those of every member. Raises RecipeError or DataError.
    """
    from ensemble.recipe.file import RecipeFile, read_recipe_file

    member_keys, data_keys = split_overrides(overrides or {})
    path = recipe_path(recipe, data)
    if path is None:
        return RecipeFile(data=with_keys(data_spec(data), data_keys), source=str(data or "the built-in digits"))
    found = read_recipe_file(path, overrides=member_keys)
    spec = found.data
    if data is not None:
        fits = spec.form != "digits" and data.is_dir()
        spec = spec.model_copy(update={"path": str(data)}) if fits else data_spec(data)
    spec = with_keys(spec, data_keys)
    if spec != found.data:
        found = read_recipe_file(path, data=spec, overrides=member_keys)
    _say_where_data_are(path, spec)
    return found


def _say_where_data_are(recipe: Path, spec: DataSpec) -> None:
    """One line on stderr where the data lie beside the recipe file, which is elsewhere, and not here; said once."""
    beside, context = recipe.parent / spec.path, click.get_current_context(silent=True)
    if spec.form == "digits" or Path(spec.path).exists() or not beside.is_dir() or context is None:
        return
    if not context.meta.setdefault("ensemble.beside", False):
        context.meta["ensemble.beside"] = True
        name = one_line(beside.as_posix())
        click.echo(
            f"{name} is beside the recipe, but data.path is relative to where `ens` is typed: add --set"
            f" data.path={name}",
            err=True,
        )


def split_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys of members, and keys of `data` (written `data.key`) without their prefix."""
    data = {key.removeprefix("data."): value for key, value in overrides.items() if key.startswith("data.")}
    return {key: value for key, value in overrides.items() if not key.startswith("data.")}, data


def data_spec(path: Path | None) -> DataSpec:
    """The data at `path` as it looks; without a path the digits. Raises DataError."""
    from ensemble.recipe.schema import DataSpec

    if path is None:
        return DataSpec()
    from ensemble.data.detect_form import guess_spec

    return guess_spec(path)


def with_keys(spec: DataSpec, keys: Mapping[str, Any]) -> DataSpec:
    """`spec` with other values for `keys`. Raises RecipeError."""
    if not keys:
        return spec
    from ensemble.recipe.schema import DataSpec
    from ensemble.recipe.text import refuse, validated

    problems: list[str] = []
    merged = validated(DataSpec, {**spec.model_dump(), **keys}, "data", problems)
    refuse(problems, "--set")
    assert merged is not None
    return merged


def parse_settings(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """`--set key=value`, the value read as YAML. Raises RecipeError that names the option."""
    import yaml

    from ensemble.core.errors import RecipeError
    from ensemble.recipe import text

    values: dict[str, Any] = {}
    for setting in settings:
        key, sign, value = setting.partition("=")
        if not sign or not key.strip():
            raise RecipeError(f"{option} {setting!r} found, key=value expected")
        try:
            values[key.strip()] = text.parse(value)
        except yaml.YAMLError as error:
            raise RecipeError(f"{option} {key}: {value!r} is not a YAML value") from error
    return values


def with_members(found: RecipeFile, entries: Sequence[Mapping[str, Any]]) -> RecipeFile:
    """The recipe with other members, each validated on its data. Raises RecipeError."""
    from ensemble.recipe.file import build

    raw = {"defaults": found.defaults, "members": list(entries)}
    members = build(raw, source="command line", data=found.data).members
    return replace(found, members=members)


def say_source(found: RecipeFile) -> None:
    """One line on stderr where the digits stand in for data that nobody named."""
    if found.data.form == "digits":
        click.echo(
            "data: scikit-learn's built-in digits (8 x 8 pixels), where --weights is none unless you say otherwise;"
            " `ens init FOLDER` sets up your own images",
            err=True,
        )
