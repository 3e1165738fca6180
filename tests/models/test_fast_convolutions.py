"""Fast convolutions compute what torch's own do: outputs to the bit, gradients up to rounding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from helpers.networks import UsedTwice, trained_for_long

from ensemble.models.fast_convolutions import Depthwise, FastConvolutions
from ensemble.models.layers import kept_parameters, set_mode

pytestmark = pytest.mark.slow


torch = pytest.importorskip("torch")


timm = pytest.importorskip("timm")


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [(4, 4), (7, 9), (20, 17)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_depthwise_gradients_are_torchs(size: int, stride: int, side: tuple[int, int], dtype: str) -> None:
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    for padding in {0, size // 2, size - 1}:
        if min(side) + 2 * padding < size:
            continue
        parts = [torch.randn(3, 6, *side), torch.randn(6, 1, size, size), torch.randn(6)]
        fast, plain = ([part.to(kind).requires_grad_() for part in parts] for _ in range(2))
        exact = [part.double().requires_grad_() for part in (tensor.detach() for tensor in plain)]
        out = Depthwise.apply(*fast, stride, padding)
        expected = torch.conv2d(*plain, stride, padding, 1, 6)
        assert torch.equal(out, expected)
        weights = torch.randn(out.shape).to(kind)
        (out * weights).sum().backward()
        (torch.conv2d(*exact, stride, padding, 1, 6) * weights.double()).sum().backward()
        tolerance = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
        for mine, true in zip(fast, exact, strict=True):
            assert (mine.grad.double() - true.grad).abs().max() <= tolerance * (1 + true.grad.abs().max())


ARCHS = ["tf_efficientnet_lite0", "mobilenetv2_100", "resnet18", "densenet121", "convnext_atto", "vgg11_bn"]


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("kept", [None, "statistics", True])
def test_network_with_fast_convolutions_is_the_same(arch: str, kept: Any) -> None:
    torch.manual_seed(0)
    network = timm.create_model(arch, num_classes=5).double()
    trained_for_long(network)
    for parameter in kept_parameters(network, kept):
        parameter.requires_grad_(False)
    other = copy.deepcopy(network)
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    fast = FastConvolutions(network, 64)
    assert len(fast.pairs) >= {"convnext_atto": 0, "densenet121": 1}.get(arch, 8)
    for first in (network, other):
        set_mode(first, True)
    torch.manual_seed(1)  # of dropout
    with fast:
        outputs = network(images)
    torch.manual_seed(1)
    expected = other(images)
    assert torch.allclose(outputs, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    outputs.square().sum().backward()
    expected.square().sum().backward()
    for (name, mine), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None:
            close = 1e-8 * float(theirs.grad.abs().max() + 1e-6)
            assert float((mine.grad - theirs.grad).abs().max()) <= close, name
    for (name, mine), theirs in zip(network.named_buffers(), other.buffers(), strict=True):
        assert torch.allclose(mine, theirs), name  # statistics that are not kept move as they do


def test_convolution_used_twice_keeps_its_norm() -> None:
    assert FastConvolutions(UsedTwice().eval(), 16).pairs == []


def test_fast_convolutions_train_on_a_processor_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.models import network as module
    from ensemble.recipe.data_spec import DataSpec
    from ensemble.recipe.resolve import resolved
    from ensemble.recipe.schema import Recipe

    entered = []

    class Counted(FastConvolutions):
        def __enter__(self) -> Any:
            entered.append(1)
            return super().__enter__()

    monkeypatch.setattr(module, "FastConvolutions", Counted)
    recipe = Recipe(data=DataSpec(form="folders"), arch="tf_efficientnet_lite0", weights="none", image_size=64)
    images = torch.randn(2, 3, 64, 64)
    network = module.build_network(resolved(recipe), 3)
    network.eval()(images)
    with torch.no_grad():
        network.train()(images)
    assert not entered
    network.train()(images)
    assert len(entered) == 2  # once to see that it computes the same
    plain = module.build_network(resolved(recipe.model_copy(update={"fast_convolutions": False})), 3)
    plain.train()(images)
    assert len(entered) == 2


def test_frozen_norm_stays_frozen_with_fast_convolutions() -> None:
    network = timm.create_model("resnet18", num_classes=2)
    for parameter in kept_parameters(network, True):
        parameter.requires_grad_(False)
    set_mode(network, True)
    before = [module.training for module in network.modules()]
    FastConvolutions(network, 64)
    assert [module.training for module in network.modules()] == before
