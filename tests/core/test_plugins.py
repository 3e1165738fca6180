"""A package from outside registers objects of each kind through the entry point group `ensemble.plugins`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.fake_runs import member
from PIL import Image

PLUGIN = '''
from pathlib import Path
import numpy as np
from ensemble.combine.rules import rule
from ensemble.data.preprocess import filters
from ensemble.data.listing import RawListing, Rows
from ensemble.export.exporters import OnnxModel, exporter
from ensemble.metrics import metric
from ensemble.recipe.data_spec import forms
from ensemble.submit.formats import Sheet, columns, predicted_labels, submission_format
from ensemble.tracking import NullTracker, tracker


@metric("always_half")
def always_half(probs, targets):
    return 0.5


@rule("first", complexity=20)
def first(probs, targets):
    """The first member alone."""
    return {"weights": np.eye(len(probs))[0]}


@filters.register("negative", exported="lambda image, size: ImageOps.invert(image)")
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


class TextFile(NullTracker):
    def __init__(self, runs):
        self.runs = runs

    def finished(self, run):
        (self.runs / "finished.txt").write_text(run.id)


@tracker("text")
def text(runs, weights, note):
    return TextFile(runs)


@submission_format("bars")
def bars(predictions, spec):
    """Cells between bars."""
    rows = columns(predictions.ids.tolist(), predicted_labels(predictions, spec))
    return Sheet(("id", "label"), rows, True, "|")


@exporter("graph-only", load=lambda folder: OnnxModel(folder / "graph.onnx"), files=("graph.onnx",))
def graph_only(loaded, folder, opset):
    """The graph without a script."""
    from ensemble.export.onnx_graph import write_onnx
    write_onnx(loaded, folder / "graph.onnx", opset=opset)
'''

METHODS = (
    PLUGIN
    + '''
from ensemble.training.methods.samplers import samplers
from ensemble.training.methods.schedules import schedules


class FirstOfEachClass:
    def __init__(self, targets, n_classes, number):
        self.indices = [i for c in range(n_classes) for i in np.flatnonzero(targets == c)[:number].tolist()]
        self.class_counts = np.bincount(targets[self.indices], minlength=n_classes)
        self.count = len(self.indices)

    def draw(self, rng):
        return rng.sample(self.indices, self.count)


@samplers.register("first-of-each", keys=("sampler_count",))
def first_of_each(recipe, targets, n_classes):
    """The first `sampler_count` items of each class."""
    return FirstOfEachClass(targets, n_classes, recipe.sampler_count or 5)


@schedules.register("by-loss", keys=("rate_factor",), chosen_on_valid="my rates")
def by_loss(settings):
    """Constant, for this test."""
    from fastai.callback.schedule import SchedNo
    return {"lr": SchedNo(settings.rates, settings.rates)}
'''
)


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


COMMANDS = """
import contextlib, io, json, sys
from ensemble.cli import run
done = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run(words)
    done.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
print(json.dumps(done))
"""


def python(site: Path, code: str, *words: str) -> str:
    """stdout of a process that has the distribution of `site` installed."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=site.parent, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def commands(site: Path, *several: list[str]) -> list[SimpleNamespace]:
    """Exit code, stdout and stderr of each command; one process runs them all."""
    return [SimpleNamespace(**done) for done in json.loads(python(site, COMMANDS, json.dumps(several)))]


def test_plugin_adds_rule_metric_and_tracker(site: Path) -> None:
    for name, seed in (("net-aaaaaaaa", 1), ("net-bbbbbbbb", 2)):
        member(site.parent / "runs", name, seed)
    names = ["net-aaaaaaaa", "net-bbbbbbbb"]
    done, page, auto, unknown = commands(
        site,
        ["combine", *names, "--rule=first", "--metric=always_half", "--track=text", "--name=halves", "--json"],
        ["report", "halves", "--no-explain", "--out", "page.html"],
        ["combine", *names, "--rule", "auto", "--name", "auto"],  # compares the rule too
        ["combine", *names, "--rule", "fist"],
    )
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert [row["weight"] for row in facts["members"]].count(1.0) == 1
    assert facts["scores"][0]["metric"] == "always_half" and facts["scores"][0]["honest"] == 0.5
    assert (site.parent / "runs" / "finished.txt").read_text() == facts["run"]
    scores = json.loads((site.parent / "runs" / facts["run"] / "metrics.json").read_text())
    assert scores["valid"]["always_half"] == 0.5
    assert page.code == 0, page.err
    assert "always_half" in (site.parent / "page.html").read_text()
    assert auto.code == 0, auto.err
    assert unknown.code == 2
    assert "did you mean 'first'" in unknown.err


