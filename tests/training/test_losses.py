"""Losses: class weights, mixed labels, focal loss, parts of a batch, soft labels of a teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.fake_runs import predictions
from helpers.recipes import small_recipe
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from ensemble.distill.teacher import softened
from ensemble.recipe.resolve import resolved
from ensemble.recipe.schema import Recipe
from ensemble.training.methods.losses import Weighted, class_weights, losses


def logits_and_targets(n: int = 12, k: int = 5) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(n, k, requires_grad=True), torch.randint(0, k, (n,))


def test_class_weights_make_every_class_count_the_same() -> None:
    weights = class_weights(np.repeat([0, 1, 3], [2, 6, 12]), 4)
    assert weights.tolist() == pytest.approx([2.5, 20 / 24, 0, 20 / 48])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_is_torchs(smoothing: float) -> None:
    logits, targets = logits_and_targets()
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    loss = losses.get("cross-entropy")(small_recipe(label_smoothing=smoothing), weights)
    expected = functional.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(logits, targets), expected)
    torch.testing.assert_close(loss(logits, functional.one_hot(targets, 5).float()), expected)


def test_loss_of_a_mixed_image_is_weighted_by_its_classes() -> None:
    logits, first = logits_and_targets()
    second, share = first.roll(1), 0.3
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    soft = share * functional.one_hot(first, 5) + (1 - share) * functional.one_hot(second, 5)
    logs = -logits.log_softmax(1)
    parts = [(share, first), (1 - share, second)]
    top = sum(s * weights[y] * logs.gather(1, y[:, None])[:, 0] for s, y in parts)
    bottom = sum(s * weights[y] for s, y in parts)
    assert isinstance(top, Tensor) and isinstance(bottom, Tensor)
    loss = losses.get("cross-entropy")(small_recipe(), weights)
    torch.testing.assert_close(loss(logits, soft), top.sum() / bottom.sum())


def test_focal_loss_of_gamma_0_is_cross_entropy() -> None:
    logits, targets = logits_and_targets()
    plain = functional.cross_entropy(logits, targets)
    torch.testing.assert_close(losses.get("focal")(small_recipe(focal_gamma=0.0), None)(logits, targets), plain)
    p = logits.softmax(1).gather(1, targets[:, None])[:, 0]
    focal = losses.get("focal")(small_recipe(focal_gamma=2.0), None)(logits, targets)
    torch.testing.assert_close(focal, (-((1 - p) ** 2) * p.log()).mean())


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])])
def test_loss_of_parts_of_a_batch_adds_up(weights: Tensor | None, soft: bool) -> None:
    logits, hard = logits_and_targets()
    targets = functional.one_hot(hard, 5).float() if soft else hard
    loss = losses.get("focal")(small_recipe(), weights)
    assert isinstance(loss, Weighted)
    whole = loss.mass(targets)
    parts = [loss(a, b) * loss.mass(b) / whole for a, b in zip(logits.split(5), targets.split(5), strict=True)]
    torch.testing.assert_close(torch.stack(parts).sum(), loss(logits, targets))


@pytest.mark.parametrize("mix", [v2.MixUp(alpha=0.4, num_classes=3), v2.CutMix(alpha=1.0, num_classes=3)])
def test_label_of_a_mixed_image(mix: v2.Transform) -> None:
    torch.manual_seed(0)
    y = torch.randint(0, 3, (16,))
    x = functional.one_hot(y, 3).float()[:, :, None, None].expand(16, 3, 40, 40)  # the class is its channel
    for _ in range(5):
        mixed, soft = mix(x, y)
        torch.testing.assert_close(mixed.mean(dim=(2, 3)), soft, atol=1e-5, rtol=0)


def test_distillation_loss_mixes_labels_and_teacher() -> None:
    torch = pytest.importorskip("torch")
    from torch.nn import functional

    from ensemble.training.methods.losses import Distilled, losses

    hard = losses.get("cross-entropy")(resolved(Recipe(arch="resnet18", label_smoothing=0.1)), None)
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    output = torch.from_numpy(softened(predictions(8, 1).probs, 2))
    label = torch.arange(8) % 3
    targets = torch.cat([functional.one_hot(label, 3).float(), output], 1)
    result = Distilled(hard, 2.0, 0.3)(logits, targets)
    soft = functional.cross_entropy(logits / 2, output)
    assert result.item() == pytest.approx((0.7 * hard(logits, label) + 0.3 * 4 * soft).item(), rel=1e-5)
    # rows that are looked at, not learnt from, are evaluated by their labels
    assert Distilled(hard, 2.0, 0.3)(logits, label).item() == hard(logits, label).item()
    # softmax(z / T) is p at that T where z = log p: there, and only there, the teacher's part has no gradient
    perfect = torch.from_numpy(np.log(predictions(8, 1).probs)).requires_grad_()
    Distilled(hard, 2.0, 1.0)(perfect, targets).backward()
    assert float(perfect.grad.abs().max()) < 1e-6
    # parts of a batch add up to the whole
    parts = sum(Distilled(hard, 2.0, 0.3)(logits[at], targets[at]).item() / 2 for at in (slice(4), slice(4, 8)))
    assert parts == pytest.approx(result.item(), rel=1e-5)
