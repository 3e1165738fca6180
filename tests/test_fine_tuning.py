"""Fine-tuning: a head that is fitted, filters in the scale at which they act, norms that keep their statistics."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from ensemble.core.errors import RecipeError
from ensemble.recipe.file import build
from ensemble.recipe.resolve import hashed_keys, resolved, training_stages
from ensemble.recipe.schema import DataSpec, Recipe

slow = pytest.mark.slow
PHOTOS = DataSpec(form="folders")


@pytest.fixture(scope="module")
def torch() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("fastai.vision.learner")
    import torch

    torch.manual_seed(0)
    return torch


# ---- presets ----


def test_a_preset_fills_what_a_recipe_leaves_out_and_is_no_part_of_its_hash() -> None:
    plain = resolved(Recipe(data=PHOTOS, arch="resnet18"))
    assert (plain.preset, plain.head, plain.head_fit, plain.freeze_norms) == (
        "good",
        "linear",
        "regression",
        "statistics",
    )
    assert hashed_keys(plain) == hashed_keys(resolved(Recipe(data=PHOTOS, arch="resnet18", preset="good")))
    written = resolved(Recipe(data=PHOTOS, arch="resnet18", head="dense", head_fit="steps", preset="good"))
    assert (written.head, written.head_fit, written.clip) == ("dense", "steps", plain.clip)
    assert hashed_keys(resolved(Recipe(data=PHOTOS, arch="resnet18", preset="quick"))) != hashed_keys(plain)


def test_a_network_from_scratch_has_no_preset() -> None:
    for preset in (None, "quick", "good", "best"):
        recipe = resolved(Recipe(data=PHOTOS, arch="resnet18", weights="none", preset=preset))
        assert (recipe.head, recipe.head_fit, recipe.freeze_norms, recipe.clip) == ("dense", "steps", False, 0.0)
        assert (recipe.frozen_epochs, recipe.epochs) == (0, 30)


def test_a_head_that_is_fitted_leaves_the_rate_to_what_comes_after() -> None:
    fitted = resolved(Recipe(data=PHOTOS, arch="resnet18", lr=0.001))
    assert [(stage.train, stage.epochs, stage.lr) for stage in training_stages(fitted)] == [
        ("head", 1, 0.001),
        ("all", 3, 0.001),
    ]
    trained = resolved(Recipe(data=PHOTOS, arch="resnet18", lr=0.001, head_fit="steps"))
    assert [stage.lr for stage in training_stages(trained)] == [0.001, 0.0005]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"arch": "customnet", "weights": "x.safetensors", "head": "linear"}, "customnet has a head of its own"),
        ({"arch": "resnet18", "head": "dense", "head_fit": "regression"}, "regression fits a linear head"),
        (
            {"arch": "resnet18", "cache_features": True, "augment": "none", "head_fit": "regression"},
            "leave out cache_features",
        ),
        ({"arch": "resnet18", "preset": "fast"}, "preset"),
        ({"arch": "resnet18", "clip": -1}, "clip"),
        ({"arch": "resnet18", "early_rate": 0}, "early_rate"),
    ],
)
def test_what_does_not_go_together_is_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        build({"data": {"form": "folders"}, "members": [keys]}, source="recipe")


def test_a_head_that_no_regression_fits_is_trained_by_steps() -> None:
    assert resolved(Recipe(data=PHOTOS, arch="resnet18", head="dense")).head_fit == "steps"
    assert resolved(Recipe(data=PHOTOS, arch="resnet18", cache_features=True)).head_fit == "steps"


def test_a_network_of_ours_keeps_its_head_when_it_is_fine_tuned() -> None:
    recipe = resolved(Recipe(data=PHOTOS, arch="customnet_deep", weights="run/weights.safetensors"))
    assert (recipe.head, recipe.head_fit, recipe.freeze_norms) == ("dense", "steps", "statistics")


# ---- filters ----


@slow
@pytest.mark.parametrize(
    "arch", ["resnet18", "tf_efficientnet_lite0", "mobilenetv2_100", "densenet121", "vgg11_bn"]
)
@pytest.mark.parametrize("training", [False, True])
def test_rescaled_filters_compute_what_they_did(torch: Any, arch: str, training: bool) -> None:
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
        outputs, expected = (one.train(training)(images) for one in (network, before))
    assert float((outputs - expected).abs().max()) < 1e-5 * float(expected.abs().max())


@slow
def test_what_a_norm_multiplies_rescaled_filters_by_is_one(torch: Any) -> None:
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


@slow
def test_a_network_that_would_compute_something_else_is_left_as_it_is(torch: Any) -> None:
    from helpers.networks import UsedTwice

    from ensemble.models.layers import rescale_filters

    network = UsedTwice()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert rescale_filters(network, 16) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# ---- the head ----


@slow
def test_the_fitted_head_is_scikit_learns_regression(torch: Any) -> None:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    from ensemble.training.engine.features import Regression

    draw = np.random.default_rng(0)
    targets = draw.integers(0, 3, 300)
    features = (draw.normal(size=(300, 8)) + 0.7 * np.eye(8)[targets]) * [1, 10, 0.1, 1, 1, 1, 1, 1] + 5
    layer = torch.nn.Linear(8, 3)
    regression = Regression(torch.nn.functional.cross_entropy, decay=0.1)
    regression.features = [torch.tensor(features, dtype=torch.float32)]
    regression.targets = [torch.tensor(targets)]
    loss, accuracy = regression.fit(layer)
    scaled = StandardScaler().fit_transform(features)
    theirs = LogisticRegression(C=1 / (0.1 * 300), tol=1e-8, max_iter=1000).fit(scaled, targets)
    with torch.no_grad():
        ours = layer(regression.features[0]).softmax(1).numpy()
    assert np.abs(ours - theirs.predict_proba(scaled)).max() < 2e-3
    assert accuracy == pytest.approx(float((ours.argmax(1) == targets).mean()))
    assert loss == pytest.approx(float(-np.log(ours[np.arange(300), targets]).mean()), abs=1e-4)


@slow
def test_the_penalty_is_strong_where_features_say_nothing_and_weak_where_they_say_all(torch: Any) -> None:
    from ensemble.training.engine.features import Regression

    def chosen(signal: float) -> float:
        torch.manual_seed(2)
        targets = torch.arange(200) % 4
        features = torch.randn(200, 64)
        features[:, :4] += signal * torch.nn.functional.one_hot(targets, 4)
        regression = Regression(torch.nn.functional.cross_entropy, [features], [targets])
        regression.fit(torch.nn.Linear(64, 4))
        assert regression.decay is not None
        return regression.decay

    assert chosen(0.0) >= 10 * chosen(8.0)


@slow
@pytest.mark.parametrize("classes", [2, 5])
def test_a_constant_feature_and_two_rows_are_no_trouble(torch: Any, classes: int) -> None:
    from ensemble.training.engine.features import Regression

    layer = torch.nn.Linear(3, classes)
    features = torch.tensor([[1.0, 7.0, 0.0], [2.0, 7.0, 0.0]])
    Regression(torch.nn.functional.cross_entropy, [features], [torch.tensor([0, 1])]).fit(layer)
    assert torch.isfinite(layer.weight).all() and torch.isfinite(layer.bias).all()


# ---- what a history says against a member ----


def epochs(*accuracies: tuple[int, float]) -> list[Any]:
    from ensemble.runs.history import Epoch

    return [
        Epoch(stage, place, 1.0, 1.0, 0.5, accuracy, 0.1, 1.0) for place, (stage, accuracy) in enumerate(accuracies)
    ]


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ([(0, 0.70), (1, 0.60)], "ended at an accuracy of 0.6000, below the 0.7000 of its own frozen head"),
        ([(0, 0.70), (1, 0.69)], None),  # within the noise of 400 rows
        ([(0, 0.70), (1, 0.60), (1, 0.80)], None),
        ([(0, 0.70)], None),
        ([(0, 0.31), (1, 0.32)], "hardly learnt: an accuracy of 0.3200, where always saying"),
        ([(0, 0.50), (1, 0.31)], "below the 0.5000"),
    ],
)
def test_a_member_that_lost_what_its_head_knew_or_has_hardly_learnt_says_so(
    accuracies: Any, said: str | None
) -> None:
    from ensemble.runs.history import warnings as found

    lines = found(epochs(*accuracies), [0], 400, 0.3)
    assert (said is None and not lines) or (said is not None and any(said in line for line in lines))


def test_without_validation_there_is_nothing_to_say() -> None:
    from ensemble.runs.history import warnings as found

    assert found([], [0], 400, 0.3) == [] and found(epochs((0, None)), [0], 400, 0.3) == []  # type: ignore[arg-type]
