"""One process at a time works on a run; the second is told who holds it.

The lock is the operating system's own, so a killed process never leaves one behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from filelock import FileLock, Timeout

from ensemble.errors import EnsError, RunLocked, one_line
from ensemble.files import write_json


@contextlib.contextmanager
def locked(folder: Path, run_id: str) -> Iterator[None]:
    """Hold `<folder>/.locks/<run_id>` while the block runs. Raises RunLocked that names the holder."""
    locks = folder / ".locks"
    holder = locks / f"{run_id}.json"
    try:
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{run_id}.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise RunLocked(f"{run_id} is in use by {_described(holder)}; wait for it, or stop it") from None
    except OSError as error:
        raise EnsError(f"cannot lock {one_line(locks / run_id)}: {error.strerror or error}") from error
    try:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        write_json(holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": now})
        yield
    finally:
        with contextlib.suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def _described(holder: Path) -> str:
    # The holder writes its name just after it has the lock, so a reader may come too early.
    try:
        facts = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"
