"""Resolution of presets and defaults, and the hash of a run.

The README gives the reasons for the presets. They do not apply to networks that are trained from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from ensemble.core.files import sha256_json
from ensemble.recipe.architectures import architectures
from ensemble.recipe.schema import Recipe, ResolvedRecipe, Stage

DEFAULT_PRESET = "good"
IMAGE_SIZE = 224
"""Default side of the images in pixels, the one of most ImageNet weights."""

SCRATCH: Mapping[str, Any] = {
    "head": "dense",
    "dropout": 0.5,
    "freeze_norms": False,
    "rescale_filters": False,
    "head_fit": "steps",
    "early_rate": 0.01,
    "clip": 0.0,
}
"""The defaults from scratch, and those of fine-tuning in pipeline 1, which a recipe can set explicitly."""

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
"""Incremented when the result of the same recipe changes; part of the hash of every run."""

_NOT_HASHED = {"name", "data", "weights", "preset"}


def resolved(recipe: Recipe) -> ResolvedRecipe:
    """`recipe` with every default that depends on another key filled in."""
    digits = recipe.data.form == "digits"
    weights = recipe.weights or ("none" if digits or not _has_weights(recipe.arch) else "imagenet")
    scratch = weights == "none"
    defaults: dict[str, Any] = {
        "name": recipe.arch.rsplit("/", 1)[-1].replace(":", "-"),
        "weights": weights,
        "image_size": 32 if digits else IMAGE_SIZE,
        # fastai's augmentation flips images, and a flipped digit is not a digit
        "augment": "orientation" if digits else "standard",
    }
    defaults |= SCRATCH if scratch else PRESETS[recipe.preset or DEFAULT_PRESET]
    if has_own_head(recipe.arch):
        defaults |= {key: SCRATCH[key] for key in ("head", "dropout", "head_fit")}
    if recipe.head == "dense" or recipe.cache_features:
        defaults["head_fit"] = "steps"  # the regression supports neither
    defaults["preset"] = DEFAULT_PRESET
    if recipe.stages:
        defaults.pop("epochs", None)
    else:
        # with a random body, frozen epochs would train the head on noise
        defaults["frozen_epochs"] = 0 if scratch else 1
        defaults.setdefault("epochs", (12 if digits else 30) if scratch else 3)
    missing = {key: value for key, value in defaults.items() if getattr(recipe, key) is None}
    # without validation: the values are valid, and nested models stay the same objects
    return ResolvedRecipe.model_construct(**{**recipe.__dict__, **missing})


def _has_weights(arch: str) -> bool:
    """False for the networks of this package, which have no ImageNet weights; True for any name of timm."""
    if arch not in architectures:
        return True
    architecture = architectures.get(arch)()
    return bool(architecture.weights_url or architecture.hub_repo)


def has_own_head(arch: str) -> bool:
    """Whether the architecture is one of this package, whose head is part of the network."""
    return arch in architectures and architectures.get(arch)().own_head


def training_stages(recipe: ResolvedRecipe) -> tuple[Stage, ...]:
    """The stages of a resolved recipe: `stages`, or head then everything, as in `fine_tune` of fastai.

    The second stage has half the rate of the first, unless the head is fitted by regression. `auto` is resolved
    when its stage begins.
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


def head_by_regression(recipe: ResolvedRecipe) -> bool:
    """Whether the head of the frozen body is fitted by regression instead of gradient steps."""
    return recipe.head_fit == "regression"


def hashed_keys(recipe: ResolvedRecipe) -> dict[str, Any]:
    """The keys of a resolved recipe that its hash covers: `arch`, `seed` and all that differ from the default."""
    base = resolved(Recipe(data=recipe.data, arch=recipe.arch, weights=recipe.weights))
    changed = {
        key: value
        for key, value in recipe.model_dump(mode="json").items()
        if key not in _NOT_HASHED and getattr(recipe, key) != getattr(base, key)
    }
    if recipe.data.background is not None:  # the colour behind transparent pixels changes the images
        changed["background"] = list(recipe.data.background)
    if recipe.folds and recipe.data.split_seed:  # it decides the folds, which the fingerprint does not cover
        changed["split_seed"] = recipe.data.split_seed
    return {"arch": recipe.arch, "seed": recipe.seed, **changed}


def run_hash(
    recipe: ResolvedRecipe, fingerprint: str, weights_sha256: str | None, teacher: Mapping[str, Any] | None = None
) -> str:
    """The full SHA-256 of a member: its resolved recipe, data, initial weights and the pipeline number.

    teacher: identification of the teacher of a student, or None.
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


def as_mapping(recipe: ResolvedRecipe) -> Mapping[str, Any]:
    """A resolved recipe as plain values for recipe.yaml, with all defaults."""
    return recipe.model_dump(mode="json")
