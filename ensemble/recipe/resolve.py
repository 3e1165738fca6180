"""What the presets stand for: the keys of fine-tuning that a recipe leaves out, by name.

The README says why. A network from scratch has nothing to keep, and none of them concerns it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ensemble.core.files import sha256_json
from ensemble.recipe.architectures import architectures
from ensemble.recipe.schema import Recipe, Stage

DEFAULT = "good"

SCRATCH: Mapping[str, Any] = {
    "head": "dense",
    "dropout": 0.5,
    "freeze_norms": False,
    "rescale_filters": False,
    "head_fit": "steps",
    "early_rate": 0.01,
    "clip": 0.0,
}
"""From scratch; and what fine-tuning did in pipeline 1, where a recipe writes it out."""

_GOOD: Mapping[str, Any] = {
    "head": "linear",
    "dropout": 0.5,
    "freeze_norms": "statistics",
    "rescale_filters": True,
    "head_fit": "regression",
    "early_rate": 1.0,
    "clip": 1.0,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {**_GOOD, "epochs": 1},
    "good": _GOOD,
    "best": {**_GOOD, "epochs": 10},
}


PIPELINE = 2
"""Raised by a change that alters what the same recipe computes; part of every run's hash."""

_NOT_HASHED = {"name", "data", "weights", "preset"}


def resolved(recipe: Recipe) -> Recipe:
    """`recipe` with every default that depends on another key filled in."""
    digits = recipe.data.form == "digits"
    weights = recipe.weights or ("none" if digits or not _has_weights(recipe.arch) else "imagenet")
    scratch = weights == "none"
    fill: dict[str, Any] = {
        "name": recipe.arch.rsplit("/", 1)[-1].replace(":", "-"),
        "weights": weights,
        "image_size": 32 if digits else 224,
        # fastai's augmentation mirrors images, and a mirrored digit is no digit
        "augment": "orientation" if digits else "standard",
    }
    fill |= SCRATCH if scratch else PRESETS[recipe.preset or DEFAULT]
    if has_own_head(recipe.arch):
        fill |= {key: SCRATCH[key] for key in ("head", "dropout", "head_fit")}
    if recipe.head == "dense" or recipe.cache_features:
        fill["head_fit"] = "steps"  # what they ask for can be had by no regression
    fill["preset"] = DEFAULT
    if recipe.stages:
        fill.pop("epochs", None)
    else:
        # frozen epochs on a random body would train a head on noise
        fill["frozen_epochs"] = 0 if scratch else 1
        fill.setdefault("epochs", (12 if digits else 30) if scratch else 3)
    missing = {key: value for key, value in fill.items() if getattr(recipe, key) is None}
    return recipe.model_copy(update=missing)


def _has_weights(arch: str) -> bool:
    """False for our own networks, which nobody has trained on ImageNet; timm's names are taken at their word."""
    if arch not in architectures:
        return True
    known = architectures.get(arch)()
    return bool(known.weights_url or known.hub_repo)


def has_own_head(arch: str) -> bool:
    """Whether a network is one of ours, whose head is a part of it."""
    return arch in architectures and architectures.get(arch)().own_head


def training_stages(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages of a resolved recipe: its own, or head then everything, as fastai's `fine_tune` does.

    The second stage has half the first one's rate, where that had one; `auto` is decided when its stage begins.
    """
    if recipe.stages:
        return recipe.stages
    stages = []
    if recipe.frozen_epochs:
        stages.append(Stage(train="head", epochs=recipe.frozen_epochs, lr=recipe.lr, schedule=recipe.schedule))
    if recipe.epochs:
        halved = bool(stages) and not head_by_regression(recipe)
        lr = recipe.lr / 2 if halved and recipe.lr != "auto" else recipe.lr
        train: Literal["head", "all"] | int = recipe.unfreeze or "all"
        stages.append(Stage(train=train, epochs=recipe.epochs, lr=lr, schedule=recipe.schedule))
    return tuple(stages)


def head_by_regression(recipe: Recipe) -> bool:
    """Whether a frozen body's head is fitted, and not trained by steps."""
    return recipe.head_fit == "regression"


def chosen_on_valid(recipe: Recipe) -> list[str]:
    """What of this member the validation rows decide while it trains; nothing with the defaults."""
    scheduled = any(stage.schedule == "plateau" for stage in training_stages(recipe))
    return [
        *(["early stopping"] if recipe.early_stopping else []),
        *(["best epoch"] if recipe.keep == "best" else []),
        *(["rates"] if scheduled else []),
        *(["soup"] if recipe.average == "soup" else []),
    ]


def hashed_keys(recipe: Recipe) -> dict[str, Any]:
    """The keys of a resolved recipe that its hash covers: `arch` and whatever is not at its default."""
    base = resolved(Recipe(data=recipe.data, arch=recipe.arch, weights=recipe.weights))
    changed = {
        key: value
        for key, value in recipe.model_dump(mode="json").items()
        if key not in _NOT_HASHED and getattr(recipe, key) != getattr(base, key)
    }
    if recipe.data.background is not None:  # what lies behind transparent pixels changes what is seen
        changed["background"] = list(recipe.data.background)
    if recipe.folds and recipe.data.split_seed:  # it decides the folds of data that the fingerprint says are one
        changed["split_seed"] = recipe.data.split_seed
    return {"arch": recipe.arch, "seed": recipe.seed, **changed}


def run_hash(
    recipe: Recipe, fingerprint: str, weights_sha256: str | None, teacher: Mapping[str, Any] | None = None
) -> str:
    """The full sha256 of a member: its resolved recipe, data, initial weights and the pipeline's number.

    teacher: what a student learns from, beside all that.
    """
    return sha256_json(
        {
            "recipe": hashed_keys(recipe),
            "data": fingerprint,
            "weights": weights_sha256,
            "pipeline": PIPELINE,
            **({} if teacher is None else {"teacher": teacher}),
        }
    )


def as_mapping(recipe: Recipe) -> Mapping[str, Any]:
    """A resolved recipe as plain values for recipe.yaml, every default written out."""
    return recipe.model_dump(mode="json")
