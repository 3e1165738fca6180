"""The manual and the help pages list what is registered, and every key of a recipe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import reference

from ensemble.cli import run as ens
from ensemble.recipe import data_spec, field_types, schema

ROOT = Path(__file__).parent.parent
MODELS = (
    data_spec.DataSpec,
    schema.Recipe,
    schema.Stage,
    schema.CombineSpec,
    schema.SubmitSpec,
    schema.SweepSpec,
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_key_of_a_recipe_is_described(model: type[field_types.Frozen]) -> None:
    assert list(reference.descriptions(model)) == list(model.model_fields)


@pytest.mark.slow  # the methods of training import torch and fastai
@pytest.mark.parametrize("page", dict.fromkeys(page for page, _ in reference.PARTS))
def test_the_manual_is_as_the_code_declares(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert reference.written(page, text) == text, "type `python tests/reference.py`"


@pytest.mark.parametrize(
    ("words", "registry"),
    [
        (["combine"], "ensemble.combine.rules:rules"),
        (["combine"], "ensemble.metrics:metrics"),
        (["submit"], "ensemble.submit.formats:formats"),
        (["export"], "ensemble.export.exporters:exporters"),
        (["train"], "ensemble.tracking:trackers"),
    ],
)
def test_help_lists_every_name(words: list[str], registry: str, capfd: pytest.CaptureFixture[str]) -> None:
    from ensemble.core.registry import load

    assert ens([*words, "--help"]) == 0
    listed = set(re.findall(r"[\w-]+", re.sub(r"-\n\s+", "-", capfd.readouterr().out)))
    assert set(load(registry).names()) <= listed
