"""Registries: everything that a decorated function can add by name, in this package or in another.

A package adds entries through the entry point group `ensemble.plugins`: each entry point names a module, which is
imported before the first look-up and registers what it has.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import cleandoc
from typing import Any, Generic, TypeVar

from ensemble.core.errors import EnsError, RecipeError, abbreviated, one_line

T = TypeVar("T")

PLUGINS = "ensemble.plugins"
"""The entry point group of packages that add to the registries."""


@dataclass(frozen=True)
class Traits:
    """What a registered method declares of itself.

    keys: the recipe keys that it takes, beside those that hold for all methods of its kind.
    excludes: recipe keys that cannot be set with it, and the reason with what to do instead; `{name}` is its name.
    chosen_on_valid: what it chooses by the validation rows, as written in run.json; None: it does not see them.
    exported: Python text of a function (image, size) -> image, with numpy as `np` and Pillow's Image, ImageFilter
    and ImageOps, by which an export repeats a filter or resize mode; empty: it cannot be exported.
    description: a sentence for the manual; by default the first sentence of its docstring.
    """

    keys: tuple[str, ...] = ()
    excludes: Mapping[str, str] = field(default_factory=dict)
    chosen_on_valid: str | None = None
    exported: str = ""
    description: str = ""


class Registry(Generic[T]):
    """Names and what they stand for.

    kind: the noun used in messages, such as "combining rule".
    modules: those whose import registers the entries of this package; imported before the first look-up, so that
    a registry may stand below the modules that fill it.

    >>> metrics: Registry[Callable[..., float]] = Registry("metric")
    >>> @metrics.register("accuracy")
    ... def accuracy(probs, targets): ...
    """

    def __init__(self, kind: str, modules: Sequence[str] = ()) -> None:
        self.kind = kind
        self._modules = tuple(modules)
        self._entries: dict[str, T] = {}
        self._traits: dict[str, Traits] = {}

    def register(self, name: str, **traits: Any) -> Callable[[T], T]:
        """A decorator that registers its function as `name`. Raises ValueError where the name is taken.

        traits: fields of Traits.
        """
        declared = Traits(**traits)

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self._entries[name], self._traits[name] = entry, declared
            return entry

        return add

    def __contains__(self, name: object) -> bool:
        return name in self._loaded()

    def names(self) -> list[str]:
        """Every name, in the order of registration."""
        return list(self._loaded())

    def get(self, name: str) -> T:
        """The entry called `name`. Raises RecipeError that names the nearest ones."""
        entries = self._loaded()
        if name in entries:
            return entries[name]
        raise RecipeError(f"unknown {self.kind} {name!r}{did_you_mean(name, entries)}")

    def traits(self, name: str) -> Traits:
        """What the entry called `name` declares. Raises RecipeError as `get`."""
        self.get(name)
        return self._traits[name]

    def description(self, name: str) -> str:
        """What the entry called `name` does, in a sentence without a final stop; empty where nothing says it."""
        text = self.traits(name).description or cleandoc(getattr(self.get(name), "__doc__", None) or "")
        return " ".join(text.split("\n\n")[0].split()).rstrip(".")

    def _loaded(self) -> dict[str, T]:
        """The entries, after the modules and plugins that register them have been imported."""
        with _LOCK:
            modules, self._modules = self._modules, ()  # before, as these modules look things up themselves
            try:
                for module in modules:
                    importlib.import_module(module)
                load_plugins()
            except BaseException:
                self._modules = modules  # a later look-up must not go on with a part of the entries
                raise
        return self._entries


def load(reference: str) -> Any:
    """The object that `package.module:name` stands for, as in an entry point; its module is imported."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


_LOCK = threading.RLock()
_loaded: set[str] = set()


def load_plugins() -> None:
    """Import the modules of the entry point group `ensemble.plugins`, each once in a process.

    Raises EnsError that names a plugin that fails.
    """
    if PLUGINS in _loaded:
        return
    from importlib.metadata import entry_points

    _loaded.add(PLUGINS)  # before, as a plugin may look something up while it is imported
    for point in entry_points(group=PLUGINS):
        try:
            point.load()
        except Exception as error:  # whatever the code of others raises
            _loaded.discard(PLUGINS)
            package = point.dist.name if point.dist else point.value
            raise EnsError(
                f"the plugin {point.name!r} of the package {package} fails: {one_line(str(error)) or error!r};"
                f" update it, or type `python -m pip uninstall {package}`"
            ) from error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'resnet34'?` where something is near, else the list of what is known."""
    candidates = list(known)
    near = get_close_matches(name, candidates, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {abbreviated(candidates, 30)}"
