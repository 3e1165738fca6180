"""Every architecture is built for real, split into three groups and trained one step."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.small_networks import built_network, random_images

from ensemble.core.errors import RecipeError
from ensemble.recipe.architectures import architectures, lookup

pytestmark = pytest.mark.slow


TIMM = [
    "vit_tiny_patch16_224",
    "convnextv2_atto",
    "resnet10t",
    "efficientnet_lite0",
    "mobilenetv3_small_050",
    "eva02_tiny_patch14_224",
    "test_mambaout",
    "timm/densenet121",
]


# the larger networks of a family share their code with the smaller ones
SMALL_STEMS = ["resnet18", "resnext50_32x4d", "densenet121", "efficientnet_b0", "efficientnet_v2_s"]


@pytest.mark.parametrize("name", [*architectures.names(), *TIMM])
def test_every_architecture_trains_every_parameter_in_three_groups(name: str) -> None:
    import torch

    from ensemble.models.network import parameter_groups

    size = max(32, lookup(name).min_size)
    network = built_network(arch=name, image_size=size)
    head = network[1]
    groups = parameter_groups(network)
    assert len(groups) == 3 and all(groups)
    grouped = [id(parameter) for group in groups for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())
    assert {id(parameter) for parameter in groups[2]} == {id(parameter) for parameter in head.parameters()}

    before = [[parameter.detach().clone() for parameter in group] for group in groups]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    logits = network.train()(random_images(4, size))
    assert logits.shape == (4, 3) and logits.dtype == torch.float32 and bool(logits.isfinite().all())
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []
    optimizer.step()
    for old, new in zip(before, groups, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old, new, strict=True))


def test_statistics_files_and_smallest_sizes_are_torchvisions() -> None:
    import torchvision

    for name in architectures.names():
        record = lookup(name)
        if record.source != "torchvision":
            continue
        weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
        assert record.weights_url == weights.url
        if name != "inception_v3":  # torchvision converts inside its network
            assert list(record.stats.mean) == weights.transforms().mean
            assert list(record.stats.std) == weights.transforms().std


@pytest.mark.parametrize("name", [name for name in architectures.names() if lookup(name).min_size > 1])
def test_one_pixel_below_the_smallest_size_fails(name: str) -> None:
    from ensemble.models.network import feature_shape

    size = lookup(name).min_size
    network = built_network(arch=name, image_size=size)
    with pytest.raises(RuntimeError):
        feature_shape(network[0], size - 1)
    with pytest.raises(RecipeError, match=f"{size} pixels or more"):
        built_network(arch=name, image_size=size - 1)


@pytest.mark.parametrize("name", ["resnet34", "densenet121"])
def test_parameter_groups_do_not_depend_on_the_library(name: str) -> None:
    from ensemble.models.network import parameter_groups

    def sizes(arch: str) -> list[list[tuple[int, ...]]]:
        groups = parameter_groups(built_network(arch=arch, image_size=64))
        return [sorted(tuple(parameter.shape) for parameter in group) for group in groups]

    assert sizes(name) == sizes(f"timm/{name}")


@pytest.mark.parametrize("name", [*SMALL_STEMS, "timm/resnet10t", "timm/densenet121", "efficientnet_lite0"])
def test_small_stem_keeps_weights_and_enlarges_the_map(name: str) -> None:
    from ensemble.models.network import feature_shape

    default = built_network(arch=name, image_size=64)
    small = built_network(arch=name, image_size=64, stem="small")
    factor = 2 if "efficientnet" in name else 4
    channels, *area = feature_shape(default[0], 64)
    assert feature_shape(small[0], 64) == (channels, *(factor * side for side in area))
    small.load_state_dict(default.state_dict(), strict=True)


def test_inception_has_no_second_head_and_does_not_normalise_again() -> None:
    network = built_network(arch="inception_v3", image_size=75)
    assert not any("Aux" in name for name, _ in network.named_modules())


def test_densenets_features_are_not_negative() -> None:
    features = built_network(arch="densenet121", image_size=32)[0](random_images(2, 32))
    assert bool((features >= 0).all()) and bool((features > 0).any())


def test_seed_decides_the_network() -> None:
    import torch

    def values(seed: int) -> list[Any]:
        return list(built_network(arch="customnet", image_size=32, seed=seed).state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(values(0), values(0), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(values(0), values(1), strict=True))


def test_precision_and_layout_keep_the_output() -> None:
    import torch

    network = built_network(arch="customnet_deep", image_size=32).eval()
    x = random_images(8, 32)
    with torch.no_grad():
        plain = network(x)
        network.channels_last = True
        network.to(memory_format=torch.channels_last)
        assert torch.allclose(network(x), plain, atol=1e-4)
        network.compute_dtype = torch.bfloat16
        half = network(x)
    assert half.dtype == torch.float32
    assert 0 < float((half - plain).abs().max()) < 0.1 * float(plain.abs().max())


def test_fastais_tensors_go_in_and_plain_tensors_come_out() -> None:
    import torch
    from fastai.torch_core import TensorImage

    out = built_network(arch="customnet", image_size=32)(TensorImage(random_images(2, 32)))
    assert type(out) is torch.Tensor


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"arch": "customnet", "image_size": 31}, "5 filters takes images of 32 pixels or more"),
        ({"arch": "customnet", "filters": (8,)}, "1 filters found, two or more expected"),
        ({"arch": "customnet_deep", "kernel": 4}, "kernel 4 found, an odd number expected"),
        ({"arch": "resnet34x"}, "unknown architecture 'resnet34x'.*did you mean 'resnet34'"),
        ({"arch": "timm/nothing-like-it"}, "unknown architecture 'timm/nothing-like-it'.*known: vgg19"),
        ({"arch": "resnet34.a9_in1k"}, "no weights tagged 'a9_in1k'; its tags are 'a1_in1k'"),
        (
            {"arch": "mixer_s32_224", "image_size": 64},
            "does not take images of 64 pixels.*set image_size to 224",
        ),
    ],
)
def test_impossible_network_is_refused_in_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        built_network(**keys)
    assert "\n" not in str(caught.value)


def test_timm_names_bring_their_own_statistics_and_tag() -> None:
    vit = lookup("vit_tiny_patch16_224")
    assert vit.source == "timm" and vit.stats.mean == (0.5, 0.5, 0.5)
    assert lookup("timm/resnet34").hub_repo == lookup("resnet34.a1_in1k").hub_repo == "timm/resnet34.a1_in1k"
