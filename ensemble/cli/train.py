"""`ens train`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import (
    Duration,
    F,
    current,
    data_options,
    finite_float,
    parse_settings,
    say_source,
    track_options,
    tracked,
    with_members,
)
from ensemble.cli.terminal import Settings, as_json_text, note

if TYPE_CHECKING:
    from ensemble.core.errors import EnsError
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.schema import Recipe
    from ensemble.training.jobs.plan import Job


class Rate(click.ParamType[Any]):
    """`auto` or a number."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "auto" else finite_float.convert(value, param, ctx)


KEYS = (
    click.option(
        "--preset",
        type=click.Choice(["quick", "good", "best"]),
        help="How much time fine-tuning may take. [default: good]",
    ),
    click.option("--image-size", type=int, help="Pixels a side. [default: 224; digits: 32]"),
    click.option("--epochs", type=int, help="Epochs of the whole network."),
    click.option(
        "--frozen-epochs", type=int, help="Epochs of the head alone, before. [default: 1; from scratch: 0]"
    ),
    click.option("--batch-size", type=int, help="Images a batch. [default: 64]"),
    click.option("--lr", type=Rate(), help="The highest learning rate, or `auto` for the finder. [default: auto]"),
    click.option("--weights", help="`imagenet`, `none`, or a file. [default: imagenet; digits: none]"),
    click.option("--folds", type=int, help="Train on k folds; validation rows are then all rows."),
    click.option("--tta", help="Views averaged when predicting: none, flip or flip-shift."),
    click.option(
        "--set",
        "settings_",
        multiple=True,
        shell_complete=completion.keys,
        metavar="KEY=VALUE",
        help="Any other key of a recipe.",
    ),
)
"""Keys of a recipe that have an option of their own."""

HOW = (
    click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]"),
    click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1),
        help="Members trained at a time. [default: on a GPU what is fastest, else 1]",
    ),
    click.option("--retry", is_flag=True, help="Train runs again that failed."),
)


