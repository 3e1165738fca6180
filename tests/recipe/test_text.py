"""YAML of recipes: scalars, repeated keys, round trips."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ensemble.core.errors import RecipeError
from ensemble.recipe import text
from ensemble.recipe.file import read_recipe_file

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
def test_yaml_scalars(written: str, value: object) -> None:
    assert text.parse(f"a: {written}") == {"a": value}


def test_repeated_yaml_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("members: []\nmembers: []\n")
    with pytest.raises(RecipeError, match="stands twice"):
        read_recipe_file(tmp_path / "r.yaml")
