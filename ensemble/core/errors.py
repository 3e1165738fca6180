"""Every error that a user can cause, with the exit code that it ends in.

A message is one line: what was found, what was expected, what to type next.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any


class EnsError(Exception):
    """Something failed; the command ends with `exit_code` and one line."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        # not `args`: fastai writes its own words over those of an error that passes through a callback
        return self.message


class MissingWeights(EnsError):
    """Pretrained weights are neither on disk nor downloadable, or do not fit."""


class TrainingFailed(EnsError):
    """A member could not be trained: a loss, a weight or a probability is not finite.

    stage, epoch: where, counted from 0 as in history.csv; None after the last epoch.
    """

    def __init__(self, message: str, stage: int | None = None, epoch: int | None = None) -> None:
        super().__init__(message)
        self.stage, self.epoch = stage, epoch


class MembersFailed(EnsError):
    """Some members could not be trained. members: those that are complete.  sweep: their table, of a sweep."""

    members: Sequence[Any] = ()
    sweep: Any = None


class RecipeError(EnsError):
    """A recipe, an option or a number on the command line is not valid."""

    exit_code = 2


class DataError(EnsError):
    """The images, labels, ids or classes are not what they must be."""

    exit_code = 3


class MismatchedRuns(DataError):
    """Runs that cannot be combined: other classes, other ids, other targets."""


class NothingPassed(EnsError):
    """No member is above the threshold and none was to be taken all the same."""

    exit_code = 4


class RunLocked(EnsError):
    """Another process works on this run."""

    exit_code = 5


def one_line(text: object) -> str:
    """`text` with line breaks and control characters escaped, so that a message stays one line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def abbreviated(names: Iterable[object], limit: int = 10) -> str:
    """As `first_few`, more of them and without quotes: `a, b and 7 more`."""
    listed = [str(name) for name in names]
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {rest} more" if rest > 0 else "")


def first_few(names: Iterable[object], limit: int = 5) -> str:
    """The first `limit` names, quoted, and how many more there are: `'a', 'b' and 7 more`."""
    listed: Sequence[object] = list(names)
    shown = ", ".join(repr(str(name)) for name in listed[:limit])
    rest = len(listed) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown


_DISTRIBUTIONS = {"python_multipart": "python-multipart"}
"""What pip calls a module that it knows under another name."""


def require(purpose: str, *modules: str) -> None:
    """Raise EnsError that says what to type where a module cannot be imported. purpose: `an export`."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(_DISTRIBUTIONS.get(name, name))
    if missing:
        raise EnsError(f"{purpose} needs {' and '.join(missing)}; type `python -m pip install {' '.join(missing)}`")
