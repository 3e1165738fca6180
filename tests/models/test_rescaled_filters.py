"""Filters rescaled to the scale at which they act compute the same."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch", ["resnet18", "tf_efficientnet_lite0", "mobilenetv2_100", "densenet121", "vgg11_bn"]
)
@pytest.mark.parametrize("training", [False, True])
def test_rescaled_filters_compute_the_same(torch: Any, arch: str, training: bool) -> None:
    import copy

    import timm
    from helpers.networks import trained_for_long

    from ensemble.models.layers import rescale_filters

    torch.manual_seed(1)
    network = timm.create_model(arch, num_classes=0)
    trained_for_long(network)
    network.double()
    before = copy.deepcopy(network)
    assert rescale_filters(network, 64) >= 8
    images = torch.randn(8, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        outputs, expected = (item.train(training)(images) for item in (network, before))
    assert float((outputs - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@pytest.mark.slow
def test_norm_after_rescaled_filters_multiplies_by_one(torch: Any) -> None:
    import timm
    from helpers.networks import trained_for_long

    from ensemble.models.layers import rescale_filters

    network = timm.create_model("resnet18", num_classes=0)
    trained_for_long(network)
    assert rescale_filters(network, 64) == 20
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    scales = torch.cat([norm.weight / torch.sqrt(norm.running_var + norm.eps) for norm in norms])
    assert torch.allclose(scales, torch.ones_like(scales), atol=1e-5)
    assert rescale_filters(network, 64) == 20  # once more changes nothing


@pytest.mark.slow
def test_network_that_rescaling_would_change_is_left_alone(torch: Any) -> None:
    from helpers.networks import UsedTwice

    from ensemble.models.layers import rescale_filters

    network = UsedTwice()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert rescale_filters(network, 16) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
