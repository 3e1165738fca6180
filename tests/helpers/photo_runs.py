"""Runs of a folder of photos, as training would leave them."""

from __future__ import annotations

import re

import numpy as np

from ensemble.cli import run as ens
from ensemble.core.predictions import Predictions
from ensemble.data.load import load_dataset
from ensemble.recipe import text
from ensemble.recipe.data_spec import DataSpec
from ensemble.recipe.schema import Recipe
from helpers.fake_runs import run
from helpers.photos import flat_image


def photos_spec(**keys):
    return DataSpec(form="folders", path="photos", valid="valid", test="test", **keys)


def trained_run(here, name="net-0", seed=0, created="2026-02-01T00:00:00+00:00", **keys):
    """A run as training would leave it, without weights: it has predicted what is in `photos`."""
    spec = photos_spec(**keys)
    dataset = load_dataset(spec, here / "runs")
    random, splits = np.random.default_rng(seed), {}
    for split in ("valid", "test"):
        items = dataset.splits[split]
        probs = random.dirichlet(np.ones(2), len(items)).astype(np.float32)
        targets = items.targets if split == "valid" else None
        splits[split] = Predictions(items.ids, probs, dataset.classes, targets)
    data = {"form": "folders", "fingerprint": dataset.fingerprint, "tests": dict(dataset.test_fingerprints)}
    result = run(here / "runs", name, splits, data=data, created=created)
    recipe = Recipe(arch="resnet18", data=spec).model_dump(mode="json")
    (result.path / "recipe.yaml").write_text(text.dump(recipe), encoding="utf-8")
    return result


def output_of(capsys, *words, code=0):
    """(stdout, stderr) of a command that ends with `code`."""
    ended = ens(list(words))
    out, err = capsys.readouterr()
    assert ended == code, err
    return out, err


def change_test(here):
    """Every image of the test is another, and there is one more."""
    for i in range(5):
        flat_image(here / "photos" / "test" / f"t{i}.png", 50 + i, 8)


def commands(err):
    """What a message says to type."""
    return [part for typed in re.findall(r"`([^`]+)`", err) for part in typed.split(" && ")]
