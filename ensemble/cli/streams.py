"""stdout and stderr as the commands need them, whatever started the process."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path


def prepare_streams() -> None:
    """Have both streams take every text that a command prints.

    Into a pipe or a file goes UTF-8, as every file of ours is: the code page of a Windows machine lacks letters
    that class names have. A terminal keeps its encoding, and shows what it lacks as an escape. A stream that was
    closed before the start, as by cron or pythonw, is one that nobody reads.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 — until the process ends
        elif isinstance(stream, TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            elif stream.encoding.lower().replace("-", "") != "utf8":
                stream.reconfigure(encoding="utf-8")
