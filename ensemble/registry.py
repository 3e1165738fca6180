"""One registry type for everything that a decorated function can add by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Generic, TypeVar

from ensemble.errors import RecipeError, abbreviated

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and what they stand for.

    kind: the noun used in messages, such as "combining rule".

    >>> metrics: Registry[Callable[..., float]] = Registry("metric")
    >>> @metrics.register("accuracy")
    ... def accuracy(probs, targets): ...
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that files its function under `name`; a name is taken once."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self._entries[name] = entry
            return entry

        return add

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> list[str]:
        """Every name, in the order of registration."""
        return list(self._entries)

    def get(self, name: str) -> T:
        """The entry called `name`. Raises RecipeError that names the nearest ones."""
        if name in self._entries:
            return self._entries[name]
        raise RecipeError(f"unknown {self.kind} {name!r}{did_you_mean(name, self._entries)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'resnet34'?` where something is near, else the list of what is known."""
    candidates = list(known)
    near = get_close_matches(name, candidates, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {abbreviated(candidates, 30)}"
