"""The methods that a recipe names, their registries, and what they declare of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ensemble.core.errors import RecipeError
from ensemble.core.registry import Registry, Traits, load
from ensemble.recipe.contradictions import choices_of_keys, undecidable
from ensemble.recipe.resolve import training_stages
from ensemble.recipe.schema import Recipe, ResolvedRecipe

METHODS: Mapping[str, str] = {
    "augment": "ensemble.training.methods.augment:policies",
    "mixing": "ensemble.training.methods.augment:mixings",
    "preprocess": "ensemble.data.preprocess:filters",
    "resize": "ensemble.data.preprocess:resizes",
    "sampler": "ensemble.training.methods.samplers:samplers",
    "loss": "ensemble.training.methods.losses:losses",
    "optimizer": "ensemble.training.methods.optimizers:optimizers",
    "schedule": "ensemble.training.methods.schedules:schedules",
    "average": "ensemble.training.methods.averaging:averages",
    "tta": "ensemble.inference.forward:views",
}
"""Recipe key -> the registry of its values, whose import may take seconds."""


def registry(key: str) -> Registry[Any]:
    """The registry of the values of a key of METHODS; imported now."""
    methods: Registry[Any] = load(METHODS[key])
    return methods


def chosen(recipe: ResolvedRecipe, key: str) -> list[str]:
    """The names that a resolved recipe has under a key of METHODS: several for `a+b`, a list, or stages."""
    if key == "schedule":
        return list(dict.fromkeys(stage.schedule for stage in training_stages(recipe)))
    if key == "augment":
        return recipe.augment.split("+")
    value = getattr(recipe, key)
    return [value] if isinstance(value, str) else list(value)


def _declared(recipe: ResolvedRecipe) -> Iterator[tuple[str, str, Traits]]:
    """(key, name, traits) of every chosen method that exists."""
    for key in METHODS:
        methods = registry(key)
        for name in chosen(recipe, key):
            if name in methods:
                yield key, name, methods.traits(name)


def chosen_on_valid(recipe: ResolvedRecipe) -> list[str]:
    """What this training chooses by the validation rows; nothing with the defaults."""
    declared = (traits.chosen_on_valid for _, _, traits in _declared(recipe))
    return [*choices_of_keys(recipe), *(choice for choice in declared if choice)]


def problems(recipe: ResolvedRecipe) -> Iterable[str]:
    """Unknown methods of a resolved recipe, keys that its methods do not take, and what they exclude."""
    for key in METHODS:
        for name in chosen(recipe, key):
            try:
                registry(key).get(name)
            except RecipeError as error:
                yield str(error)
    for key in METHODS:
        yield from _keys_not_taken(recipe, key)
    for _, name, traits in _declared(recipe):
        yield from (reason.format(name=name) for key, reason in traits.excludes.items() if _is_set(recipe, key))
    yield from undecidable(recipe, chosen_on_valid(recipe))


def _keys_not_taken(recipe: ResolvedRecipe, key: str) -> Iterator[str]:
    """Keys that only other methods of the same kind take."""
    methods, names = registry(key), chosen(recipe, key)
    takers: dict[str, list[str]] = {}
    for name in methods.names():
        for taken in methods.traits(name).keys:
            takers.setdefault(taken, []).append(name)
    for taken, others in takers.items():
        if _is_set(recipe, taken) and not set(names) & set(others):
            chosen_names = ", ".join(names) or "none"
            yield f"{taken} is for {key}: {' or '.join(others)}, {chosen_names} found; leave it out"


def _is_set(recipe: ResolvedRecipe, key: str) -> bool:
    """Whether a key differs from its default."""
    return bool(getattr(recipe, key) != Recipe.model_fields[key].default)
