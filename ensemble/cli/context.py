"""What every command is given: the settings of the whole command line, and a way to say something aside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ensemble.tracking.base import Tracking


@dataclass(frozen=True)
class Settings:
    """runs: the folder of runs.  verbose: show tracebacks.  track: who else is told of runs."""

    runs: Path
    verbose: bool
    track: Tracking | None = None


def as_json_text(value: Any) -> str:
    """Indented JSON; null for numbers that are not finite."""
    import json

    from ensemble.files import without_nan

    return json.dumps(without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)


def note(text: str) -> None:
    """One line on stderr: tables and ids alone go to stdout."""
    click.echo(text, err=True)