def several(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Adds options, in their order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@click.option(
    "--arch",
    "archs",
    multiple=True,
    shell_complete=completion.archs,
    help="An architecture; may be given several times.",
)
@data_options
@several(KEYS)
@click.option("--seed", "seeds", type=int, multiple=True, help="A seed; several make several members.")
@click.option("--full", is_flag=True, help="Refit on train + valid what the same command without --full justified.")
@several(HOW)
@click.option("--budget", type=Duration(), help="Train what fits into this time and adds most: 90m, 2h, 1h30m.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained and how long it takes, and stop.")
@track_options
@click.option("--json", "as_json", is_flag=True, help="Print the runs and their scores as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    /,
    archs: tuple[str, ...],
    recipe: Path | None,
    data: Path | None,
    seeds: tuple[int, ...],
    settings_: tuple[str, ...],
    device: str | None,
    jobs: int | None,
    retry: bool,
    budget: float | None,
    dry_run: bool,
    full: bool,
    as_json: bool,
    track: str | None,
    track_weights: bool,
    **keys: Any,
) -> None:
    """Train members and print their run ids.

    A complete run is left as it is, an interrupted one goes on where it stopped, to the bit.

    \b
    ens train --arch densenet121
    ens train --arch resnet34 --arch efficientnet_b0 --data photos --epochs 5
    ens train --recipe recipes/cifar10.yaml --seed 0 --seed 1
    ens train --recipe recipes/cifar10.yaml --budget 2h
    ens train --arch resnet34 --set stem=small --set label_smoothing=0.1
    """
    settings = tracked(settings, track, track_weights)
    overrides = {key: value for key, value in keys.items() if value is not None}
    overrides |= parse_settings(settings_) | ({"full": True} if full else {})
    found = chosen_members(archs, recipe, data, list(seeds), overrides)
    say_source(found)
    done, errors = train_members(
        settings, found, device=device, workers=jobs, retry=retry, budget=budget, dry_run=dry_run, quiet=as_json
    )
    click.echo(as_json_text(facts_of(done)) if as_json else "\n".join(done), nl=bool(as_json or done))
    raise_failures(errors, len(done))


def chosen_members(
    archs: tuple[str, ...],
    recipe: Path | None,
    data: Path | None,
    seeds: list[int],
    overrides: dict[str, Any],
) -> RecipeFile:
    """The members to train: the architectures named, on the recipe's defaults, or every member of the recipe."""
    if seeds:
        overrides = {**overrides, "seeds": seeds}
    return named_members(current(recipe, data, overrides), archs, overrides)


def named_members(found: RecipeFile, archs: tuple[str, ...], overrides: dict[str, Any]) -> RecipeFile:
    """The recipe with the architectures that are named as its members, or as it is. Raises RecipeError for none."""
    from ensemble.core.errors import RecipeError

    if archs:
        member_keys = {key: value for key, value in overrides.items() if not key.startswith("data.")}
        return with_members(found, [{**member_keys, "arch": arch} for arch in archs])
    if not found.members:
        raise RecipeError(
            f"no member to train: {found.source} names none; type --arch densenet121, or write members"
        )
    return found


def train_members(
    settings: Settings,
    found: RecipeFile,
    *,
    device: str | None,
    workers: int | None = None,
    retry: bool,
    budget: float | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> tuple[dict[str, Job], dict[str, EnsError]]:
    """Train every member of `found`: the jobs that are complete by run id, and the errors of the others by name.

    quiet: a dry run lists nothing.
    """
    from ensemble.cli.terminal import load_with_progress

    dataset = load_with_progress(found.data, settings.runs)
    warn_of_leaks(dataset, settings.runs)
    return train_recipes(
        settings,
        found.members,
        dataset,
        device=device,
        workers=workers,
        retry=retry,
        budget=budget,
        dry_run=dry_run,
        list_runs=dry_run and not quiet,
    )


def facts_of(done: Mapping[str, Job]) -> list[dict[str, Any]]:
    """The runs and their scores, for JSON."""
    return [{"run": name, "kind": job.kind, **job.run.metrics} for name, job in done.items()]


def raise_failures(errors: Mapping[str, EnsError], done: int) -> None:
    """Raise one error for all, where there are any."""
    if errors:
        from ensemble.training.jobs.train import failure

        raise failure(errors, done)


def warn_of_leaks(dataset: Dataset, runs: Path) -> None:
    """One line on stderr where images of valid or test are in train too."""
    from ensemble.data.leaks import leaks_for_training, warning

    if line := warning(leaks_for_training(dataset, runs), dataset):
        note(line)


def train_recipes(
    settings: Settings,
    recipes: Sequence[Recipe],
    dataset: Dataset,
    *,
    device: str | None,
    workers: int | None = None,
    retry: bool = False,
    budget: float | None = None,
    dry_run: bool = False,
    list_runs: bool = False,
) -> tuple[dict[str, Job], dict[str, EnsError]]:
    """Train `recipes`: the jobs that are complete by run id, and the errors of the others by name.

    list_runs: print what would be trained, and for how long.
    """
    # after the data is known to be good: torch takes seconds to import
    from ensemble.training.jobs.train import plans

    jobs, errors = plans(recipes, dataset.fingerprint, settings.runs)
    if budget is not None:
        planned = [recipe for recipe in recipes if recipe.name not in errors]
        members = _within(budget, planned, dataset, settings, device, not dry_run)
        jobs, _ = plans(members, dataset.fingerprint, settings.runs)
    done, failed = train_jobs(
        settings, jobs, dataset, device=device, workers=workers, retry=retry, dry_run=dry_run, list_runs=list_runs
    )
    return done, errors | failed


def train_jobs(
    settings: Settings,
    jobs: list[Job],
    dataset: Dataset,
    *,
    device: str | None,
    workers: int | None = None,
    retry: bool = False,
    dry_run: bool = False,
    list_runs: bool = False,
) -> tuple[dict[str, Job], dict[str, EnsError]]:
    """As `train_recipes`, from planned jobs."""
    from ensemble.training.jobs.parallel import train_all

    _say_how_long(jobs, dataset, device, list_runs)
    if dry_run:
        _say_batches(jobs, dataset)
        return {}, {}
    outcomes = train_all(
        jobs,
        dataset,
        settings.runs,
        workers=workers,
        device=device,
        retry=retry,
        note=note,
        track=settings.track,
    )
    done = {outcome.job.path.name: outcome.job for outcome in outcomes if outcome.error is None}
    return done, {outcome.job.path.name: outcome.error for outcome in outcomes if outcome.error is not None}


def _within(
    budget: float, recipes: list[Recipe], dataset: Dataset, settings: Settings, device: str | None, keep: bool
) -> list[Recipe]:
    """Those of `recipes` that fit into `budget` seconds, with the epochs that they then have."""
    from ensemble.training.engine.hardware import choose_device
    from ensemble.training.jobs.estimate import duration, within

    chosen = choose_device(device)
    members, choice = within(recipes, dataset, settings.runs, chosen, budget, keep=keep)
    short = [share for share in choice.shares.values() if share < 1]
    epochs = f", {len(short)} of them with {100 * short[0]:.0f} % of the epochs" if short else ""
    note(f"{len(members)} of {len(recipes)} members fit into {duration(budget)}{epochs}")
    return members


def _say_batches(jobs: list[Job], dataset: Dataset) -> None:
    """What training will say of batches that are smaller than a recipe asks for. Raises what training would."""
    from ensemble.training.jobs.plan import view_of
    from ensemble.training.methods.samplers import smaller_batch

    for job in {part.hash: part for top in jobs for part in top.all()}.values():
        if job.kind != "folds" and not job.run.complete:
            view = view_of(job, dataset)
            if why := smaller_batch(job.recipe, view.splits["train"].targets, len(view.classes)):
                note(f"{job.path.name}: {why}")


def _say_how_long(jobs: list[Job], dataset: Dataset, device: str | None, list_runs: bool) -> None:
    """The estimate of every run on stdout where they are listed, and the sum on stderr."""
    from ensemble.core.errors import EnsError
    from ensemble.training.engine.hardware import choose_device
    from ensemble.training.jobs.estimate import Forecast, duration

    forecast, total = Forecast(dataset, choose_device(device)), 0.0
    for job in {part.hash: part for top in jobs for part in top.all()}.values():
        try:
            seconds = forecast.seconds_of_run(job)
        except (EnsError, OSError, RuntimeError, ValueError, MemoryError):  # training it will say what is wrong
            seconds = 0.0
        total += seconds
        if list_runs:
            state = "complete" if job.run.complete else "to train"
            click.echo(f"{job.path.name}\t{job.kind}\t{state}" + (f"\t{duration(seconds)}" if seconds else ""))
    if total:
        note(f"about {duration(total)} of training and predicting")
