"""`ens compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ensemble.cli import completion
from ensemble.cli.current import Current
from ensemble.cli.options import HomePath, data_settings, runs_options
from ensemble.cli.terminal import Settings, as_json_text, bars, markdown, note

if TYPE_CHECKING:
    from ensemble.report.compare import Side
    from ensemble.runs.run import Run


@click.command()
@click.argument("runs", nargs=-1, shell_complete=completion.runs)
@runs_options
@click.option("--out", type=HomePath(path_type=Path), help="Where they go. [default: <runs>/compare]")
@click.option("--mistakes", type=click.IntRange(0), default=12, show_default=True, help="Images most surely wrong.")
@click.option("--no-figures", is_flag=True, help="Tables only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    settings: Settings,
    runs: tuple[str, ...],
    recipe: Path | None,
    data: Path | None,
    settings_: tuple[str, ...],
    out: Path | None,
    mistakes: int,
    no_figures: bool,
    as_json: bool,
) -> None:
    """Put runs side by side: tables, a conclusion from the numbers, and figures.

    Without run ids: every complete run of the data of ens.yaml, else of the newest run. Two runs are also compared
    class by class. Each run's own figures go into its folder.

    \b
    ens compare
    ens compare resnet34-1a2b3c4d densenet121-5e6f7a8b --out comparison
    """
    from ensemble.core.files import write_atomically
    from ensemble.report.compare import Pair, members_csv, members_facts, members_markdown, sides
    from ensemble.runs.origin import named_run

    here = Current(settings.runs, recipe, data, data_settings(settings_))
    chosen = [named_run(settings.runs, name) for name in runs] if runs else _all(here)
    found = sides(chosen)
    folder = out or settings.runs / "compare"
    pair = Pair(*found) if len(found) == 2 else None
    texts = [members_markdown(found), *([pair.markdown()] if pair else [])]
    write_atomically(folder / "members.md", texts[0])
    write_atomically(folder / "members.csv", members_csv(found))
    if pair:
        write_atomically(folder / "pair.md", texts[1])
        write_atomically(folder / "pair.csv", pair.csv())
    if as_json:
        click.echo(as_json_text({**members_facts(found), "pair": pair and pair.facts()}))
    else:
        click.echo("\n".join(map(markdown, texts)), nl=False)
    if not no_figures:
        with bars() as stage:
            _figures(folder, found)
            for done, one in enumerate(found, 1):
                _own_figures(one, mistakes)
                stage("drawing", done, len(found))
    note(f"written to {folder}" + ("" if no_figures else f", and to the figures folder of {len(found)} runs"))


def _all(here: Current) -> list[Run]:
    """The complete runs with validation predictions of the current data set."""
    from ensemble.core.errors import DataError
    from ensemble.runs.origin import usable_runs

    found = [run for run in usable_runs(here.runs) if run.has("valid") and not run.is_fold]
    if not found:
        raise DataError(f"no complete run in {here.runs} has validation predictions; type `ens train`")
    here.announce()
    chosen = [run for run in found if run.fingerprint == here.fingerprint]
    if not chosen:
        raise DataError(f"no complete run of {here.name} in {here.runs}; type `ens train`, or name runs")
    if len(chosen) < len(found):
        note(f"{len(found) - len(chosen)} runs of other data are left out; name runs to compare those")
    return chosen


def _figures(folder: Path, sides: list[Side]) -> None:
    from ensemble.core.files import write_atomically
    from ensemble.report import figures
    from ensemble.runs.history import history

    trained = {one.run.id: points for one in sides if (points := history(one.run))}
    if trained:
        write_atomically(folder / "curves.png", figures.curves(trained))
    rows = {one.run.id: one.rows for one in sides}
    write_atomically(folder / "reliability.png", figures.reliability(rows))
    write_atomically(folder / "roc_pr.png", figures.roc_and_precision(rows))
    if len(sides) == 2:
        write_atomically(folder / "confusion.png", figures.confusions(rows))


def _own_figures(one: Side, mistakes: int) -> None:
    from ensemble.core.files import write_atomically
    from ensemble.report import figures
    from ensemble.runs.history import history

    folder, rows = one.run.path / "figures", {one.run.id: one.rows}
    points = history(one.run)
    if points:
        write_atomically(folder / "curves.png", figures.curves({one.run.id: points}))
    write_atomically(folder / "confusion.png", figures.confusions(rows))
    write_atomically(folder / "roc_pr.png", figures.roc_and_precision(rows))
    write_atomically(folder / "reliability.png", figures.reliability(rows))
    shown = one.run.facts.get("shown")
    if shown:
        picture = figures.distribution(one.rows.classes, shown["before"], shown["after"])
        write_atomically(folder / "classes.png", picture)
    if mistakes:
        _mistakes(one, folder / "mistakes.png", mistakes)


def _mistakes(one: Side, path: Path, count: int) -> None:
    """The images of the rows that are most surely wrong, where the data is still where it was."""
    from ensemble.core.errors import EnsError, one_line
    from ensemble.core.files import write_atomically
    from ensemble.report import figures
    from ensemble.report.sections.mistakes import pictures

    try:
        found = pictures(one.run, one.rows, count)
    except EnsError as error:
        note(f"{one.run.id}: no pictures of its mistakes ({one_line(error)})")
        return
    if found:
        write_atomically(path, figures.gallery(found, f"{one.run.id}: most surely wrong"))
