"""Runs side by side: tables, a conclusion from the numbers, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import DataError, EnsError, one_line
from ensemble.core.files import write_atomically
from ensemble.runs.origin import named_run

if TYPE_CHECKING:
    from ensemble.api.workspace import Workspace
    from ensemble.report.compare import Pair, Side
    from ensemble.runs.run import Run


@dataclass(frozen=True, repr=False)
class ComparedRuns:
    """Runs side by side.

    folder: where tables and figures were written.
    texts: the tables as Markdown: of all runs, and of two runs class by class.
    """

    sides: tuple[Side, ...]
    pair: Pair | None
    folder: Path
    texts: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Everything as plain values."""
        from ensemble.report.compare import members_facts

        return {**members_facts(list(self.sides)), "pair": self.pair and self.pair.facts()}

    def frame(self) -> Any:
        """A row for each run, as a pandas DataFrame."""
        import io

        from pandas import read_csv

        from ensemble.report.compare import members_csv

        return read_csv(io.StringIO(members_csv(list(self.sides))))

    def __repr__(self) -> str:
        return "\n".join(self.texts)

    def _repr_html_(self) -> str:
        from ensemble.report.html import fragment

        return fragment("Comparison", [], preformatted="\n".join(self.texts))


def compare(
    workspace: Workspace,
    names: Sequence[str] | None,
    *,
    out: Path | None = None,
    mistakes: int = 12,
    figures: bool = True,
) -> ComparedRuns:
    """As Project.compare. names: None for every complete run of the data set with validation predictions."""
    from ensemble.report.compare import Pair, members_csv, members_markdown, sides

    chosen = [named_run(workspace.runs_folder, name) for name in names] if names else _all(workspace)
    compared = sides(chosen)
    folder = out or workspace.runs_folder / "compare"
    pair = Pair(*compared) if len(compared) == 2 else None
    texts = [members_markdown(compared), *([pair.markdown()] if pair else [])]
    write_atomically(folder / "members.md", texts[0])
    write_atomically(folder / "members.csv", members_csv(compared))
    if pair:
        write_atomically(folder / "pair.md", texts[1])
        write_atomically(folder / "pair.csv", pair.csv())
    if figures:
        with workspace.listener as listener:
            _figures(folder, compared)
            for done, side in enumerate(compared, 1):
                _own_figures(workspace, side, mistakes)
                listener.progress("drawing", done, len(compared))
    return ComparedRuns(tuple(compared), pair, folder, tuple(texts))


def _all(workspace: Workspace) -> list[Run]:
    """The complete runs with validation predictions of the project's data set."""
    from ensemble.runs.origin import usable_runs

    source = workspace.source
    usable = [run for run in usable_runs(source.runs) if run.has("valid") and not run.is_fold]
    if not usable:
        raise DataError(f"no complete run in {source.runs} has validation predictions; type `ens train`")
    source.announce()
    chosen = [run for run in usable if run.fingerprint == source.fingerprint]
    if not chosen:
        raise DataError(f"no complete run of {source.name} in {source.runs}; type `ens train`, or name runs")
    if len(chosen) < len(usable):
        workspace.listener.note(
            f"{len(usable) - len(chosen)} runs of other data are left out; name runs to compare those"
        )
    return chosen


def _figures(folder: Path, sides: Sequence[Side]) -> None:
    from ensemble.report import figures
    from ensemble.runs.history import history

    trained = {side.run.id: points for side in sides if (points := history(side.run))}
    if trained:
        write_atomically(folder / "curves.png", figures.curves(trained))
    rows = {side.run.id: side.rows for side in sides}
    write_atomically(folder / "reliability.png", figures.reliability(rows))
    write_atomically(folder / "roc_pr.png", figures.roc_and_precision(rows))
    if len(sides) == 2:
        write_atomically(folder / "confusion.png", figures.confusions(rows))


def _own_figures(workspace: Workspace, side: Side, mistakes: int) -> None:
    from ensemble.report import figures
    from ensemble.runs.history import history

    folder, rows = side.run.path / "figures", {side.run.id: side.rows}
    points = history(side.run)
    if points:
        write_atomically(folder / "curves.png", figures.curves({side.run.id: points}))
    write_atomically(folder / "confusion.png", figures.confusions(rows))
    write_atomically(folder / "roc_pr.png", figures.roc_and_precision(rows))
    write_atomically(folder / "reliability.png", figures.reliability(rows))
    shown = side.run.record.shown
    if shown:
        picture = figures.distribution(side.rows.classes, shown["before"], shown["after"])
        write_atomically(folder / "classes.png", picture)
    if mistakes:
        _mistakes(workspace, side, folder / "mistakes.png", mistakes)


def _mistakes(workspace: Workspace, side: Side, path: Path, count: int) -> None:
    """The images of the rows that are most surely wrong, where the data is still where it was."""
    from ensemble.report import figures
    from ensemble.report.sections.mistakes import pictures

    try:
        images = pictures(side.run, side.rows, count, workspace.load_quietly)
    except EnsError as error:
        workspace.listener.note(f"{side.run.id}: no pictures of its mistakes ({one_line(error)})")
        return
    if images:
        write_atomically(path, figures.gallery(images, f"{side.run.id}: most surely wrong"))
