"""`ens check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli import completion
from ensemble.cli.options import HomePath, current, data_options, data_settings, say_source
from ensemble.cli.terminal import Settings, bars, note

if TYPE_CHECKING:
    from ensemble.data.dataset import Dataset
    from ensemble.recipe.schema import DataSpec

PICTURES = 24


@click.command()
@data_options
@click.option(
    "--set",
    "settings_",
    multiple=True,
    shell_complete=completion.keys,
    metavar="data.KEY=VALUE",
    help="A key of the recipe's data.",
)
@click.option(
    "--out", type=HomePath(dir_okay=False, path_type=Path), help="The page. [default: <runs>/check/NAME.html]"
)
@click.option(
    "--pictures", type=click.IntRange(0), default=PICTURES, show_default=True, help="Of each sort on the page."
)
@click.option("--pairs", type=HomePath(dir_okay=False, path_type=Path), help="A CSV of every pair of copies.")
@click.option("--groups", type=HomePath(dir_okay=False, path_type=Path), help="A CSV of what to keep in one fold.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.pass_obj
def command(
    settings: Settings,
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    out: Path | None,
    pictures: int,
    pairs: Path | None,
    groups: Path | None,
    as_json: bool,
) -> None:
    """Look at the data before any training: counts, odd files, copies, leaks between splits, labels.

    Copies are exact (the same bytes), near (encoded again, resized, slightly cropped, brighter) or mirrored. Later
    `ens train` warns of what leaks, and `ens ls` shows it.

    \b
    ens check
    ens check --data photos --pairs pairs.csv
    ens check --recipe recipes/isic-codabench.yaml --json
    """
    from ensemble.check.checking import check
    from ensemble.core.files import json_text, write_atomically
    from ensemble.report.check_page import check_page
    from ensemble.report.check_text import check_text, groups_csv, pairs_csv

    found = current(recipe, data, data_settings(settings_))
    say_source(found)
    name = _name(found.data)
    page = out or settings.runs / "check" / f"{name}.html"
    files = [path for path in (page, pairs, groups) if path]
    if len(set(files)) < len(files):
        raise click.UsageError("--out, --pairs and --groups name the same file; each needs its own")
    lines: list[str] = []
    with bars() as stage:
        dataset, unreadable, notes = _loaded(found.data, settings.runs)
        result = check(
            dataset, settings.runs, name, unreadable=unreadable, notes=notes, stage=stage, say=lines.append
        )
    try:
        write_atomically(page, check_page(result, pictures))
        if pairs:
            write_atomically(pairs, pairs_csv(result.items, result.copies))
        if groups:
            write_atomically(groups, groups_csv(result.items, result.groups))
    finally:  # what took so long to find is worth a look where nothing can be written too
        click.echo(json_text(result.facts()) if as_json else check_text(result), nl=False)
    for line in lines:
        note(line)
    note("written to " + ", ".join(str(path) for path in files))


def _name(spec: DataSpec) -> str:
    return "digits" if spec.form == "digits" else Path(spec.path).resolve().name or "data"


def _loaded(spec: DataSpec, runs: Path) -> tuple[Dataset, dict[str, str], list[str]]:
    """The data without what cannot be read, what that is, and what listing it had to say."""
    from ensemble.cli.terminal import load_with_progress
    from ensemble.data.file_hashes import UnreadableFiles
    from ensemble.data.load import load_dataset

    notes: list[str] = []
    strict = spec.model_copy(update={"skip_unreadable": False})
    try:
        return load_with_progress(strict, runs, notes.append), {}, notes
    except UnreadableFiles as error:
        dataset = load_dataset(spec.model_copy(update={"skip_unreadable": True}), runs)
        return dataset, error.problems, notes
