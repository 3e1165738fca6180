"""`ens sweep`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, current, parse_settings, say_source, track_options, tracked
from ensemble.cli.terminal import Settings, as_json_text, markdown, note
from ensemble.core.errors import EnsError, RecipeError, abbreviated, one_line

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.file import RecipeFile
    from ensemble.recipe.trials import Grid
    from ensemble.runs.run import Run

    Runs = dict[tuple[str, ...], list[Run]]
    Read = Callable[[Mapping[str, Any]], RecipeFile]
    Train = Callable[[Grid], dict[str, EnsError]]
    RunsOf = Callable[[Grid], Runs]


@click.command()
@click.argument("recipe", type=HomePath(path_type=Path), required=False)
@click.option(
    "--grid",
    "grids",
    shell_complete=completion.keys,
    multiple=True,
    metavar="KEY=V1,V2,...",
    help="Values of a key; the last key's are the columns.",
)
@click.option(
    "--search",
    "ranges",
    multiple=True,
    shell_complete=completion.keys,
    metavar="KEY=LOW:HIGH[:log]",
    help="A range for a guided search.",
)
@click.option("--trials", type=click.IntRange(1), help="Members that a guided search trains. [default: 20]")
@click.option(
    "--metric",
    shell_complete=completion.metrics,
    help="What the table shows. [default: the recipe's, else accuracy]",
)
@click.option("--seed", "seeds", type=int, multiple=True, help="A seed; several give mean and deviation.")
@click.option("--data", type=HomePath(path_type=Path), help="A folder of images, instead of the recipe's.")
@click.option(
    "--set",
    "settings_",
    multiple=True,
    shell_complete=completion.keys,
    metavar="KEY=VALUE",
    help="A key that wins over every member's.",
)
@click.option("--device", help="cpu, cuda, cuda:1, mps. [default: the best there is]")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Members trained at the same time.")
@click.option("--retry", is_flag=True, help="Train runs again that failed.")
@click.option("--dry-run", is_flag=True, help="List the cells and how long they take, and stop.")
@click.option(
    "--out", type=HomePath(path_type=Path), help="A folder for the table. [default: <runs>/sweeps/<name>]"
)
@track_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    settings: Settings,
    recipe: Path | None,
    grids: tuple[str, ...],
    ranges: tuple[str, ...],
    trials: int | None,
    metric: str | None,
    seeds: tuple[int, ...],
    data: Path | None,
    settings_: tuple[str, ...],
    device: str | None,
    jobs: int | None,
    retry: bool,
    dry_run: bool,
    out: Path | None,
    track: str | None,
    track_weights: bool,
    as_json: bool,
) -> None:
    """Train a recipe for every combination of values, and print the table; without values, of its members.

    What is complete is not trained again, so a stopped sweep goes on, and a larger one keeps what it has. The table
    is saved as Markdown, CSV and a picture.

    \b
    ens sweep recipes/benign-malignant-grid.yaml
    ens sweep recipe.yaml --grid augment=none,flip-hv,brightness --grid unfreeze=2,4,6,8,10 --seed 0 --seed 1
    ens sweep recipe.yaml --search lr=0.0001:0.1:log --search dropout=0:0.7 --trials 20
    """
    from ensemble.cli.terminal import load_with_progress
    from ensemble.metrics import check_name

    settings = tracked(settings, track, track_weights)
    overrides = parse_settings(settings_) | ({"seeds": list(seeds)} if seeds else {})
    found = current(recipe, data, overrides)
    if not found.members:
        raise RecipeError(f"no member to train: {found.source} names none; type `ens sweep RECIPE`")
    found = replace(found, sweep=_spec(found, grids, ranges, trials, metric))
    check_name(found.sweep.metric)
    names = {member.name for member in found.members}
    if (found.sweep.grid and found.sweep.search) or not (found.sweep.grid or found.sweep.search or len(names) > 1):
        raise RecipeError(
            "--grid KEY=V1,V2,... or --search KEY=LOW:HIGH expected, here or under `sweep:`, or several members"
        )
    say_source(found)

    def read(keys: Mapping[str, Any]) -> RecipeFile:
        return current(recipe, data, overrides | dict(keys))

    dataset = load_with_progress(found.data, settings.runs)
    folder = out or settings.runs / "sweeps" / _name(found, dataset)
    if found.sweep.search and dry_run:
        raise RecipeError("a guided search decides as it goes; --dry-run is for --grid")

    def train(grid: Grid) -> dict[str, EnsError]:
        from ensemble.cli.train import train_recipes

        _, errors = train_recipes(
            settings,
            grid.members,
            dataset,
            device=device,
            workers=jobs,
            retry=retry,
            dry_run=dry_run,
            list_runs=dry_run,
        )
        return errors

    def runs_of(grid: Grid) -> Runs:
        from ensemble.training.jobs.train import run_of

        return {
            cell.place: [
                run for member in cell.members if (run := run_of(member, dataset.fingerprint, settings.runs))
            ]
            for cell in grid.cells
        }

    if found.sweep.search:
        _search(found, dataset, read, train, runs_of, folder, as_json)
    else:
        _grid(found, dataset, read, train, runs_of, None if dry_run else folder, as_json)


def _spec(
    found: RecipeFile, grids: Sequence[str], ranges: Sequence[str], trials: int | None, metric: str | None
) -> Any:
    """The recipe's `sweep`, with what the command line says."""
    from ensemble.recipe.file import sweep_section

    raw = found.sweep.model_dump()
    if grids or ranges:
        raw |= {"grid": _values(grids), "search": _ranges(ranges)}
    given = {"trials": trials, "metric": metric}
    return sweep_section(raw | {key: value for key, value in given.items() if value is not None}, "command line")


