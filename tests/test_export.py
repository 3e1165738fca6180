"""Laws of `ens export`: the same probabilities, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import CLASSES, member, predictions
from helpers.fake_runs import run as write
from helpers.network_runs import many_kinds, network_run, picture, see_through
from PIL import Image

from ensemble.cli import run as ens
from ensemble.combine.calibration import fit_temperature
from ensemble.combine.ensembler import combine
from ensemble.combine.fit import applied
from ensemble.combine.predicting_members import predicting_members
from ensemble.combine.rules import rules
from ensemble.core.errors import DataError, EnsError
from ensemble.core.files import sha256_file
from ensemble.runs.leaderboard import headline
from ensemble.runs.run import Run

ROOT = Path(__file__).parents[1]
OTHERS = ("predict.py", "README.md", "config.json")
RULES = ["uniform", "accuracy", "log-odds", "logit-mean", "rank", "convex", "greedy", "per-class", "stack"]


def rows(m: int, n: int, k: int, seed: int, sharp: float = 1.0) -> np.ndarray:
    """float32 (m, n, k): members of some skill; the sharper, the surer, to exact zeros and ones."""
    random = np.random.default_rng(seed)
    truth = 3 * np.eye(k)[np.arange(n) % k]
    logits = sharp * (truth + random.normal(size=(m, n, k)) * np.linspace(1, 4, m)[:, None, None])
    logits -= logits.max(axis=2, keepdims=True)
    return (np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("m", "k", "sharp"), [(1, 2, 1.0), (3, 5, 1.0), (4, 3, 8.0), (3, 3, 60.0)])
def test_a_rule_in_a_graph_is_the_rule(rule: str, m: int, k: int, sharp: float) -> None:
    import torch

    from ensemble.export.rules import Combined

    fit, new = rows(m, 300, k, 0, sharp), rows(m, 500, k, 1, sharp)
    targets = np.arange(300) % k
    entry = rules.get(rule)
    params = entry.fit(fit, targets)
    for temperature in (None, fit_temperature(entry.apply(params, fit), targets), 0.05, 20.0):
        used = [j for j, share in enumerate(entry.shares(params)) if share.any()]
        graph = Combined(rule, params, temperature, used)
        got = graph(torch.from_numpy(new[used]).transpose(0, 1)).numpy()
        expected = applied(entry, params, temperature, new)
        assert got.dtype == np.float32 and got.shape == (500, k)
        # the last digit of a float32 logarithm counts: twenty times with the lowest temperature, more in a table
        assert np.abs(got - expected).max() < (1e-4 if rule == "rank" else 1e-6)


def test_every_rule_has_a_graph() -> None:
    from ensemble.export.rules import Combined, graph_rules

    assert set(graph_rules.names()) == set(rules.names()) - {"auto"} == set(RULES)
    with pytest.raises(DataError, match="'median' cannot be exported"):
        Combined("median", {}, None, [0])


# the folder

BLOCKED = {"torch", "torchvision", "fastai", "timm", "ensemble", "pandas", "sklearn", "scipy", "onnx", "skimage"}
CLEAN = f"""
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {sorted(BLOCKED)!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
script, *sys.argv[1:] = sys.argv[1:]
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
"""


def elsewhere(script: Path, images: list[Path], cwd: Path) -> tuple[dict[str, Any], str]:
    """What predict.py says of each image in a process where nothing else can be imported, and its stderr."""
    words = [sys.executable, "-c", CLEAN, str(script), *map(str, images)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=cwd, encoding="utf-8")
    return {output["image"]: output for output in map(json.loads, done.stdout.splitlines())}, done.stderr


def test_the_script_has_forty_lines_and_repeats_our_steps() -> None:
    from ensemble.data.preprocess import NEEDS_SCIKIT_IMAGE, filters, resizes
    from ensemble.export.predict_anywhere import STEPS

    script = ROOT / "ensemble" / "export" / "predict_anywhere.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40
    assert set(STEPS) == (set(filters.names()) - NEEDS_SCIKIT_IMAGE) | set(resizes.names())
    image = picture(0, 300, 211)
    for name, step in STEPS.items():
        ours = filters.get(name)(image) if name in filters else resizes.get(name)(image, 48)
        assert np.array_equal(np.asarray(step(image, 48)), np.asarray(ours))


def test_a_missing_package_is_named_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.export.session import check_extra

    check_extra()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(EnsError, match="python -m pip install onnxscript"):
        check_extra()


def test_a_headline_is_the_honest_score(here: Path) -> None:
    runs = [member(here / "runs", f"net{i}-0000000{i}", i) for i in (1, 2)]
    created = combine(runs, folder=here / "runs", metric="macro_f1")
    result = headline(created.run)
    assert result is not None and (result.metric, result.rows) == ("macro_f1", 60)
    assert result.value == created.run.metrics["honest"]["macro_f1"]["value"]
    alone = headline(runs[0])
    assert alone is not None and alone.low is not None and alone.high is not None
    assert alone.low < alone.value == runs[0].metrics["valid"]["accuracy"] < alone.high
    after = write(here / "runs", "net-full-00000009", {"test": predictions(5, 3)}, kind="refit", parents=runs[:1])
    before = headline(after)
    assert before is not None and before.value == alone.value and "before the refit" in str(before)
    assert headline(write(here / "runs", "dark-00000008", {"valid": predictions(5, 3, labelled=False)})) is None


def test_imports_and_two_targets_are_refused(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    member(here / "runs", "vit-00000002", 2, kind="import")
    assert ens(["export", "vit-00000002"]) == 3
    assert "has no network" in capfd.readouterr().err
    assert ens(["export", "vit-00000002", "--out", "a", "--zip", "b"]) == 2


def mixed(folder: Path, **data: Any) -> list[Run]:
    """Three members of other sizes, resize modes, views, filters, normalisation, class orders."""
    return [
        network_run(folder, "one-00000001", 1, tta="flips", resize="pad", data=data),
        network_run(folder, "two-00000002", 2, image_size=20, preprocess=("smooth", "grey"), data=data),
        network_run(folder, "three-00000003", 3, classes=CLASSES[::-1], tta="dihedral", resize="crop", data=data),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["stack", "rank"])
def test_elsewhere_the_same_images_get_the_same_answers(
    here: Path, rule: str, capfd: pytest.CaptureFixture[str]
) -> None:
    created = combine(mixed(here / "runs"), folder=here / "runs", rule=rule)
    assert ens(["export", created.run_id]) == 0
    out, err = capfd.readouterr()
    folder = Path(out.strip())
    assert folder == Path("runs/exports") / created.run_id
    # the data set is not there, which is said, and noise is compared
    assert "no validation images" in err and "32 images of noise" in err and "same for 32" in err
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "predict.py", "README.md", "config.json"}

    paths = [path.relative_to(here) for path in many_kinds(here / "photos")]
    refused = ("broken.jpg", "clear.png", "moving.gif", "deep.tif", "deepclear.png")
    broken, clear, moving, deep, deepclear = (here / name for name in refused)
    wide = np.asarray(picture(0).convert("L")).astype(np.uint16) * 257
    Image.fromarray(wide.astype(np.int32)).save(deep)
    Image.fromarray(wide).save(deepclear, transparency=int(wide[0, 0]))
    broken.write_bytes(b"\xff\xd8 no")
    transparent = picture(0).convert("RGBA")
    transparent.putalpha(0)
    transparent.save(clear)
    picture(0).save(moving, save_all=True, append_images=[picture(1)])
    folder.rename(here / "moved")
    output, errors = elsewhere(here / "moved" / "predict.py", [*paths, *(here / name for name in refused)], here)
    assert [Path(line.split(": ")[0]).name for line in errors.splitlines()] == list(refused)
    assert ens(["predict", created.run_id, *refused]) == 3
    capfd.readouterr()
    assert ens(["predict", created.run_id, *map(str, paths), "--format", "jsonl"]) == 0
    ours = {entry["image"]: entry for entry in map(json.loads, capfd.readouterr().out.splitlines())}
    assert list(output) == list(ours) == [str(path) for path in paths]
    for name, entry in ours.items():
        assert output[name]["label"] == entry["label"]
        assert list(output[name]["probabilities"]) == list(entry["probabilities"])
        assert list(output[name]["probabilities"].values()) == pytest.approx(
            list(entry["probabilities"].values()), abs=1e-4
        )


@pytest.mark.slow
def test_an_export_says_what_it_is(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import onnx
    from huggingface_hub import ModelCard

    white = {"background": (255, 250, 245), "medical": True}
    runs = mixed(here / "runs", **white)
    created = combine(runs, folder=here / "runs", rule="accuracy")
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("dear")
    assert ens(["export", created.run_id, "--out", "mine"]) == 3
    assert "no export" in capfd.readouterr().err and (here / "mine" / "notes.txt").is_file()
    with zipfile.ZipFile(here / "mine" / "photos.zip", "w") as archive:
        archive.writestr("photos/config.json", "[]")
    for name in ("mine", "mine/notes.txt", "mine/photos.zip"):
        assert ens(["export", created.run_id, "--zip", name]) == 3
        assert "is there and is no export" in capfd.readouterr().err
    assert (here / "mine" / "notes.txt").read_text() == "dear"
    for words in (["--out", "there"], ["--out", "there"], *[["--zip", "deep/there.zip"]] * 2):
        assert ens(["export", created.run_id, *words]) == 0
    assert sorted(path.name for path in here.iterdir()) == ["deep", "mine", "runs", "there"]

    config = json.loads((here / "there" / "config.json").read_text())
    assert config["classes"] == CLASSES and config["behind"] == "#fffaf5" and config["medical"]
    assert [one["name"] for one in config["inputs"]] == ["crop16", "pad16", "squash20_smooth_grey"]
    for one in config["members"]:
        (network,) = one["networks"]
        run = next(run for run in runs if run.id == one["id"])
        assert network["weights_sha256"] == sha256_file(run.path / "weights.safetensors")
    honest = created.run.metrics["honest"]["accuracy"]
    assert config["score"]["value"] == honest["value"] and config["score"]["low"] == honest["low"]
    assert config["files"] == {"model.onnx": sha256_file(here / "there" / "model.onnx")}

    graph = onnx.load(here / "there" / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert {one.key: one.value for one in graph.metadata_props}["classes"] == json.dumps(CLASSES)
    assert [(one.version) for one in graph.opset_import if one.domain == ""] == [20]

    card = ModelCard.load(here / "there" / "README.md")
    assert card.data.pipeline_tag == "image-classification" and card.data.to_dict()["library_name"] == "onnx"
    assert card.data.eval_results[0].metric_value == pytest.approx(honest["value"], abs=1e-6)
    assert "not a medical device" in card.text and "not-a-medical-device" in card.data.tags
    with zipfile.ZipFile(here / "deep" / "there.zip") as archive:
        assert archive.namelist() == [f"{created.run_id}/{name}" for name in sorted((*config["files"], *OTHERS))]
        archive.extractall(here / "unzipped")
    paths = [path.relative_to(here) for path in see_through(here / "clear")]
    output, errors = elsewhere(here / "unzipped" / created.run_id / "predict.py", paths, here)
    assert not errors
    capfd.readouterr()
    assert ens(["predict", created.run_id, *map(str, paths), "--format", "jsonl"]) == 0
    ours = {entry["image"]: entry for entry in map(json.loads, capfd.readouterr().out.splitlines())}
    for name, entry in ours.items():
        assert output[name]["probabilities"] == pytest.approx(entry["probabilities"], abs=1e-4), name
    assert len(ours) == len(paths)


@pytest.mark.slow
def test_what_cannot_be_exported_leaves_nothing(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hairy = network_run(here / "runs", "hairy-00000001", 1, preprocess=("smooth", "hair", "clahe"))
    assert ens(["export", hairy.id]) == 3
    assert "'hairy-00000001 (hair, clahe)'" in capfd.readouterr().err
    plain = network_run(here / "runs", "plain-00000002", 2, tta="crops")
    from ensemble.export import bundle
    from ensemble.export.parity import Parity

    monkeypatch.setattr(bundle, "compare", lambda *words, **keys: Parity(32, 2e-4, 32, real=True))
    for words in ([], ["--zip", "there.zip"]):
        assert ens(["export", plain.id, *words]) == 1
        assert "2.0e-04" in capfd.readouterr().err
    assert not list((here / "runs" / "exports").iterdir()) and not list(here.glob("*.zip*"))
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert ens(["export", plain.id, "--opset", "18"]) == 0
    capfd.readouterr()
    assert "medical device" not in Path(f"runs/exports/{plain.id}/README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["none", "flip", "flips", "dihedral", "crops", "flip-shift"])
def test_every_view_and_a_computed_layer_are_in_the_graph(here: Path, tta: str) -> None:
    import torch

    from ensemble.export.onnx_graph import write_onnx
    from ensemble.export.parity import compare
    from ensemble.export.session import OnnxModel
    from ensemble.inference.model import load_ensemble

    keys: dict[str, Any] = {"arch": "speednet", "filters": (8, 8, 8), "dense": None, "image_size": 33}
    run = network_run(here / "runs", "speed-00000001", 1, tta=tta, **keys)
    loaded = load_ensemble(predicting_members(run), torch.device("cpu"))
    write_onnx(loaded, here / "model.onnx")
    pixels = {one: np.stack([one.of(picture(seed)) for seed in range(11)]) for one in loaded.squares}
    result = compare(loaded, OnnxModel(here / "model.onnx"), pixels, real=True)
    assert result.difference < 5e-5 and result.same == result.n == 11
    other = network_run(here / "runs", "other-00000002", 2, **keys)
    stranger = load_ensemble(predicting_members(other), torch.device("cpu"))
    assert compare(stranger, OnnxModel(here / "model.onnx"), pixels, real=True).difference > 1e-2


@pytest.mark.slow
def test_weights_too_large_for_one_file_lie_beside_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ensemble.export import onnx_graph

    monkeypatch.setattr(onnx_graph, "ONE_FILE", 100)
    run = network_run(here / "runs", "net-00000001", 1)
    assert ens(["export", run.id, "--zip", "net.zip"]) == 0
    with zipfile.ZipFile(here / "net.zip") as archive:
        assert f"{run.id}/model.onnx.data" in archive.namelist()
        archive.extractall(here)
    config = json.loads((here / run.id / "config.json").read_text())
    assert set(config["files"]) == {"model.onnx", "model.onnx.data"}
    picture(0).save(here / "x.png")
    output, _ = elsewhere(here / run.id / "predict.py", [Path("x.png")], here)
    assert set(output["x.png"]["probabilities"]) == set(CLASSES)
