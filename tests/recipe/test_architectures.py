"""Names, statistics and refusals of the architectures, all without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ensemble.core.errors import RecipeError
from ensemble.recipe.architectures import HALF, IMAGENET, Architecture, architectures, lookup, refuse_unfit
from ensemble.recipe.schema import Recipe

MISSION = ["vgg19", "vgg19_bn", "resnet34", "densenet121", "efficientnet_b0"]


def test_lookup_imports_no_network_library() -> None:
    code = (
        "import sys\n"
        "from ensemble.recipe.architectures import architectures, lookup\n"
        "assert all(lookup(name).stats for name in architectures.names())\n"
        "slow = {'torch', 'torchvision', 'timm', 'fastai', 'pydantic', 'numpy'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lookup_returns_the_same_record() -> None:
    for name in MISSION:
        assert lookup(name) == lookup(name)


def test_torchvision_file_names_hold_network_and_checksum() -> None:
    for name in architectures.names():
        record = lookup(name)
        if record.source == "torchvision":
            assert record.weights_file is not None and record.weights_file.startswith(name)
            assert record.weights_digits is not None and len(record.weights_digits) == 8


@pytest.mark.parametrize(
    ("url", "digits"),
    [
        ("https://x.org/resnet34-b627a593.pth", "b627a593"),
        ("https://x.org/a_b-C-0123456789abcdef.pth", "0123456789abcdef"),
        ("https://x.org/resnet34.pth", None),
        ("https://x.org/mixnet-b627a59.pth", None),
        (None, None),
    ],
)
def test_checksum_is_read_from_the_file_name(url: str | None, digits: str | None) -> None:
    assert Architecture(lambda recipe: None, IMAGENET, "timm", url).weights_digits == digits


def test_only_inception_is_normalised_to_plus_minus_one() -> None:
    assert [name for name in architectures.names() if lookup(name).stats == HALF] == ["inception_v3"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"arch": "resnet34", "filters": (8, 8)},
            "resnet34 does not take filters; leave it out, or use customnet",
        ),
        ({"arch": "vgg16", "kernel": 5, "dense": (9,)}, "vgg16 does not take kernel, dense; leave them out"),
        ({"arch": "customnet_deep", "batch_norm": False}, "batch_norm; leave it out, or use customnet$"),
        (
            {"arch": "vgg16", "stem": "small"},
            "vgg16 has no small stem; leave stem out, or use one of resnet18, ",
        ),
        (
            {"arch": "inception_v3", "image_size": 74},
            "75 pixels or more, image_size 74 found; set image_size to 75",
        ),
        ({"arch": "densenet121", "image_size": 28}, "densenet121 takes images of 29 pixels or more"),
    ],
)
def test_keys_an_architecture_does_not_take_are_refused(keys: dict[str, object], message: str) -> None:
    recipe = Recipe.model_validate(keys)
    with pytest.raises(RecipeError, match=message):
        refuse_unfit(recipe, lookup(recipe.arch), recipe.image_size or 224)


@pytest.mark.parametrize(
    "keys",
    [
        {"arch": "customnet", "filters": (8, 8), "kernel": 5, "dense": (), "batch_norm": True},
        {"arch": "densenet121", "stem": "small", "image_size": 8},
        {"arch": "densenet121", "image_size": 29},
    ],
)
def test_keys_an_architecture_takes_pass(keys: dict[str, object]) -> None:
    recipe = Recipe.model_validate(keys)
    refuse_unfit(recipe, lookup(recipe.arch), recipe.image_size or 224)
