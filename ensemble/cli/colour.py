"""Colour where a person looks, and where it was not refused: NO_COLOR, then FORCE_COLOR, then the terminal."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def wants_colour() -> bool | None:
    """False where NO_COLOR is set (no-color.org), True where FORCE_COLOR is, else None: the terminal decides."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def colours(stream: TextIO | None = None) -> bool:
    """Whether text on `stream`, stdout unless given, may have colours."""
    wanted = wants_colour()
    dumb = os.environ.get("TERM") == "dumb"
    return (stream or sys.stdout).isatty() and not dumb if wanted is None else wanted
