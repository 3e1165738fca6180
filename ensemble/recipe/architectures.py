"""The architectures: names, normalisation statistics, sources of weights, and builders.

This module does not import torch; the builders do when they are called. Their result is described in
`ensemble.models.torchvision_backbones`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ensemble.core.errors import RecipeError
from ensemble.core.registry import Registry, load

if TYPE_CHECKING:
    from ensemble.recipe.schema import ResolvedRecipe


ARCH_KEYS = ("filters", "kernel", "block_depth", "dense", "batch_norm")
"""The recipe keys that only some architectures support."""

_TORCH_FILES = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Stats:
    """Normalisation of the inputs: mean and standard deviation of each channel, for pixels in 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Stats((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = Stats((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
HALF = Stats((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Architecture:
    """Metadata of an architecture, and its builder.

    builder: recipe -> ensemble.models.torchvision_backbones.BackboneSpec; or a reference `module:function`, which
    is imported when a network is built.
    source: the library that builds it: torchvision, timm or ensemble.
    weights_url: the file of ImageNet weights; the hex digits in its name are the beginning of its SHA-256.
    hub_repo, hub_file: the same on the Hugging Face hub; a timm repository ends in the tag of the weights.
    takes: the supported ARCH_KEYS.  small_stem: whether `stem: small` is supported.
    min_size, min_size_small: minimum image size in pixels, with the default and with the small stem.
    """

    builder: str | Callable[[ResolvedRecipe], Any]
    stats: Stats
    source: str
    weights_url: str | None = None
    hub_repo: str | None = None
    hub_file: str | None = None
    takes: tuple[str, ...] = ()
    small_stem: bool = False
    min_size: int = 1
    min_size_small: int = 1

    def build(self, recipe: ResolvedRecipe) -> Any:
        """The recipe's network with random weights, as a BackboneSpec. Imports torch."""
        builder = load(self.builder) if isinstance(self.builder, str) else self.builder
        return builder(recipe)

    @property
    def own_head(self) -> bool:
        """Whether the network includes its head, as those of this package do, so that `head` does not apply."""
        return self.source == "ensemble"

    @property
    def weights_file(self) -> str | None:
        """The file name in `weights_url`."""
        return self.weights_url.rsplit("/", 1)[1] if self.weights_url else None

    @property
    def weights_digits(self) -> str | None:
        """The hex digits, at least 8, in the file name of the weights: the beginning of their SHA-256."""
        match = re.search(r"-([0-9a-f]{8,64})\.", self.weights_file or "")
        return match[1] if match else None


architectures: Registry[Callable[[], Architecture]] = Registry("architecture")


def lookup(name: str) -> Architecture:
    """The architecture called `name`: a registered one, otherwise one of timm, which is then imported.

    `timm/<name>` and a name with a tag (`resnet34.a1_in1k`) are always of timm. Raises RecipeError.
    """
    if name in architectures:
        return architectures.get(name)()
    return _timm(name)


@cache
def _timm(name: str) -> Architecture:
    architecture: Architecture = load("ensemble.models.timm_backbones:timm_architecture")(name)
    return architecture


def refuse_unfit(recipe: ResolvedRecipe, architecture: Architecture, size: int) -> None:
    """Raise RecipeError for keys, a stem or an image size that the recipe's architecture does not support."""
    unused = [key for key in ARCH_KEYS if getattr(recipe, key) is not None and key not in architecture.takes]
    if unused:
        supporting = [name for name in architectures.names() if set(unused) <= set(lookup(name).takes)]
        raise RecipeError(
            f"{recipe.arch} does not take {', '.join(unused)};"
            f" leave {'it' if len(unused) == 1 else 'them'} out, or use {' or '.join(supporting)}"
        )
    small = recipe.stem == "small"
    if small and not architecture.small_stem:
        supporting_small = [name for name in architectures.names() if lookup(name).small_stem]
        raise RecipeError(
            f"{recipe.arch} has no small stem; leave stem out, or use one of {', '.join(supporting_small)}"
            " or timm's networks of the ResNet, DenseNet and EfficientNet families"
        )
    min_size = architecture.min_size_small if small else architecture.min_size
    if size < min_size:
        raise RecipeError(
            f"{recipe.arch} takes images of {min_size} pixels or more, image_size {size} found;"
            f" set image_size to {min_size} or more"
        )


def _torchvision(
    name: str,
    file: str,
    stats: Stats = IMAGENET,
    min_size: int = 1,
    small_stem: bool = False,
    min_size_small: int = 1,
) -> None:
    """Register the network `name` of torchvision with its IMAGENET1K_V1 weights."""
    url = _TORCH_FILES + file
    architecture = Architecture(
        "ensemble.models.torchvision_backbones:torchvision_backbone",
        stats,
        "torchvision",
        url,
        small_stem=small_stem,
        min_size=min_size,
        min_size_small=min_size_small,
    )
    architectures.register(name)(lambda: architecture)


_torchvision("vgg19", "vgg19-dcbb9e9d.pth", min_size=32)
_torchvision("vgg19_bn", "vgg19_bn-c79401a0.pth", min_size=32)
_torchvision("vgg16", "vgg16-397923af.pth", min_size=32)
_torchvision("alexnet", "alexnet-owt-7be5be79.pth", min_size=63)
_torchvision("resnet18", "resnet18-f37072fd.pth", small_stem=True)
_torchvision("resnet34", "resnet34-b627a593.pth", small_stem=True)
_torchvision("resnet50", "resnet50-0676ba61.pth", small_stem=True)
_torchvision("resnet101", "resnet101-63fe2227.pth", small_stem=True)
_torchvision("densenet121", "densenet121-a639ec97.pth", min_size=29, small_stem=True, min_size_small=8)
_torchvision("densenet161", "densenet161-8d451a50.pth", min_size=29, small_stem=True, min_size_small=8)
_torchvision("efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth", small_stem=True)
_torchvision("efficientnet_v2_s", "efficientnet_v2_s-dd5fe13b.pth", small_stem=True)
_torchvision("mobilenet_v2", "mobilenet_v2-b0353104.pth")
_torchvision("mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth")
# its weights were trained with inputs in -1..1, which torchvision converts to with `transform_input`
_torchvision("inception_v3", "inception_v3_google-0cc3c7bd.pth", stats=HALF, min_size=75)
_torchvision("regnet_y_8gf", "regnet_y_8gf-d0d0e4a8.pth")
_torchvision("convnext_tiny", "convnext_tiny-983f1562.pth", min_size=32)
_torchvision("resnext50_32x4d", "resnext50_32x4d-7cdf4587.pth", small_stem=True)
_torchvision("squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", min_size=17)


@architectures.register("customnet")
def customnet() -> Architecture:
    """Five convolutions, each with ReLU and max-pooling, then dense layers with dropout."""

    return Architecture(
        "ensemble.models.custom_networks:plain",
        IMAGENET,
        "ensemble",
        takes=("filters", "kernel", "dense", "batch_norm"),
    )


@architectures.register("customnet_deep")
def customnet_deep() -> Architecture:
    """Blocks of two 3×3 convolutions with batch norm, for small images on a CPU."""

    return Architecture(
        "ensemble.models.custom_networks:deep", IMAGENET, "ensemble", takes=("filters", "kernel", "dense")
    )


@architectures.register("speednet")
def speednet() -> Architecture:
    """A whitening layer and three blocks of two convolutions, for training on small images in few epochs."""

    return Architecture(
        "ensemble.models.custom_networks:speednet", CIFAR, "ensemble", takes=("filters", "block_depth")
    )
