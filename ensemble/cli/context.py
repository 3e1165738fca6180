"""What every command is given: the settings of the whole command line, and a way to say something aside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ensemble.tracking.base import Tracking


@dataclass(frozen=True)
class Settings:
    """runs: the folder of runs.  verbose: show tracebacks.  track: who else is told of runs."""

    runs: Path
    verbose: bool
    track: Tracking | None = None


def note(text: str) -> None:
    """One line on stderr: tables and ids alone go to stdout."""
    click.echo(text, err=True)
