"""Recipe files: every problem is reported, contradictions are refused, entries override defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.recipes import cached_recipe, small_recipe
from helpers.repository import RECIPES

from ensemble.cli.demo import DEMO
from ensemble.core.errors import RecipeError
from ensemble.models.network import build_network
from ensemble.recipe import text
from ensemble.recipe.contradictions import contradictions
from ensemble.recipe.file import build, read_recipe_file
from ensemble.training.methods.progressive import progressive


def test_every_problem_is_reported_with_the_nearest_name() -> None:
    raw = {
        "membrs": [],
        "data": {"form": "folders", "pth": "x"},
        "defaults": {"epocs": 3},
        "members": [{"arch": "resnet34", "lr": "fast", "seed": 1.5}, {"epochs": 2}],
        "combine": {"threshold": float("nan")},
        "submit": {"separator": ";;"},
    }
    with pytest.raises(RecipeError) as caught:
        build(raw, source="r.yaml")
    message = str(caught.value)
    for part in (
        "membrs: unknown key; did you mean 'members'?",
        "data.pth: unknown key; did you mean 'path'?",
        "defaults.epocs: unknown key; did you mean 'epochs'?",
        "members[0].lr: 'fast' found",
        "members[0].seed: 1.5 found",
        "members[1].arch: missing",
        "combine.threshold: nan found",
        "submit.separator: ';;' found",
    ):
        assert part in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({"epochs": 0, "frozen_epochs": 0}, "at least one epoch"),
        ({"full": True, "keep": "best"}, "refit has no validation rows"),
        ({"full": True, "folds": 3}, "exclude each other"),
        ({"folds": 3, "fold": 3}, "a fold below"),
        ({"stages": [{"epochs": 1}], "epochs": 2}, "`stages` say the epochs"),
        ({"seeds": []}, "a list such as"),
        ({"seed": 1, "seeds": [1]}, "both `seed` and `seeds`"),
        ({"lr": float("inf")}, "finite"),
        ({"lr": 0}, "greater than 0"),
        ({"name": "a/b"}, "a name without slashes"),
        ({"name": "a\nb"}, "a name without slashes"),
        ({"dropout": 1.0}, "less than 1"),
        ({"batch_size": True}, "integer"),
    ],
)
def test_contradictions_and_wrong_values_are_refused(entry: dict[str, object], part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        build({"members": [{"arch": "resnet34", **entry}]}, source="r")


@pytest.mark.parametrize("value", ["true", "1.0", "1e5", "null"])
def test_values_yaml_does_not_read_as_text_are_to_be_quoted(tmp_path: Path, value: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"data: {{form: folders, path: x, classes: [cat, {value}]}}\nsubmit: {{id_column: {value}}}\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe_file(path)
    result = repr(text.parse(value))
    for key in ("data.classes.1", "submit.id_column"):
        assert f"{key}: {result} found, text in quotes expected" in str(caught.value)
    path.write_text(f"data: {{form: folders, path: x, classes: [cat, '{value}']}}\n")
    assert read_recipe_file(path).data.classes == ("cat", value)


def test_entry_overrides_defaults_and_seeds_multiply_it() -> None:
    result = build(
        {
            "defaults": {"epochs": 2, "seeds": [0, 1]},
            "members": ["resnet34", {"arch": "vgg19", "epochs": 5, "seed": 7}],
        },
        source="r",
    )
    assert [(m.arch, m.epochs, m.seed) for m in result.members] == [
        ("resnet34", 2, 0),
        ("resnet34", 2, 1),
        ("vgg19", 5, 7),
    ]


def test_demo_is_the_digits_recipe() -> None:
    assert build(DEMO, source="demo").members == read_recipe_file(RECIPES / "digits.yaml").members
    assert build(DEMO, source="demo").combine == read_recipe_file(RECIPES / "digits.yaml").combine


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_begins_with_its_command(path: Path) -> None:
    result = read_recipe_file(path)
    assert result.members
    verb = "sweep" if result.sweep.grid or result.sweep.search else "run"
    assert path.read_text().startswith(f"# ens {verb} recipes/{path.name}")


def test_cached_features_exclude_augmentation() -> None:
    assert not list(contradictions(cached_recipe()))
    for keys in ({"augment": "flip"}, {"mixing": "mixup"}, {"progressive": 8}):
        (problem,) = contradictions(cached_recipe(**keys))
        assert problem.startswith("cache_features needs the same images in every epoch")
    (problem,) = contradictions(cached_recipe(frozen_epochs=0))
    assert "ask for frozen_epochs" in problem


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
def test_fine_tuning_contradictions_are_refused(keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        build({"data": {"form": "folders"}, "members": [keys]}, source="recipe")


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "size", "side"), [("vit_tiny_patch16_224", 224, 160), ("customnet", 32, 16)])
def test_progressive_resizing_of_a_fixed_size_network_is_refused(arch: str, size: int, side: int) -> None:
    given_ = small_recipe(arch=arch, image_size=size, progressive=side)
    with pytest.raises(RecipeError, match=f"takes no images of {side} pixels"):
        progressive(given_, build_network(given_, 3), 4)
    assert any("less than image_size" in problem for problem in contradictions(small_recipe(progressive=16)))


def test_included_recipes_are_read_by_name(here: Path) -> None:
    from ensemble.recipe.text import included_recipes, read, recipe_file

    assert {path.name for path in included_recipes().values()} == {path.name for path in RECIPES.glob("*.yaml")}
    assert read(recipe_file(Path("cifar10-cpu")))["data"]["path"] == "cifar10"
    (here / "cifar10-cpu").write_text("data: digits")  # a file that is there wins
    assert recipe_file(Path("cifar10-cpu")) == Path("cifar10-cpu")
    with pytest.raises(RecipeError, match="there is no recipe digit; did you mean 'digits'"):
        read(recipe_file(Path("digit")))
    with pytest.raises(RecipeError, match=r"there is no recipe digit\.yaml; type `ens init`"):
        read(recipe_file(Path("digit.yaml")))
