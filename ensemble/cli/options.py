"""Parameter types, shared options and the project of a command."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ensemble.cli import completion
from ensemble.core.registry import load
from ensemble.core.table import seconds_of

if TYPE_CHECKING:
    from ensemble.api.project import Project
    from ensemble.cli.terminal import Settings
    from ensemble.tracking import Tracking


if TYPE_CHECKING:
    NumberType = click.ParamType[float]
else:
    NumberType = click.ParamType  # generic for type checkers alone in some releases of click


class FiniteFloat(NumberType):
    """A finite number within bounds. click's FloatRange accepts `nan`, as `nan < 0` is false."""

    name = "number"

    def __init__(self, low: float = -math.inf, high: float = math.inf) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """`value` as a float. Fails with a usage error that names the expected range."""
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
    """A path with `~` expanded: shells expand it in `--data ~/x`, but not in `--data=~/x`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The expanded path, converted by click's type."""
        if isinstance(value, str) and value.startswith("~"):
            value = os.path.expanduser(value)  # noqa: PTH111 — Path would normalise the rest
        return super().convert(value, param, ctx)


class NamedOption(click.Option):
    """An option whose values are the names of a registry.

    registry: a reference `module:name`, imported when help is shown or a name is completed.  `{names}` in the help
    stands for the names.
    """

    def __init__(self, *args: Any, registry: str, **options: Any) -> None:
        super().__init__(*args, shell_complete=completion.names(registry), **options)
        self.registry = registry

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and its help with all names, those of plugins too."""
        self.help = (self.help or "").replace("{names}", ", ".join(load(self.registry).names()))
        return super().get_help_record(ctx)


finite_float = FiniteFloat()
share = FiniteFloat(0, 1)


class Duration(NumberType):
    """A duration such as `45s`, `90m`, `2h` or `1h30m`, converted to seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds, or a usage error that says what was expected."""
        try:
            return seconds_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


F = TypeVar("F", bound=Callable[..., Any])


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
    """Adds --recipe, --data and --set to a command that works on runs; `DataSource` interprets them."""
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
    """Adds --recipe and --data as in `runs_options`."""
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
    """Parsed `--set data.key=value`. Raises UsageError for other keys."""
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
        cls=NamedOption,
        registry="ensemble.tracking:trackers",
        metavar="TRACKER",
        help="Tell a tracker of every run: {names}. mlflow: at MLFLOW_TRACKING_URI, else <runs>/mlflow.db.",
    )(command)


@dataclass(frozen=True)
class Execution:
    """How a command trains: device, members at a time, tracker."""

    device: str | None = None
    jobs: int | None = None
    track: str | None = None
    track_weights: bool = False


def with_execution(command: Callable[..., Any]) -> Callable[..., Any]:
    """Pass --device, --jobs, --track and --track-weights to a command as one `execution`."""

    @wraps(command)
    def packed(
        *args: Any,
        device: str | None,
        jobs: int | None,
        track: str | None,
        track_weights: bool,
        **options: Any,
    ) -> Any:
        return command(*args, execution=Execution(device, jobs, track, track_weights), **options)

    return packed


def parse_settings(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """Parsed `--set key=value`, with values as YAML. Raises RecipeError that names the option."""
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


def set_option(command: F) -> F:
    """Adds --set for keys of a recipe."""
    return click.option(
        "--set",
        "settings_",
        multiple=True,
        shell_complete=completion.keys,
        metavar="KEY=VALUE",
        help="A key that wins over every member's.",
    )(command)


def training_project(
    settings: Settings,
    recipe: Path | None,
    data: Path | None,
    overrides: Mapping[str, Any],
    execution: Execution | None = None,
) -> Project:
    """The project of a command that trains: of --recipe, else --data, else ens.yaml, else the digits."""
    from ensemble.api.project import Project

    return Project.for_training(recipe, data, overrides, **_workspace_options(settings, execution or Execution()))


def runs_project(
    settings: Settings,
    recipe: Path | None = None,
    data: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    execution: Execution | None = None,
    *,
    trains: bool = False,
) -> Project:
    """The project of a command on runs: as for training, with the data of the newest run before the digits."""
    from ensemble.api.project import Project

    options = _workspace_options(settings, execution or Execution())
    return Project.for_runs(recipe, data, overrides or {}, trains=trains, **options)


def _workspace_options(settings: Settings, execution: Execution) -> dict[str, Any]:
    """Raises EnsError if the packages of the tracker are not installed."""
    tracking = tracked(settings, execution.track, execution.track_weights)
    return {"runs": settings.runs, "device": execution.device, "jobs": execution.jobs, "track": tracking}


def tracked(settings: Settings, track: str | None, weights: bool) -> Tracking | None:
    """The tracking of --track, None without it. Raises EnsError if its packages are not installed."""
    if track is None:
        if weights:
            raise click.UsageError("--track-weights needs --track mlflow")
        return None
    from ensemble.tracking import tracking

    return tracking(track, settings.runs, weights)
