"""A listener that keeps what it is told."""

from __future__ import annotations

from ensemble.core.events import Listener


class Noted(Listener):
    """Appends every note to a list."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes

    def note(self, line: str) -> None:
        self.notes.append(line)
