"""A package from outside registers objects of each kind through the entry point group `ensemble.plugins`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.fake_runs import member
from PIL import Image

PLUGIN = '''
import random
import numpy as np
from ensemble.combine.rules import rule
from ensemble.data.preprocess import filters
from ensemble.data.listing import RawListing, Rows
from ensemble.metrics import metric
from ensemble.recipe.schema import forms
from ensemble.tracking import NullTracker, tracker


@metric("always_half")
def always_half(probs, targets):
    return 0.5


@rule("first", complexity=20)
def first(probs, targets):
    """The first member alone."""
    return {"weights": np.eye(len(probs))[0]}


@filters.register("negative")
def negative(image):
    """Every channel inverted."""
    from PIL import ImageOps
    return ImageOps.invert(image)


@forms.register("listed")
def listed(spec, leave_out):
    """A text file of paths and labels."""
    from pathlib import Path
    rows = [line.split() for line in Path(spec.path, "labels.txt").read_text().splitlines()]
    paths, labels = zip(*rows)
    return RawListing(Path(spec.path), {"train": Rows(paths, paths, labels)}, None, 0.25)


class Told(NullTracker):
    def __init__(self, runs):
        self.runs = runs

    def finished(self, run):
        (self.runs / "told.txt").write_text(run.id)


@tracker("text")
def text(runs, weights, note):
    return Told(runs)
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with an installed distribution, as pip leaves it."""
    folder = tmp_path / "site"
    info = folder / "ens_extras-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "ens_extras.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ens-extras\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ensemble.plugins]\nextras = ens_extras\n")
    return folder


def ens(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-m", "ensemble", *words]
    return subprocess.run(command, cwd=site.parent, env=env, capture_output=True, text=True, check=False)


def test_plugin_adds_rule_metric_and_tracker(site: Path) -> None:
    for name, seed in (("net-aaaaaaaa", 1), ("net-bbbbbbbb", 2)):
        member(site.parent / "runs", name, seed)
    names = ["net-aaaaaaaa", "net-bbbbbbbb"]
    done = ens(site, "combine", *names, "--rule", "first", "--metric", "always_half", "--track", "text", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert [row["weight"] for row in facts["members"]].count(1.0) == 1
    assert facts["scores"][0]["metric"] == "always_half" and facts["scores"][0]["honest"] == 0.5
    assert (site.parent / "runs" / "told.txt").read_text() == facts["run"]
    scores = json.loads((site.parent / "runs" / facts["run"] / "metrics.json").read_text())
    assert scores["valid"]["always_half"] == 0.5
    page = ens(site, "report", facts["run"], "--no-explain", "--out", "page.html")
    assert page.returncode == 0, page.stderr
    assert "always_half" in (site.parent / "page.html").read_text()
    # auto compares the rule too
    assert ens(site, "combine", *names, "--rule", "auto", "--name", "auto").returncode == 0
    unknown = ens(site, "combine", *names, "--rule", "fist")
    assert unknown.returncode == 2
    assert "did you mean 'first'" in unknown.stderr


def test_plugin_adds_a_filter(site: Path) -> None:
    code = (
        "from PIL import Image; from ensemble.data.preprocess import Preprocess;"
        " print(Preprocess(4, 'squash', ('negative',)).of(Image.new('RGB', (4, 4))).max())"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "255"


def test_plugin_adds_a_data_form(site: Path) -> None:
    photos = site.parent / "photos"
    photos.mkdir()
    draw = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(draw.integers(0, 255, (40, 40, 3), np.uint8)).save(photos / f"{number}.png")
    (photos / "labels.txt").write_text("".join(f"{number}.png {'ab'[number % 2]}\n" for number in range(16)))
    (site.parent / "recipe.yaml").write_text("data: {form: listed, path: photos}\nmembers: [resnet18]\n")
    done = ens(site, "check", "--recipe", "recipe.yaml", "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert {split: sum(numbers) for split, numbers in counts.items()} == {"train": 12, "valid": 4}, counts
    (site.parent / "recipe.yaml").write_text("data: {form: list, path: photos}\nmembers: [resnet18]\n")
    wrong = ens(site, "check", "--recipe", "recipe.yaml")
    assert wrong.returncode == 2
    assert "data.form: 'list' found, 'digits', 'folders', 'csv' or a form of a plugin expected" in wrong.stderr


def test_plugin_that_fails_is_named(site: Path) -> None:
    (site / "ens_extras.py").write_text("import nothing_like_it\n")
    member(site.parent / "runs", "net-aaaaaaaa", 1)
    done = ens(site, "combine", "net-aaaaaaaa", "--rule", "accuracy")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the plugin 'extras' of the package ens-extras fails" in done.stderr
    assert "pip uninstall ens-extras" in done.stderr
    code = (
        "from ensemble.core.errors import EnsError\nfrom ensemble.combine.rules import rules\nfailed = 0\n"
        "for _ in range(2):\n    try: rules.get('accuracy')\n    except EnsError: failed += 1\nprint(failed)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    twice = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert twice.stdout.strip() == "2"  # the second look-up does not go on without it
