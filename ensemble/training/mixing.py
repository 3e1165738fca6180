"""Two images in one, with labels that say so, by name: torchvision's mixup and cutmix on whole batches."""

from __future__ import annotations

from collections.abc import Callable

from fastai.callback.core import Callback
from torch import Tensor
from torchvision.transforms import v2

from ensemble.recipe.schema import Recipe
from ensemble.registry import Registry

mixings: Registry[Callable[[Recipe, int], list[Callback]]] = Registry("mixing")


class Mix(Callback):  # type: ignore[misc]
    """Mixes every training batch: images (b, 3, h, w), targets then float (b, k). Draws from torch's generator."""

    def __init__(self, mix: v2.Transform) -> None:
        super().__init__()
        self.mix = mix

    def before_batch(self) -> None:
        """Mix what is about to be trained on."""
        if self.training:
            images, targets = self.xb[0].as_subclass(Tensor), self.yb[0].as_subclass(Tensor)
            mixed, soft = self.mix(images, targets)
            self.learn.xb, self.learn.yb = (mixed,), (soft,)


@mixings.register("none")
def none(recipe: Recipe, n_classes: int) -> list[Callback]:
    """Images as they are."""
    return []


@mixings.register("mixup")
def mixup(recipe: Recipe, n_classes: int) -> list[Callback]:
    """A share of one image and the rest of another (Zhang et al. 2018), the share from Beta(alpha, alpha)."""
    return [Mix(v2.MixUp(alpha=recipe.mix_alpha, num_classes=n_classes))]


@mixings.register("cutmix")
def cutmix(recipe: Recipe, n_classes: int) -> list[Callback]:
    """A rectangle of one image in another (Yun et al. 2019), its area from Beta(alpha, alpha)."""
    return [Mix(v2.CutMix(alpha=recipe.mix_alpha, num_classes=n_classes))]
