"""timm's networks by name, and their bodies."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from functools import partial
from typing import Any

import timm
import torch
from timm.models import get_arch_pretrained_cfgs, get_pretrained_cfg, is_model, model_entrypoint
from torch import Tensor, nn

from ensemble.core.errors import RecipeError, first_few, one_line
from ensemble.models.state_dict import translated
from ensemble.models.torchvision_backbones import BackboneSpec, State
from ensemble.recipe.architectures import Architecture, Stats, architectures
from ensemble.recipe.schema import ResolvedRecipe

_TRIED_SIZES = (16, 24, 32, 48, 64, 96, 112, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 512)
"""Image sizes that are tried, so that an error can name one that works."""


class TimmBody(nn.Module):
    """float32 (n, 3, h, w) -> the feature map (n, c, h', w'), or (n, c) where timm's pooling is used."""

    def __init__(self, model: nn.Module, pooled: bool) -> None:
        super().__init__()
        self.model, self.pooled = model, pooled

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.features(x))

    def features(self, x: Tensor) -> Any:
        """A map (n, c, h', w') or (n, h', w', c), tokens (n, t, c), or a list of these."""
        model: Any = self.model
        return model.forward_features(x)

    def pool(self, features: Any) -> Tensor:
        """The input of the head: the features, pooled by timm where `pooled`."""
        model: Any = self.model
        pooled: Tensor = model.forward_head(features, pre_logits=True) if self.pooled else features
        return pooled


def cut_timm(name: str, model: nn.Module, size: int) -> TimmBody:
    """The body of `model` for images of `size` pixels. Raises RecipeError when the size is not supported."""
    any_model: Any = model
    any_model.reset_classifier(0)
    problem = _size_problem(model, size)
    if problem:
        supported = next(
            (other for other in _TRIED_SIZES if other > size and not _size_problem(model, other)), None
        )
        hint = f"set image_size to {supported}" if supported else "choose another architecture"
        raise RecipeError(f"{name} does not take images of {size} pixels ({problem}); {hint}")
    body = TimmBody(model, pooled=False)
    features: Any = _dry_run(body, size)
    width = any_model.num_features
    body.pooled = not (
        isinstance(features, Tensor) and features.ndim == 4 and width == features.shape[1] != features.shape[3]
    )
    _drop_unused(body, size)
    return body


def _drop_unused(body: TimmBody, size: int) -> None:
    """Remove the modules between the features and the classifier, which would never be trained."""
    used: set[nn.Module] = set()
    hooks = [module.register_forward_hook(lambda module, _in, _out: used.add(module)) for module in body.modules()]
    expected = _dry_run(body, size)
    for hook in hooks:
        hook.remove()
    for name, module in list(body.model.named_children()):
        if any(True for _ in module.parameters()) and not used.intersection(module.modules()):
            setattr(body.model, name, nn.Identity())
            if not _same_output(body, size, expected):  # used without being called
                setattr(body.model, name, module)


def _same_output(body: TimmBody, size: int, expected: Tensor) -> bool:
    try:
        return torch.equal(_dry_run(body, size), expected)
    except (RuntimeError, AttributeError, TypeError):
        return False


def _size_problem(model: nn.Module, size: int) -> str | None:
    """Why `model` does not support images of `size` pixels, or None; a transformer is first set to the size."""
    try:
        _fit_size(model, size)
        _dry_run(TimmBody(model, pooled=True), size)
    except (RuntimeError, AssertionError, ValueError, TypeError, ZeroDivisionError) as error:
        return one_line(str(error).split("\n")[0][:120] or type(error).__name__)
    return None


def _fit_size(model: nn.Module, size: int) -> None:
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    if config.get("fixed_input_size") and hasattr(model, "set_input_size"):
        model.set_input_size(img_size=(size, size))  # type: ignore[operator]


def _dry_run(body: TimmBody, size: int) -> Tensor:
    """The body's features of a test image; its statistics and the random generator stay unchanged."""
    training = body.training
    image = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
    with torch.no_grad():
        features: Tensor = body.eval()(image)
    body.train(training)
    return features


def renamed(model: nn.Module, state: State) -> State:
    """`state` with the original authors' names translated by `translated`, then by timm, where they apply."""
    state = translated(model, state)
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if translate is None:
        return state
    try:
        names: State = translate(dict(state), model)
    except (KeyError, IndexError, AttributeError, RuntimeError, ValueError):
        return state  # other names: the caller reports what does not fit
    return names


_SMALL_STEMS = ("timm.models.resnet", "timm.models.densenet", "timm.models.efficientnet")


def timm_architecture(name: str) -> Architecture:
    """The architecture of a timm name, with or without a tag or `timm/` before it. Raises RecipeError."""
    full_name = _checked_name(name)
    config = get_pretrained_cfg(full_name)
    return Architecture(
        builder=partial(_build, full_name),
        stats=Stats(tuple(config.mean), tuple(config.std)),
        source="timm",
        weights_url=config.url or None,
        hub_repo=config.hf_hub_id,
        hub_file=config.hf_hub_filename,
        small_stem=model_entrypoint(full_name).__module__ in _SMALL_STEMS,
    )


def _checked_name(name: str) -> str:
    """`name` without `timm/`. Raises RecipeError, with the nearest names, where timm lacks it or its tag."""
    full_name = name.removeprefix("timm/")
    base, _, tag = full_name.partition(".")
    if not is_model(base):
        own_names = architectures.names()
        close_names = get_close_matches(base, sorted({*own_names, *timm.list_models()}), n=3, cutoff=0.6)
        hint = (
            f"did you mean {' or '.join(map(repr, close_names))}?"
            if close_names
            else f"known: {', '.join(own_names)}"
        )
        raise RecipeError(f"unknown architecture {name!r}, also to timm {timm.__version__}; {hint}")
    tags = [config_name.partition(".")[2] for config_name in get_arch_pretrained_cfgs(base)]
    if tag and tag not in tags:
        raise RecipeError(f"timm's {base} has no weights tagged {tag!r}; its tags are {first_few(tags)}")
    return full_name


def _build(name: str, recipe: ResolvedRecipe) -> BackboneSpec:
    whole = timm.create_model(name, pretrained=False)
    return BackboneSpec(whole, partial(cut_timm, name), _head_names(whole), renamed)


def _head_names(whole: nn.Module) -> tuple[str, ...]:
    """The first components of the classifiers' names: `fc`, `head` of `head.fc`, `head` and `head_dist`."""
    config: dict[str, Any] = whole.pretrained_cfg  # type: ignore[assignment]
    classifier = config.get("classifier") or ()
    names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    return tuple({name.split(".")[0]: None for name in names})
