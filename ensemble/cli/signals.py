"""Ctrl-C and SIGTERM end a command in time, whatever it is doing.

Python runs a signal's handler between two steps of Python code in the main thread. That thread may be in C++ for a
long time, may wait for compilers when torch.compile makes code, or may be in library code that swallows every
exception. So a thread hears of the signal too, and ends the process where it is still there after `GRACE` seconds.
Nothing is lost that a kill would not lose as well: files are renamed when they are whole, locks are the system's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from pathlib import Path
from types import FrameType

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
