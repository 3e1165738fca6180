"""timm's names: what is known about them, and the network behind each."""

from __future__ import annotations

from difflib import get_close_matches
from functools import partial
from typing import Any

import timm
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg, is_model, model_entrypoint
from torch import nn

from ensemble.architectures import Architecture, Stats, architectures
from ensemble.errors import RecipeError, first_few
from ensemble.models.skeleton import Skeleton
from ensemble.models.timm_body import cut_timm, renamed
from ensemble.recipe.schema import Recipe

_SMALL_STEMS = ("timm.models.resnet", "timm.models.densenet", "timm.models.efficientnet")


def timm_architecture(name: str) -> Architecture:
    """The architecture of a timm name, with or without a tag or `timm/` before it. Raises RecipeError."""
    plain = _known(name)
    config = get_pretrained_cfg(plain)
    return Architecture(
        builder=partial(_build, plain),
        stats=Stats(tuple(config.mean), tuple(config.std)),
        source="timm",
        weights_url=config.url or None,
        hub_repo=config.hf_hub_id,
        hub_file=config.hf_hub_filename,
        small_stem=model_entrypoint(plain).__module__ in _SMALL_STEMS,
    )


def _known(name: str) -> str:
    """`name` without `timm/`, when timm has it and its tag; else RecipeError with the nearest names."""
    plain = name.removeprefix("timm/")
    base, _, tag = plain.partition(".")
    if not is_model(base):
        ours = architectures.names()
        near = get_close_matches(base, sorted({*ours, *timm.list_models()}), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(ours)}"
        raise RecipeError(f"unknown architecture {name!r}, also to timm {timm.__version__}; {hint}")
    tags = [known.partition(".")[2] for known in get_arch_pretrained_cfgs(base)]
    if tag and tag not in tags:
        raise RecipeError(f"timm's {base} has no weights tagged {tag!r}; its tags are {first_few(tags)}")
    return plain


def _build(name: str, recipe: Recipe) -> Skeleton:
    whole = timm.create_model(name, pretrained=False)
    return Skeleton(whole, partial(cut_timm, name), _head_names(whole), renamed)


def _head_names(whole: nn.Module) -> tuple[str, ...]:
    """The first components of the classifiers' names: `fc`, `head` of `head.fc`, `head` and `head_dist`."""
    config: dict[str, Any] = whole.pretrained_cfg  # type: ignore[assignment]
    classifier = config.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return tuple({name.split(".")[0]: None for name in names})
