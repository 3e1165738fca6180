"""Recipe keys that are valid alone and exclude each other: a table of tests and messages.

What a method excludes, and the keys that only some methods take, are declared where it is registered; they are
checked in `ensemble.recipe.methods`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ensemble.recipe.resolve import has_own_head, training_stages
from ensemble.recipe.schema import ResolvedRecipe

CONTRADICTIONS: Sequence[tuple[Callable[[ResolvedRecipe], object], str]] = (
    (
        lambda recipe: recipe.stages and (recipe.epochs or recipe.frozen_epochs or recipe.lr != "auto"),
        "`stages` say the epochs and rates; leave out epochs, frozen_epochs and lr",
    ),
    (
        lambda recipe: not training_stages(recipe),
        "epochs and frozen_epochs are both 0; at least one epoch expected",
    ),
    (
        lambda recipe: recipe.progressive and recipe.progressive >= recipe.image_size,
        "progressive: {recipe.progressive} found, less than image_size ({recipe.image_size}) expected",
    ),
    (
        lambda recipe: (
            recipe.cache_features and not any(stage.train == "head" for stage in training_stages(recipe))
        ),
        "cache_features is for a head that trains alone; ask for frozen_epochs, or leave it out",
    ),
    (
        lambda recipe: (
            recipe.cache_features and (recipe.augment != "none" or recipe.mixing != "none" or recipe.progressive)
        ),
        "cache_features needs the same images in every epoch: augment: none, no mixing, no progressive",
    ),
    (
        lambda recipe: recipe.head == "linear" and has_own_head(recipe.arch),
        "{recipe.arch} has a head of its own; leave out head: linear",
    ),
    (
        lambda recipe: recipe.head_fit == "regression" and recipe.head != "linear",
        "head_fit: regression fits a linear head; ask for head: linear, or head_fit: steps",
    ),
    (
        lambda recipe: recipe.head_fit == "regression" and recipe.cache_features,
        "head_fit: regression computes features once anyway; leave out cache_features, or head_fit: steps",
    ),
    (lambda recipe: recipe.unfreeze and recipe.stages, "`stages` say what trains; leave out unfreeze"),
    (lambda recipe: recipe.full and recipe.folds, "`full` and `folds` exclude each other; refit without folds"),
    (
        lambda recipe: recipe.fold is not None and (recipe.folds is None or recipe.fold >= recipe.folds),
        "fold {recipe.fold} found, a fold below `folds` ({recipe.folds}) expected",
    ),
)
"""(whether a resolved recipe has the contradiction, the message as a format string of the recipe)."""


def contradictions(recipe: ResolvedRecipe) -> Iterable[str]:
    """The contradictions of a resolved recipe, without those of its methods; the methods are not imported."""
    for test, message in CONTRADICTIONS:
        if test(recipe):
            yield message.format(recipe=recipe)
    yield from undecidable(recipe, choices_of_keys(recipe))


def choices_of_keys(recipe: ResolvedRecipe) -> list[str]:
    """What a training chooses by the validation rows because of the recipe's keys, whatever its methods choose."""
    return ["early stopping"] * bool(recipe.early_stopping) + ["best epoch"] * (recipe.keep == "best")


def undecidable(recipe: ResolvedRecipe, choices: Sequence[str]) -> Iterable[str]:
    """Problems of a recipe that has no validation rows in every epoch to make its `choices` by."""
    if recipe.full and choices:
        yield (
            f"a refit has no validation rows to decide by ({', '.join(choices)}); leave out early_stopping, keep,"
            " schedule: plateau and average: soup, and fix the epochs"
        )
    if choices and recipe.valid_every > 1:
        yield f"every epoch is judged ({', '.join(choices)}); leave valid_every at 1"