def _values(grids: Sequence[str]) -> dict[str, list[Any]]:
    values: dict[str, list[Any]] = {}
    for one in grids:
        ((key, listed),) = parse_settings([one], "--grid").items()
        # `none,flip` is one YAML word, `[none, flip]` a list, `2` a number
        if not isinstance(listed, list):
            listed = parse_settings([f"{key}=[{one.partition('=')[2]}]"], "--grid")[key]
        values[key] = listed
    return values


def _ranges(ranges: Sequence[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in ranges:
        key, _, text = one.partition("=")
        parts = text.split(":")
        try:
            found[key.strip()] = [float(parts[0]), float(parts[1]), *parts[2:]]
        except (ValueError, IndexError):
            raise RecipeError(f"--search {one!r} found, key=low:high or key=low:high:log expected") from None
    return found


def _name(found: RecipeFile, dataset: Dataset) -> str:
    """The same for the same question about the same data, whatever its seeds."""
    from ensemble.core.files import sha256_json

    asked = found.sweep.model_dump(include={"grid", "search"}, mode="json")
    members = sorted({str(member.name) for member in found.members})
    return f"{Path(found.source).stem}-{sha256_json([asked, members, dataset.fingerprint])[:8]}"


def _grid(
    found: RecipeFile,
    dataset: Dataset,
    read: Read,
    train: Train,
    runs_of: RunsOf,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Train every cell, then write and print the table; no folder for a dry run."""
    from ensemble.recipe.trials import grid_of
    from ensemble.report.sweep import sweep_table
    from ensemble.training.jobs.train import failure

    grid = grid_of(found.sweep.grid, read)
    note(f"{len(grid.cells)} cells, {len(grid.members)} members")
    errors = train(grid)
    runs = runs_of(grid)
    done = sum(map(len, runs.values()))
    if folder and done:
        table = sweep_table(grid, runs, found.sweep.metric)
        _mark(runs[table.best.place], f"best of {len(grid.cells)} cells")
        others = {"table.csv": table.csv(), "runs.csv": table.runs_csv()}
        told = {"fingerprint": dataset.fingerprint, "metric": table.metric}
        _write(folder, table.markdown(), others, table.picture(), **told)
        click.echo(as_json_text(table.facts()) if as_json else markdown(table.markdown()), nl=as_json)
        note(f"best: {abbreviated(table.best.runs)}")
    if errors:
        raise failure(errors, done)


def _search(
    found: RecipeFile,
    dataset: Dataset,
    read: Read,
    train: Train,
    runs_of: RunsOf,
    folder: Path,
    as_json: bool,
) -> None:
    """Train as many trials as asked, then write and print the table of them."""
    from ensemble.metrics import find
    from ensemble.recipe.trials import grid_of, label, search
    from ensemble.report.sections.sweeps import TrialTable
    from ensemble.report.sweep import sweep_table

    metric = find(found.sweep.metric, dataset.classes.tolist())

    def cell_of(values: Mapping[str, Any]) -> Grid:
        return grid_of({key: [value] for key, value in values.items()}, read)

    number = count(1)

    def evaluate(values: Mapping[str, Any]) -> float:
        note(
            f"trial {next(number)} of at most {found.sweep.trials}: "
            + ", ".join(f"{key} {label(value)}" for key, value in values.items())
        )
        grid = cell_of(values)
        for error in train(grid).values():
            note(f"failed: {one_line(error)}")
            raise error
        table = sweep_table(grid, runs_of(grid), found.sweep.metric)
        return fmean(cell.mean for cell in table.cells.values())

    spec = found.sweep
    tried = search(spec.search, spec.trials, folder / "journal.log", evaluate, higher=metric.higher)
    table = TrialTable(spec.metric, metric.higher, tuple(spec.search), tuple(tried))
    for runs in runs_of(cell_of(table.best.values)).values():
        _mark(runs, f"best of {len(tried)} trials")
    told = {"fingerprint": dataset.fingerprint, "metric": table.metric}
    _write(folder, table.markdown(), {"trials.csv": table.csv()}, table.picture(), **told)
    click.echo(as_json_text(table.facts()) if as_json else markdown(table.markdown()), nl=as_json)


def _mark(runs: Sequence[Run], why: str) -> None:
    """Say in the runs that the validation rows have chosen them, which makes their score there look better."""
    from ensemble.runs.writing import mark_chosen

    for run in runs:
        mark_chosen(run, why)


def _write(
    folder: Path, table: str, others: Mapping[str, str], picture: bytes, *, fingerprint: str, metric: str
) -> None:
    from ensemble.core.files import json_text, write_atomically

    contents: dict[str, str | bytes] = {"table.md": table, **others, "table.png": picture}
    contents["sweep.json"] = json_text({"schema": 1, "fingerprint": fingerprint, "metric": metric})
    for name, content in contents.items():
        write_atomically(folder / name, content)
    note(f"written: {', '.join(contents)} in {folder}")
