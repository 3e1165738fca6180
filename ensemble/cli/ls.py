"""`ens ls`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ensemble.cli.options import runs_project
from ensemble.cli.terminal import BAD, BEST, DIM, Settings, Style, as_json_text, table
from ensemble.core.table import Cell, duration, interval, millions, milliseconds

if TYPE_CHECKING:
    from ensemble.api.models import Leaderboard
    from ensemble.runs.leaderboard import Row

HEADER = ("run", "kind", "arch", "accuracy", "honest", "95% interval", "apparent")
COST = ("params", "time", "an image")


@click.command()
@click.option("--all", "everything", is_flag=True, help="List the folds of each folds run too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(settings: Settings, everything: bool, as_json: bool) -> None:
    """List members and ensembles with scores and cost, the best first.

    \b
    ens ls
    ens ls --json
    """
    board = runs_project(settings).runs(folds=everything)
    if as_json:
        click.echo(as_json_text(board.facts()))
    else:
        print_leaderboard(board)


def print_leaderboard(board: Leaderboard) -> None:
    """Print the table, or a hint if there are no runs."""
    if board.rows:
        click.echo(_text(board.rows))
    else:
        click.echo(f"no runs in {board.folder}; type `ens train`, or `ens demo`", err=True)


def _text(rows: Sequence[Row]) -> str:
    many_data_sets = len({row.fingerprint for row in rows if row.fingerprint}) > 1
    chosen = any(row.chosen_on_valid for row in rows)
    leaky = any(row.leaks for row in rows)
    unfinished = any(row.status != "complete" for row in rows)
    optional = [("data", many_data_sets), ("chosen on valid", chosen), ("leaks", leaky), ("status", unfinished)]
    header = (*HEADER, *COST, *(name for name, visible in optional if visible))
    styles = {index: style for index, row in enumerate(rows) if (style := _style(row, index))}
    return table(header, [_cells(row, [visible for _, visible in optional]) for row in rows], styles)


def _style(row: Row, index: int) -> Style:
    if row.status != "complete":
        return BAD if row.status == "failed" else DIM
    return BEST if index == 0 else {}


def _cells(row: Row, visible: list[bool]) -> list[Cell]:
    from ensemble.data.leaks import total

    honest = "" if row.honest is None else f"{row.honest:.4f}"
    if row.honest is not None and row.metric != "accuracy":
        honest += f" {row.metric}"
    optional = (row.fingerprint[:8], ", ".join(row.chosen_on_valid), total(row.leaks), row.status)
    return [
        row.id,
        row.kind,
        row.arch or "",
        row.accuracy,
        honest,
        interval(row.low, row.high),
        row.apparent,
        millions(row.parameters),
        duration(row.seconds),
        milliseconds(row.seconds_per_image),
        *(cell for cell, is_visible in zip(optional, visible, strict=True) if is_visible),
    ]
