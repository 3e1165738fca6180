"""One thread for linear algebra."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

QUICK = ("uniform", "accuracy")
"""Rules without linear algebra, which need not wait for its library to be found."""


def one_thread(rule: str) -> AbstractContextManager[Any]:
    """A context in which BLAS has one thread, where the rule of this name uses it.

    So the last digits of weights do not depend on the number of cores, and many small products do not wait for
    threads that a busy machine never wakes.
    """
    if rule in QUICK:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(limits=1, user_api="blas")
    return limits
