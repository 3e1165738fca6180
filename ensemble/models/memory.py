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
    signs = ("out of memory", "can't allocate memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in text for sign in signs)


def keep_freed_memory() -> None:
    """Have the C library keep what is freed for what is asked for next, rather than hand it back to the system.

    Every large tensor would else be new memory, which the system fills with zeros page by page at the first touch.
    Only glibc has these settings (mallopt); elsewhere nothing is done.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = _glibc()
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, -1)


def give_freed_memory_back() -> None:
    """Hand what is free now back to the system: the next member may be a smaller one."""
    with contextlib.suppress(OSError, AttributeError):
        _glibc().malloc_trim(0)


def _glibc() -> ctypes.CDLL:
    """Raises OSError where there is none."""
    if not sys.platform.startswith("linux"):
        raise OSError("no glibc")
    return ctypes.CDLL("libc.so.6")
