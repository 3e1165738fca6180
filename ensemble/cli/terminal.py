"""stdout, stderr, colours, progress bars, and signals that end a command.

Python runs a signal's handler between two steps of Python code in the main thread. That thread may be in C++ for a
long time, may wait for compilers when torch.compile makes code, or may be in library code that swallows every
exception. So a thread hears of the signal too, and ends the process where it is still there after `GRACE` seconds.
Nothing is lost that a kill would not lose as well: files are renamed when they are whole, locks are the system's.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import click

from ensemble.core.table import Cell, Table

if TYPE_CHECKING:
    pass


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


Style = Mapping[str, Any]
"""Keywords of `click.style`."""

BEST: Style = {"fg": "green"}
DIM: Style = {"dim": True}
BAD: Style = {"fg": "red"}


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], styles: Mapping[int, Style] | None = None) -> str:
    """A Table as text. styles: of whole rows, by number; they, and the bold header, are for terminals alone."""
    plain = Table(header, rows).lines()
    if not colours():
        return "\n".join(plain)
    first, *rest = plain
    shown = [click.style(line, **(styles or {}).get(at, {})) for at, line in enumerate(rest)]
    return "\n".join([click.style(first, bold=True), *shown])


def markdown(text: str) -> str:
    """A Markdown table, and what is below it, for stdout; a terminal has the header bold and the best green."""
    if not colours():
        return text
    first, rest = text.split("\n", 1)
    bold = re.sub(r"\*\*(.+?)\*\*", lambda found: "    " + click.style(found[1], bold=True, fg="green"), rest)
    return f"{click.style(first, bold=True)}\n{bold}"


GRACE = 20.0
"""Seconds that a command has to end by itself."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_heard: set[int] = set()


def end_in_time() -> None:
    """Bind Ctrl-C and SIGTERM, in the main thread. A second one of the same kind ends the process at once."""
    for one in _SIGNALS:
        signal.signal(one, _raise)
    hear, tell = socket.socketpair()  # a pipe would not do on Windows
    tell.setblocking(False)
    signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(hear, tell), name="signals", daemon=True).start()


def _raise(signum: int, frame: FrameType | None) -> None:
    # an exception unwinds the locks and half-written files; the run goes on from its last checkpoint
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + signum)


def _watch(hear: socket.socket, tell: socket.socket) -> None:
    """Read the numbers of signals as they come. `tell` is only held, so that it stays open."""
    while numbers := hear.recv(16):
        for signum in numbers:
            # a service that finishes what it has begun has bound them to something else
            if signum in _SIGNALS and signal.getsignal(signum) is _raise:
                if signum in _heard:
                    _end(signum)
                _heard.add(signum)
                timer = threading.Timer(GRACE, _end, (signum,))
                timer.daemon = True
                timer.start()


def _end(signum: int) -> None:
    """End this process and those that it has begun, without unwinding anything."""
    import multiprocessing

    for child in _children(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGTERM)
    for process in multiprocessing.active_children():
        process.terminate()
    os._exit(128 + signum)


def _children(pid: int) -> list[int]:
    """All that `pid` has begun, such as compilers, where /proc tells."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return [*found, *(below for child in found for below in _children(child))]


@dataclass(frozen=True)
class Settings:
    """runs: the folder of runs.  verbose: show tracebacks."""

    runs: Path
    verbose: bool


def as_json_text(value: Any) -> str:
    """Indented JSON; null for numbers that are not finite."""
    import json

    from ensemble.core.files import without_nan

    return json.dumps(without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)


def note(text: str) -> None:
    """One line on stderr: tables and ids alone go to stdout."""
    click.echo(text, err=True)
