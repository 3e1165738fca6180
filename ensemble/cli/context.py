"""What every command is given: the settings of the whole command line, and a way to say something aside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click


@dataclass(frozen=True)
class Settings:
    """runs: the folder of runs.  verbose: show tracebacks."""

    runs: Path
    verbose: bool


def note(text: str) -> None:
    """One line on stderr: tables and ids alone go to stdout."""
    click.echo(text, err=True)
