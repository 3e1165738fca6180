"""Compare the test sets that runs have predicted with those on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.core.errors import DataError, MismatchedRuns, first_few, one_line
from ensemble.runs.origin import data_arguments, data_of, run_command
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from ensemble.data.load import OnDisk
    from ensemble.recipe.data_spec import DataSpec


@dataclass(frozen=True)
class Change:
    """A run whose predictions of `split` do not match the images on disk. current: the test set on disk."""

    run: Run
    split: str
    current: OnDisk

    @property
    def difference(self) -> str:
        """The differences between the images predicted and those on disk, as text."""
        predicted = set(self.run.predictions(self.split).ids.tolist())
        unreadable = predicted & set(self.current.unread)
        kinds = (
            ("new", self.current.ids - predicted),
            ("not readable", unreadable),
            ("gone", predicted - self.current.ids - unreadable),
        )
        differences = [f"{label}: {first_few(sorted(ids), 3)}" for label, ids in kinds if ids]
        counts = f"{len(predicted)} images predicted, {len(self.current.ids)} there now"
        return f"{counts}; {'; '.join(differences) or 'the same ids, other content or labels'}"


@dataclass(frozen=True)
class Comparison:
    """changed: the outdated predictions.  note: why no comparison was possible, or empty.

    unread: split -> ids of unreadable images, which were left out.
    """

    changed: tuple[Change, ...] = ()
    note: str = ""
    unread: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def refusal(self, data: DataSpec, folder: Path, next_step: str) -> MismatchedRuns:
        """The error for `changed`, with the command to type first. next_step: what to do after it."""
        runs = [change.run for change in self.changed]
        return refusal(self.changed[0], runs, runs, data, folder, next_step)


def compared(runs: Sequence[Run], data: DataSpec | None, folder: Path, split: str | None = None) -> Comparison:
    """Compare the test predictions of `runs` with the test sets of `data` on disk, or with `split` alone.

    A missing test set is no change, as every step after training works without images. Raises UnreadableFiles for
    images that exist but cannot be read.
    """
    if data is None or data.form == "digits" or not any(_tests(run) for run in runs):
        return Comparison()
    # imported late, so that runs without images do not load the recipe reader
    from ensemble.data.file_hashes import UnreadableFiles
    from ensemble.data.load import current_tests

    try:
        current = current_tests(data, folder)
        current = {name: items for name, items in current.items() if split in (None, name)}
    except UnreadableFiles:
        raise
    except DataError as error:
        return Comparison(
            note=f"the test images are not compared with those that were predicted: {one_line(error)}"
        )
    unread = {name: items.unread for name, items in current.items() if items.unread}
    return Comparison(tuple(changes(runs, current)), unread=unread)


def changes(runs: Sequence[Run], current: Mapping[str, OnDisk]) -> list[Change]:
    """One Change for each run and test set of `current` whose predictions are outdated."""
    return [
        Change(run, split, current[split])
        for run in runs
        for split in _tests(run)
        if split in current and _differs(run, split, current[split])
    ]


def _tests(run: Run) -> list[str]:
    return [split for split in run.splits() if split.split("-")[0] == "test"]


def _differs(run: Run, split: str, current: OnDisk) -> bool:
    recorded = run.record.data.tests.get(split)
    if recorded is not None:
        return bool(recorded != current.fingerprint)
    return set(run.predictions(split).ids.tolist()) != current.ids  # an import, whose images are unknown


def refusal(
    change: Change, runs: Sequence[Run], sources: Sequence[Run], data: DataSpec, folder: Path, next_step: str
) -> MismatchedRuns:
    """The error for outdated predictions of `runs`. change: that of the first run.

    sources: the runs that have to predict the new images.  next_step: what to do after that.
    """
    names = first_few(dict.fromkeys(run.id for run in runs))
    command = repredict_command(sources, data, folder)
    problem = (
        f"{names}: predictions of {change.split} are not of the images now in {one_line(data.path)}"
        f" ({change.difference})"
    )
    return MismatchedRuns(
        f"{problem}; {', then '.join([*([command] if command else []), *([next_step] if next_step else [])])}"
    )


def repredict_command(runs: Sequence[Run], data: DataSpec | None, folder: Path) -> str:
    """The commands that make `runs` predict the test sets of `data`, by default their own; empty without runs.

    For a complete run, `ens train` only predicts the test sets that lack predictions.
    """
    trained = [run for run in runs if not run.is_import]
    imported = [run_command(run, folder) or run.id for run in runs if run.is_import]
    commands = [_train_command(run, data, folder) for run in trained]
    parts = [f"type `{' && '.join(dict.fromkeys(commands))}`"] if commands else []
    return ", ".join([*parts, *(f"import its new predictions: `{command}`" for command in dict.fromkeys(imported))])


def _train_command(run: Run, data: DataSpec | None, folder: Path) -> str:
    arguments = [] if data is None else data_arguments(data_of(run), data)
    return run_command(run, folder, arguments) or f"the command that trained {run.id}"
