"""Processes that tests start and end."""

from __future__ import annotations

import signal
import sys
from typing import Any


def _restore() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


HEARS_SIGNALS: dict[str, Any] = {} if sys.platform == "win32" else {"preexec_fn": _restore}
"""For `Popen`: a shell has its background jobs ignore Ctrl-C, and their children inherit that."""
