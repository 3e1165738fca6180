"""Memory that runs out, and memory that is kept."""

from __future__ import annotations

import contextlib
import ctypes
import sys

import torch

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def out_of_memory(error: BaseException) -> bool:
    """Whether the device or the computer had no memory left for a tensor."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what is asked for next, rather than hand it back to the system.

    Every large tensor would else be new memory, which the system fills with zeros page by page at the first touch.
    Only glibc has these settings (mallopt); elsewhere nothing is done.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)
