"""What a recipe leaves out is filled in; the hash covers what decides a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from ensemble.recipe import text
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.file import build, read_recipe_file
from ensemble.recipe.resolve import as_mapping, hashed_keys, resolved, run_hash, training_stages
from ensemble.recipe.schema import Recipe


def member(**keys: object) -> Recipe:
    return build({"members": [{"arch": "resnet34", **keys}]}, source="r").members[0]


def test_run_recipe_reads_back_as_the_same_member(tmp_path: Path) -> None:
    recipe = member(lr=1e-3, stem="small", filters=[8, 16], seed=3)
    path = tmp_path / "recipe.yaml"
    path.write_text(text.dump(as_mapping(recipe)))
    assert read_recipe_file(path).members == (recipe,)


def test_hash_ignores_names_paths_and_written_defaults() -> None:
    base = run_hash(member(), "data", None)
    assert run_hash(member(name="other", epochs=12, lr="auto", image_size=32), "data", None) == base
    moved = member().model_copy(update={"data": DataSpec(path="elsewhere")})
    assert run_hash(moved, "data", None) == base


@pytest.mark.parametrize(
    "keys",
    [
        {"seed": 1},
        {"lr": 0.1},
        {"stem": "small"},
        {"epochs": 19},
        {"tta": "flip"},
        {"folds": 3},
        {"full": True},
    ],
)
def test_hash_covers_what_decides_a_result(keys: dict[str, object]) -> None:
    assert run_hash(member(**keys), "data", None) != run_hash(member(), "data", None)


def test_hash_covers_data_and_weights() -> None:
    hashes = {run_hash(member(), data, weights) for data in "ab" for weights in (None, "w")}
    assert len(hashes) == 4


def test_hashed_keys_are_few() -> None:
    assert hashed_keys(member()) == {"arch": "resnet34", "seed": 0}


def test_stages_follow_fine_tune() -> None:
    fine_tuned = member(weights="imagenet", frozen_epochs=1, epochs=3, lr=0.01, head_fit="steps")
    head, everything = training_stages(fine_tuned)
    assert (head.train, head.epochs, head.lr) == ("head", 1, 0.01)
    assert (everything.train, everything.epochs, everything.lr) == ("all", 3, 0.005)
    (only,) = training_stages(member(weights="none", epochs=3, lr=0.01))
    assert (only.train, only.lr) == ("all", 0.01)


PHOTOS = DataSpec(form="folders")


def test_preset_fills_missing_keys_and_is_not_hashed() -> None:
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


def test_network_from_scratch_has_no_preset() -> None:
    for preset in (None, "quick", "good", "best"):
        recipe = resolved(Recipe(data=PHOTOS, arch="resnet18", weights="none", preset=preset))
        assert (recipe.head, recipe.head_fit, recipe.freeze_norms, recipe.clip) == ("dense", "steps", False, 0.0)
        assert (recipe.frozen_epochs, recipe.epochs) == (0, 30)


def test_fitted_head_leaves_the_learning_rate_to_the_next_stage() -> None:
    fitted = resolved(Recipe(data=PHOTOS, arch="resnet18", lr=0.001))
    assert [(stage.train, stage.epochs, stage.lr) for stage in training_stages(fitted)] == [
        ("head", 1, 0.001),
        ("all", 3, 0.001),
    ]
    trained = resolved(Recipe(data=PHOTOS, arch="resnet18", lr=0.001, head_fit="steps"))
    assert [stage.lr for stage in training_stages(trained)] == [0.001, 0.0005]


def test_head_without_regression_is_trained_by_steps() -> None:
    assert resolved(Recipe(data=PHOTOS, arch="resnet18", head="dense")).head_fit == "steps"
    assert resolved(Recipe(data=PHOTOS, arch="resnet18", cache_features=True)).head_fit == "steps"


def test_custom_network_keeps_its_head_when_fine_tuned() -> None:
    recipe = resolved(Recipe(data=PHOTOS, arch="customnet_deep", weights="run/weights.safetensors"))
    assert (recipe.head, recipe.head_fit, recipe.freeze_norms) == ("dense", "steps", "statistics")