def test_plugin_adds_a_submission_format(site: Path) -> None:
    member(site.parent / "runs", "net-aaaaaaaa", 1)
    done, shown = commands(
        site, ["submit", "net-aaaaaaaa", "--format", "bars", "--out", "answer.txt"], ["submit", "--help"]
    )
    assert done.code == 0, done.err
    assert (site.parent / "answer.txt").read_text().startswith("id|label\n")
    assert "bars" in shown.out


@pytest.mark.slow
def test_plugin_adds_methods_of_training_and_an_exporter(site: Path) -> None:
    (site / "ens_extras.py").write_text(METHODS)
    image = site.parent / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)).save(image)
    net = ["--arch", "customnet", "--epochs", "1", "--set", "sampler_count=7"]
    words = [*net, "--set", "sampler=first-of-each", "--set", "schedule=by-loss", "--lr", "0.01"]
    refused, refit, done = commands(
        site,
        ["train", *net],
        ["train", *words, "--full"],
        ["train", *words, "--set", "preprocess=[negative]", "--set", "batch_size=16"],
    )
    assert refused.code == 2
    assert "sampler_count is for sampler: oversample or first-of-each, none found; leave it out" in refused.err
    assert refit.code == 2
    assert "a refit has no validation rows to decide by (my rates)" in refit.err
    assert done.code == 0, done.err
    run = done.out.strip()
    record = json.loads((site.parent / "runs" / run / "run.json").read_text())
    assert record["shown"]["after"] == [7] * 10
    assert record["chosen_on_valid"] == ["my rates"]
    graph, bundle, predicted = commands(
        site,
        ["export", run, "--format", "graph-only", "--zip", "graph.zip", "--json"],
        ["export", run, "--out", "bundle"],
        ["predict", run, "image.png", "--format", "jsonl"],
    )
    assert graph.code == bundle.code == 0, graph.err + bundle.err
    assert json.loads(graph.out)["parity"]["difference"] < 1e-4
    script = (site.parent / "bundle" / "predict.py").read_text()
    assert "'negative': lambda image, size: ImageOps.invert(image)," in script
    script_words = [sys.executable, "bundle/predict.py", "image.png"]
    anywhere = subprocess.run(script_words, cwd=site.parent, capture_output=True, text=True, check=True)
    expected = json.loads(predicted.out)["probabilities"]
    assert json.loads(anywhere.stdout)["probabilities"] == pytest.approx(expected, abs=1e-4)
    served = (
        "from pathlib import Path; from ensemble.serve.onnx_predictor import load_export;"
        " print(load_export(Path('graph.zip'), 0.9).facts.engine)"
    )
    assert python(site, served).startswith("onnxruntime")


def test_plugin_adds_a_filter(site: Path) -> None:
    code = (
        "from PIL import Image; from ensemble.data.preprocess import Preprocess;"
        " print(Preprocess(4, 'squash', ('negative',)).of(Image.new('RGB', (4, 4))).max())"
    )
    assert python(site, code).strip() == "255"


def test_plugin_adds_a_data_form(site: Path) -> None:
    photos = site.parent / "photos"
    photos.mkdir()
    draw = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(draw.integers(0, 255, (40, 40, 3), np.uint8)).save(photos / f"{number}.png")
    (photos / "labels.txt").write_text("".join(f"{number}.png {'ab'[number % 2]}\n" for number in range(16)))
    (site.parent / "recipe.yaml").write_text("data: {form: listed, path: photos}\nmembers: [resnet18]\n")
    (site.parent / "wrong.yaml").write_text("data: {form: list, path: photos}\nmembers: [resnet18]\n")
    done, wrong = commands(
        site, ["check", "--recipe", "recipe.yaml", "--json"], ["check", "--recipe", "wrong.yaml"]
    )
    assert done.code == 0, done.err
    counts = json.loads(done.out)["counts"]
    assert {split: sum(numbers) for split, numbers in counts.items()} == {"train": 12, "valid": 4}, counts
    assert wrong.code == 2
    assert "data.form: 'list' found, 'digits', 'folders', 'csv' or a form of a plugin expected" in wrong.err


def test_plugin_that_fails_is_named(site: Path) -> None:
    (site / "ens_extras.py").write_text("import nothing_like_it\n")
    member(site.parent / "runs", "net-aaaaaaaa", 1)
    (done,) = commands(site, ["combine", "net-aaaaaaaa", "--rule", "accuracy"])
    assert done.code == 1
    assert done.err.count("\n") == 1
    assert "the plugin 'extras' of the package ens-extras fails" in done.err
    assert "pip uninstall ens-extras" in done.err
    code = (
        "from ensemble.core.errors import EnsError\nfrom ensemble.combine.rules import rules\nfailed = 0\n"
        "for _ in range(2):\n    try: rules.get('accuracy')\n    except EnsError: failed += 1\nprint(failed)"
    )
    assert python(site, code).strip() == "2"  # the second look-up does not go on without it
