"""Augmentation policies."""

from __future__ import annotations

import pytest
import torch
from helpers.pictures import smooth_batch
from torch import Tensor

from ensemble.core.errors import RecipeError
from ensemble.training.engine.checkpoint import seed_everything
from ensemble.training.methods.augment import policies, transforms

DRAWN = sorted(set(policies.names()) - {"none"})


def augmented(name: str, x: Tensor, seed: int) -> Tensor:
    from fastai.data.transforms import IntToFloatTensor
    from fastai.vision.core import TensorImage
    from fasttransform import Pipeline

    seed_everything(seed, "augment")
    pixels = TensorImage((x * 255).round().to(torch.uint8))
    changed = Pipeline([IntToFloatTensor(), *transforms(name, x.shape[-1])], split_idx=0)(pixels)
    return torch.as_tensor(changed).as_subclass(Tensor)


@pytest.mark.parametrize("name", [*DRAWN, "flip+brightness", "flip-hv+noise+grayscale"])
def test_policy_keeps_shape_and_range_and_repeats(name: str) -> None:
    x = smooth_batch(16)
    result = augmented(name, x, 1)
    assert result.shape == x.shape and result.dtype == torch.float32
    # the weights of a bilinear interpolation add up to 1 only to rounding, on some processors to the last bit of 1
    assert float(result.min()) >= -1e-6 and float(result.max()) <= 1 + 1e-6
    assert torch.equal(result, augmented(name, x, 1))
    assert not torch.allclose(result, x, atol=0.01)
    assert not torch.equal(result, augmented(name, x, 2))


def test_policy_none_changes_nothing_and_unknown_ones_are_named() -> None:
    x = smooth_batch()
    torch.testing.assert_close(augmented("none", x, 0), x, atol=0.002, rtol=0)
    with pytest.raises(RecipeError, match="unknown augmentation policy 'brigtness'; did you mean 'brightness'"):
        transforms("flip+brigtness", 32)


def test_each_image_of_a_batch_is_augmented_alone() -> None:
    x = smooth_batch(1).expand(24, 3, 32, 32)
    for name in DRAWN:
        result = augmented(name, x, 0)
        assert len(torch.unique(result.flatten(1), dim=0)) > 1, name


def test_flips_are_the_four_mirrors() -> None:
    x = smooth_batch(64)
    x = ((x * 255).round() / 255)[:1].expand(64, 3, 32, 32)
    result = augmented("flip-hv", x, 0)
    four = [x[0], x[0].flip(-1), x[0].flip(-2), x[0].flip(-1, -2)]
    which = [next(i for i, item in enumerate(four) if torch.allclose(image, item, atol=1e-3)) for image in result]
    assert set(which) == {0, 1, 2, 3}


def test_grey_policy_leaves_other_images_untouched() -> None:
    x = smooth_batch(200, 8)
    result = augmented("grayscale", x, 0)
    same = torch.isclose(result, x, atol=0.003).flatten(1).all(1)
    grey = (result.std(dim=1).amax(dim=(1, 2))) < 1e-5
    assert bool((same | grey).all())
    assert 20 <= int(grey.sum()) <= 60
