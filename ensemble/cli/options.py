"""Options that several commands share, and what they stand for when they are left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ensemble.cli.context import Settings
    from ensemble.recipe.file import RecipeFile
    from ensemble.runs.run import Run

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_RECIPE = Path("ens.yaml")


def data_options(command: F) -> F:
    """Adds --recipe and --data."""
    command = click.option(
        "--data",
        type=click.Path(path_type=Path),
        help="A folder of images or a CSV, instead of the recipe's data.",
    )(command)
    return click.option(
        "--recipe",
        type=click.Path(path_type=Path),
        help="A recipe file. [default: ens.yaml where there is one, else the digits]",
    )(command)


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
    from ensemble.tracking.base import tracking

    return replace(settings, track=tracking(settings.runs, weights))


def has_recipe(recipe: Path | None, data: Path | None) -> bool:
    """Whether anything names the data and the settings; else the built-in digits and every default hold."""
    return recipe is not None or data is not None or DEFAULT_RECIPE.is_file()


def current(recipe: Path | None, data: Path | None, overrides: Mapping[str, Any] | None = None) -> RecipeFile:
    """The recipe in force: --recipe, else --data alone, else ens.yaml, else the built-in digits.

    overrides: keys that win over those of every member. Raises RecipeError or DataError.
    """
    from ensemble.recipe.file import RecipeFile, read_recipe_file

    member_keys, data_keys = split_overrides(overrides or {})
    path = recipe or (DEFAULT_RECIPE if data is None and DEFAULT_RECIPE.is_file() else None)
    if path is None:
        return RecipeFile(data=_with(_data(data), data_keys), source=str(data or "the built-in digits"))
    found = read_recipe_file(path, overrides=member_keys)
    spec = found.data
    if data is not None:
        fits = spec.form != "digits" and data.is_dir()
        spec = spec.model_copy(update={"path": str(data)}) if fits else _data(data)
    spec = _with(spec, data_keys)
    if spec != found.data:
        found = read_recipe_file(path, data=spec, overrides=member_keys)
    return found


def run_or_newest(settings: Settings, name: str | None) -> Run:
    """The run called `name`, else the newest ensemble of ens.yaml's data, else of the newest run's; says which.

    Raises DataError where there is none.
    """
    from ensemble.runs.run import named_run

    if name is not None:
        return named_run(settings.runs, name)
    from ensemble.combine.candidates import newest_ensemble

    if has_recipe(None, None):
        from ensemble.data.load import current_fingerprint

        fingerprint = current_fingerprint(current(None, None).data, settings.runs)
    else:
        from ensemble.report.sections.subject import newest_data

        fingerprint = newest_data(settings.runs).fingerprint
    run = newest_ensemble(settings.runs, fingerprint)
    click.echo(f"RUN is {run.id}, the newest ensemble", err=True)
    return run


def split_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys of members, and keys of `data` (written `data.key`) without their prefix."""
    data = {key.removeprefix("data."): value for key, value in overrides.items() if key.startswith("data.")}
    return {key: value for key, value in overrides.items() if not key.startswith("data.")}, data


def _data(path: Path | None) -> Any:
    from ensemble.recipe.schema import DataSpec

    if path is None:
        return DataSpec()
    from ensemble.data.guess import guess_spec

    return guess_spec(path)


def _with(spec: Any, keys: Mapping[str, Any]) -> Any:
    if not keys:
        return spec
    from ensemble.recipe.problems import refuse, validated
    from ensemble.recipe.schema import DataSpec

    problems: list[str] = []
    merged = validated(DataSpec, {**spec.model_dump(), **keys}, "data", problems)
    refuse(problems, "--set")
    return merged


def parse_settings(settings: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """`--set key=value`, the value read as YAML. Raises RecipeError that names the option."""
    import yaml

    from ensemble.errors import RecipeError
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
