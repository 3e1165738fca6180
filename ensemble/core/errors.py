"""The errors that a user can cause, each with its exit code.

A message is one line: what was found, what was expected, and what to type next.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from typing import Any


class EnsError(Exception):
    """Base class of the errors. The command ends with `exit_code` and the message."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        # not `args`: fastai replaces the `args` of an error that passes through a callback
        return self.message


class MissingWeights(EnsError):
    """Pretrained weights are neither on disk nor downloadable, or do not fit the network."""


class TrainingFailed(EnsError):
    """A member could not be trained: a loss, a weight or a probability is not finite.

    stage, epoch: where it failed, counted from 0 as in history.csv; None after the last epoch.
    """

    def __init__(self, message: str, stage: int | None = None, epoch: int | None = None) -> None:
        super().__init__(message)
        self.stage, self.epoch = stage, epoch


class MembersFailed(EnsError):
    """Some members could not be trained. members: the complete ones.  sweep: the table of a sweep."""

    members: Sequence[Any] = ()
    sweep: Any = None


class RecipeError(EnsError):
    """A recipe, an option or a number on the command line is not valid."""

    exit_code = 2


class DataError(EnsError):
    """The images, labels, ids or classes are invalid."""

    exit_code = 3


class MismatchedRuns(DataError):
    """The runs cannot be combined: their classes, ids or targets differ."""


class NothingPassed(EnsError):
    """No member is above the threshold, and no fallback was requested."""

    exit_code = 4


class RunLocked(EnsError):
    """Another process holds the lock of this run."""

    exit_code = 5


def one_line(text: object) -> str:
    """`text` with line breaks and control characters escaped, so that a message stays one line."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(text))


def abbreviated(names: Iterable[object], limit: int = 10) -> str:
    """Like `first_few`, with a higher limit and without quotes: `a, b and 7 more`."""
    texts = [str(name) for name in names]
    rest = len(texts) - limit
    return ", ".join(texts[:limit]) + (f" and {rest} more" if rest > 0 else "")


def first_few(names: Iterable[object], limit: int = 5) -> str:
    """The first `limit` names, quoted, and the number of the others: `'a', 'b' and 7 more`."""
    items: Sequence[object] = list(names)
    text = ", ".join(repr(str(name)) for name in items[:limit])
    rest = len(items) - limit
    return f"{text} and {rest} more" if rest > 0 else text


_PIP_NAMES = {"python_multipart": "python-multipart"}
"""Modules whose distribution has another name on PyPI."""


def require(purpose: str, *modules: str) -> None:
    """Raise EnsError with the pip command for the modules that cannot be imported. purpose: `an export`."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(_PIP_NAMES.get(name, name))
    if missing:
        raise EnsError(f"{purpose} needs {' and '.join(missing)}; type `python -m pip install {' '.join(missing)}`")
