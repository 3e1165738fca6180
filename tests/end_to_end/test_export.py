"""`ens export`: the same probabilities, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fake_runs import CLASSES
from helpers.network_runs import many_kinds, network_run, picture, see_through
from PIL import Image

from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine
from ensemble.combine.predicting_members import predicting_members
from ensemble.core.files import sha256_file
from ensemble.runs.run import Run

OTHERS = ("predict.py", "README.md", "config.json")


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


def mixed(folder: Path, **data: Any) -> list[Run]:
    """Three members of other sizes, resize modes, views, filters, normalisation, class orders."""
    return [
        network_run(folder, "one-00000001", 1, tta="flips", resize="pad", data=data),
        network_run(folder, "two-00000002", 2, image_size=20, preprocess=("smooth", "grey"), data=data),
        network_run(folder, "three-00000003", 3, classes=CLASSES[::-1], tta="dihedral", resize="crop", data=data),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["stack", "rank"])
def test_export_predicts_the_same_without_torch(here: Path, rule: str, capfd: pytest.CaptureFixture[str]) -> None:
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
def test_export_describes_itself(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
    assert [item["name"] for item in config["inputs"]] == ["crop16", "pad16", "squash20_smooth_grey"]
    for item in config["members"]:
        (network,) = item["networks"]
        run = next(run for run in runs if run.id == item["id"])
        assert network["weights_sha256"] == sha256_file(run.path / "weights.safetensors")
    honest = created.run.metrics["honest"]["accuracy"]
    assert config["score"]["value"] == honest["value"] and config["score"]["low"] == honest["low"]
    assert config["files"] == {"model.onnx": sha256_file(here / "there" / "model.onnx")}

    graph = onnx.load(here / "there" / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert {item.key: item.value for item in graph.metadata_props}["classes"] == json.dumps(CLASSES)
    assert [(item.version) for item in graph.opset_import if item.domain == ""] == [20]

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
def test_failed_export_leaves_nothing(
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
def test_onnx_graph_holds_views_and_computed_layers(here: Path, tta: str) -> None:
    import torch

    from ensemble.export.exporters import OnnxModel
    from ensemble.export.onnx_graph import write_onnx
    from ensemble.export.parity import compare
    from ensemble.inference.model import load_ensemble

    keys: dict[str, Any] = {"arch": "speednet", "filters": (8, 8, 8), "dense": None, "image_size": 33}
    run = network_run(here / "runs", "speed-00000001", 1, tta=tta, **keys)
    loaded = load_ensemble(predicting_members(run), torch.device("cpu"))
    write_onnx(loaded, here / "model.onnx")
    pixels = {first: np.stack([first.of(picture(seed)) for seed in range(11)]) for first in loaded.squares}
    result = compare(loaded, OnnxModel(here / "model.onnx"), pixels, real=True)
    assert result.difference < 5e-5 and result.same == result.n == 11
    other = network_run(here / "runs", "other-00000002", 2, **keys)
    stranger = load_ensemble(predicting_members(other), torch.device("cpu"))
    assert compare(stranger, OnnxModel(here / "model.onnx"), pixels, real=True).difference > 1e-2


@pytest.mark.slow
def test_large_onnx_weights_are_a_second_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
