"""Laws of recipes: what is read is what was written, every mistake is told, the hash covers what it should."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ensemble.cli.demo import DEMO
from ensemble.core.errors import RecipeError
from ensemble.recipe import text
from ensemble.recipe.file import build, read_recipe_file
from ensemble.recipe.resolve import as_mapping, hashed_keys, run_hash, training_stages
from ensemble.recipe.schema import DataSpec, Recipe

RECIPES = Path(__file__).parents[1] / "recipes"

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(["1e-3", "010", "no", "NA", "~", "0x1f", "2020-01-01", ".nan", "1_0", "on", "+1", "1.", ""]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.-_1e0", max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain)
@example({"...": "---"})
def test_yaml_reads_back_what_it_wrote(value: object) -> None:
    assert text.parse(text.dump(value)) == value


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 1e-3),
        ("010", "010"),
        ("no", "no"),
        ("NA", "NA"),
        ("true", True),
        ("0", 0),
        ("-3", -3),
        ("3.5", 3.5),
        ("2020-01-01", "2020-01-01"),
        ("null", None),
        ("0o17", "0o17"),
    ],
)
def test_yaml_reads_scalars_as_a_person_means_them(written: str, value: object) -> None:
    assert text.parse(f"a: {written}") == {"a": value}


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("members: []\nmembers: []\n")
    with pytest.raises(RecipeError, match="stands twice"):
        read_recipe_file(tmp_path / "r.yaml")


def test_every_problem_is_told_at_once_with_the_nearest_name() -> None:
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
def test_what_yaml_takes_for_no_text_is_to_be_quoted(tmp_path: Path, value: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"data: {{form: folders, path: x, classes: [cat, {value}]}}\nsubmit: {{id_column: {value}}}\n")
    with pytest.raises(RecipeError) as caught:
        read_recipe_file(path)
    result = repr(text.parse(value))
    for key in ("data.classes.1", "submit.id_column"):
        assert f"{key}: {result} found, text in quotes expected" in str(caught.value)
    path.write_text(f"data: {{form: folders, path: x, classes: [cat, '{value}']}}\n")
    assert read_recipe_file(path).data.classes == ("cat", value)


def test_an_entry_overrides_the_defaults_and_seeds_multiply_it() -> None:
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


def member(**keys: object) -> Recipe:
    return build({"members": [{"arch": "resnet34", **keys}]}, source="r").members[0]


def test_a_run_recipe_reads_back_as_the_same_member(tmp_path: Path) -> None:
    recipe = member(lr=1e-3, stem="small", filters=[8, 16], seed=3)
    path = tmp_path / "recipe.yaml"
    path.write_text(text.dump(as_mapping(recipe)))
    assert read_recipe_file(path).members == (recipe,)


def test_the_hash_does_not_see_names_paths_or_defaults_written_out() -> None:
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
def test_the_hash_sees_everything_that_decides_a_result(keys: dict[str, object]) -> None:
    assert run_hash(member(**keys), "data", None) != run_hash(member(), "data", None)


def test_the_hash_sees_data_and_weights() -> None:
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


def test_the_demo_is_the_digits_recipe() -> None:
    assert build(DEMO, source="demo").members == read_recipe_file(RECIPES / "digits.yaml").members
    assert build(DEMO, source="demo").combine == read_recipe_file(RECIPES / "digits.yaml").combine


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_says_its_command_first(path: Path) -> None:
    result = read_recipe_file(path)
    assert result.members
    verb = "sweep" if result.sweep.grid or result.sweep.search else "run"
    assert path.read_text().startswith(f"# ens {verb} recipes/{path.name}")
