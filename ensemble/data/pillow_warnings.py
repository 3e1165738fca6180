"""What Pillow warns of while it reads an image, told of that image: its own warnings name no file."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_here = threading.local()


@contextmanager
def collected() -> Iterator[list[str]]:
    """A list that the warnings of Pillow in this thread are added to, each once, instead of being printed.

    `warnings.catch_warnings` would not do: it is not safe where threads decode images side by side.
    """
    before = getattr(_here, "messages", None)
    messages: list[str] = []
    _here.messages = messages
    try:
        yield messages
    finally:
        _here.messages = before


_shown = warnings.showwarning


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    messages = getattr(_here, "messages", None)
    if messages is None or "PIL" not in filename:
        _shown(message, category, filename, lineno, file, line)
    elif (text := " ".join(str(message).split())) not in messages:
        messages.append(text)


warnings.showwarning = _show
# each time, not only at the first image
warnings.filterwarnings("always", category=UserWarning, module=r"PIL\.")
