"""Whether the test sets that runs have predicted are those that are on disk now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.core.errors import DataError, MismatchedRuns, first_few, one_line
from ensemble.runs.origin import data_of, data_words, made_by
from ensemble.runs.run import Run

if TYPE_CHECKING:
    from ensemble.data.load import OnDisk
    from ensemble.recipe.schema import DataSpec


@dataclass(frozen=True)
class Change:
    """A run whose predictions of `split` are not of the images that are there now. there: what is there."""

    run: Run
    split: str
    there: OnDisk

    @property
    def what(self) -> str:
        """What of the images is not as it was predicted."""
        have = set(self.run.predictions(self.split).ids.tolist())
        broken = have & set(self.there.unread)
        kinds = (("new", self.there.ids - have), ("not readable", broken), ("gone", have - self.there.ids - broken))
        listed = [f"{word}: {first_few(sorted(ids), 3)}" for word, ids in kinds if ids]
        counts = f"{len(have)} images predicted, {len(self.there.ids)} there now"
        return f"{counts}; {'; '.join(listed) or 'the same ids, other content or labels'}"


@dataclass(frozen=True)
class Comparison:
    """changed: what is not as it was predicted.  note: why nothing could be compared, or empty.

    unread: the ids of images that cannot be read and so were left out, by split.
    """

    changed: tuple[Change, ...] = ()
    note: str = ""
    unread: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def refusal(self, data: DataSpec, folder: Path, then: str) -> MismatchedRuns:
        """The error for `changed`, with what to type first. then: what to do after that."""
        runs = [change.run for change in self.changed]
        return refusal(self.changed[0], runs, runs, data, folder, then)


def compared(runs: Sequence[Run], data: DataSpec | None, folder: Path, split: str | None = None) -> Comparison:
    """Compare what `runs` have predicted with the test sets that `data` has now, or with `split` alone.

    Images that are not there any more change nothing, as everything after training works without them. Raises
    UnreadableFiles for images that are there and cannot be read.
    """
    if data is None or data.form == "digits" or not any(_tests(run) for run in runs):
        return Comparison()
    # after what needs no images, so that runs of nobody's images load no reader of recipes
    from ensemble.data.file_hashes import UnreadableFiles
    from ensemble.data.load import current_tests

    try:
        there = current_tests(data, folder)
        there = {name: items for name, items in there.items() if split in (None, name)}
    except UnreadableFiles:
        raise
    except DataError as error:
        return Comparison(
            note=f"the test images are not compared with those that were predicted: {one_line(error)}"
        )
    unread = {name: items.unread for name, items in there.items() if items.unread}
    return Comparison(tuple(changes(runs, there)), unread=unread)


def changes(runs: Sequence[Run], there: Mapping[str, OnDisk]) -> list[Change]:
    """Every test set of `there` that a run has predicted otherwise."""
    return [
        Change(run, split, there[split])
        for run in runs
        for split in _tests(run)
        if split in there and _differs(run, split, there[split])
    ]


def _tests(run: Run) -> list[str]:
    return [split for split in run.splits() if split.split("-")[0] == "test"]


def _differs(run: Run, split: str, there: OnDisk) -> bool:
    recorded = run.facts.get("data", {}).get("tests", {}).get(split)
    if recorded is not None:
        return bool(recorded != there.fingerprint)
    return set(run.predictions(split).ids.tolist()) != there.ids  # an import: nobody knows its images


def refusal(
    change: Change, runs: Sequence[Run], sources: Sequence[Run], data: DataSpec, folder: Path, then: str
) -> MismatchedRuns:
    """The error for `runs`, of which `change` is the first.

    sources: the runs that have to predict the new images.  then: what to do after that.
    """
    names = first_few(dict.fromkeys(run.id for run in runs))
    typed = predicting_anew(sources, data, folder)
    what = (
        f"{names}: predictions of {change.split} are not of the images now in {one_line(data.path)} ({change.what})"
    )
    return MismatchedRuns(f"{what}; {', then '.join([*([typed] if typed else []), *([then] if then else [])])}")


def predicting_anew(runs: Sequence[Run], data: DataSpec | None, folder: Path) -> str:
    """What to type so that `runs` predict the test sets of `data`, by default their own; empty for no runs.

    `ens train` has a complete run predict a test set that it does not know, and trains nothing.
    """
    trained = [run for run in runs if run.kind != "import"]
    imported = [made_by(run, folder) or run.id for run in runs if run.kind == "import"]
    typed = [_trained(run, data, folder) for run in trained]
    parts = [f"type `{' && '.join(dict.fromkeys(typed))}`"] if typed else []
    return ", ".join([*parts, *(f"import its new predictions: `{line}`" for line in dict.fromkeys(imported))])


def _trained(run: Run, data: DataSpec | None, folder: Path) -> str:
    more = [] if data is None else data_words(data_of(run), data)
    return made_by(run, folder, more) or f"the command that trained {run.id}"
