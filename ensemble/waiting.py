"""How OpenMP's threads wait for each other: not for long, as other processes want the core too.

A thread that is done waits for the others in a loop that keeps its core busy, by default for milliseconds. Where
another process has one of the cores, the thread that is waited for does not run, and the loop takes its time.
"""

from __future__ import annotations

import os
import sys

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""What decides how GNU's OpenMP waits, which torch's wheels bring; a user who sets one of them is not overruled."""
ROUNDS = 1_000
"""Rounds of that loop before a thread sleeps: what libgomp has for more threads than cores; else it has 300,000."""


def wait_briefly() -> None:
    """Set the variable, which counts where torch is not loaded yet; child processes inherit it."""
    if "torch" not in sys.modules and not any(name in os.environ for name in VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(ROUNDS)
