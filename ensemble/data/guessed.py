"""What was guessed of data, and the names that guesses go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ensemble.data.splitnames import words_of
from ensemble.recipe.schema import DataSpec

TABLES = (".csv", ".tsv")
IMAGE_FOLDERS = ("images", "image", "imgs", "img")


@dataclass(frozen=True)
class Guess:
    """spec: what the data most likely is.  reasons: why, for a key of `data`.

    sample: a sample submission beside it.
    format: of a submission, by the sample's columns.  remarks: what was seen and has no key.
    questions: (key, its candidates), of what could not be told.
    group: the column that seems to say what belongs together.
    """

    spec: DataSpec
    reasons: Mapping[str, str] = field(default_factory=dict)
    sample: Path | None = None
    format: str = "kaggle"
    remarks: Sequence[str] = ()
    questions: Sequence[tuple[str, str]] = ()
    group: str | None = None


def tables_in(folder: Path) -> dict[str, str]:
    """The names of a folder's tables without their ending -> with it."""
    return {Path(name).stem: name for name in reversed(files_in(folder)) if name.lower().endswith(TABLES)}


def files_in(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.iterdir()) if path.is_file() and path.name[0] != "."]


def is_sample(name: str) -> bool:
    text = "".join(words_of(name))
    return "submission" in text or text.startswith(("samplesub", "submit"))
