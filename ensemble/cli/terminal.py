"""stdout and stderr, colours, tables, and signals that end a command.

Python runs signal handlers between bytecode instructions of the main thread. That thread may spend a long time in
C++, wait for compilers started by torch.compile, or be in library code that swallows every exception. A second
thread therefore receives the signals too, and ends the process if it still runs after `GRACE` seconds. This loses
no more than a kill: files are renamed when complete, and locks are those of the operating system.
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
    """Configure stdout and stderr so that no text raises an encoding error.

    Pipes and files get UTF-8, like all files of this package, as the code page of Windows lacks letters of class
    names. A terminal keeps its encoding, with escapes for missing characters. A stream closed at the start, as
    under cron or pythonw, is replaced by the null device.
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
    """False if NO_COLOR is set (no-color.org), True if FORCE_COLOR is, else None: detect a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def colours(stream: TextIO | None = None) -> bool:
    """Whether text on `stream`, by default stdout, may have colours."""
    preference = wants_colour()
    dumb = os.environ.get("TERM") == "dumb"
    return (stream or sys.stdout).isatty() and not dumb if preference is None else preference


Style = Mapping[str, Any]
"""Keyword arguments of `click.style`."""

BEST: Style = {"fg": "green"}
DIM: Style = {"dim": True}
BAD: Style = {"fg": "red"}


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]], styles: Mapping[int, Style] | None = None) -> str:
    """A Table as text. styles: row number -> style; styles and the bold header are for terminals only."""
    lines = Table(header, rows).lines()
    if not colours():
        return "\n".join(lines)
    header_line, *row_lines = lines
    styled = [click.style(line, **(styles or {}).get(index, {})) for index, line in enumerate(row_lines)]
    return "\n".join([click.style(header_line, bold=True), *styled])


def markdown(text: str) -> str:
    """Markdown text for stdout; on a terminal, with its first line bold and bold text in green."""
    if not colours():
        return text
    header_line, body = text.split("\n", 1)
    styled = re.sub(r"\*\*(.+?)\*\*", lambda match: "    " + click.style(match[1], bold=True, fg="green"), body)
    return f"{click.style(header_line, bold=True)}\n{styled}"


GRACE = 20.0
"""Seconds after a signal in which a command may end by itself."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: set[int] = set()


def handle_signals() -> None:
    """Handle SIGINT and SIGTERM; call in the main thread. A repeated signal ends the process immediately."""
    for signum in _SIGNALS:
        signal.signal(signum, _raise)
    receiver, sender = socket.socketpair()  # on Windows, a wakeup descriptor must be a socket
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(receiver, sender), name="signals", daemon=True).start()


def _raise(signum: int, frame: FrameType | None) -> None:
    # an exception releases locks and removes partial files; the run resumes from its last checkpoint
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + signum)


def _watch(receiver: socket.socket, sender: socket.socket) -> None:
    """Receive signal numbers and start the timer. sender: only referenced, so that it stays open."""
    while numbers := receiver.recv(16):
        for signum in numbers:
            # a service that completes its requests has installed its own handlers
            if signum in _SIGNALS and signal.getsignal(signum) is _raise:
                if signum in _received:
                    _end(signum)
                _received.add(signum)
                timer = threading.Timer(GRACE, _end, (signum,))
                timer.daemon = True
                timer.start()


def _end(signum: int) -> None:
    """End this process and its child processes without unwinding the stack."""
    import multiprocessing

    for child in _children(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGTERM)
    for process in multiprocessing.active_children():
        process.terminate()
    os._exit(128 + signum)


def _children(pid: int) -> list[int]:
    """All descendants of process `pid`, such as compilers, on systems with /proc."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += [int(child) for child in task.read_text().split()]
    return [*children, *(descendant for child in children for descendant in _children(child))]


@dataclass(frozen=True)
class Settings:
    """Global options. runs: the folder of runs.  verbose: show tracebacks."""

    runs: Path
    verbose: bool


def as_json_text(value: Any) -> str:
    """Indented JSON, with null for non-finite numbers."""
    import json

    from ensemble.core.files import without_nan

    return json.dumps(without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)


def note(text: str) -> None:
    """Print a line on stderr, as only results go to stdout."""
    click.echo(text, err=True)
