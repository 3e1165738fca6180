"""Grad-CAM: a map of places, and a network that has none is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.network_runs import network_run, picture
from PIL import Image

from ensemble.cli import run as ens
from ensemble.report.sections.mistakes import Heatmap
from ensemble.runs.run import Run


def network(arch: str, size: int) -> Any:
    import torch

    from ensemble.models.network import build_network
    from ensemble.recipe.data_spec import DataSpec
    from ensemble.recipe.resolve import resolved
    from ensemble.recipe.schema import Recipe

    torch.manual_seed(0)
    return build_network(resolved(Recipe(data=DataSpec(), arch=arch, image_size=size)), 3, None).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "size", "channels", "side"),
    [
        ("resnet18", 64, 512, 2),
        ("resnet18", 32, 256, 2),  # the last map is one pixel, the one before is drawn
        ("timm/resnet18", 32, 256, 2),
        ("inception_v3", 96, 768, 4),
        ("convnext_atto", 64, 320, 2),
        ("mobilenetv3_small_050", 64, 288, 2),
        ("swin_tiny_patch4_window7_224", 224, 768, 7),  # its channels come last
        ("coatnet_nano_rw_224", 224, 512, 7),  # attention inside, a map at the end
    ],
)
def test_gradcam_map_has_the_places_of_the_image(arch: str, size: int, channels: int, side: int) -> None:
    import torch

    from ensemble.inference.gradcam import features_and_logits, grad_cam, why_no_map

    model, x = network(arch, size), torch.randn(1, 3, size, size)
    assert why_no_map(model, size) == ""
    features, logits = features_and_logits(model, x)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(x))
    cam, probs = grad_cam(model, x)
    assert cam.shape == (size, size) and float(cam.min()) >= 0 and float(cam.max()) in (0.0, 1.0)
    torch.testing.assert_close(probs, logits[0].softmax(0).detach())
    drawn = features.channels_first(features.computed)
    assert drawn.shape == (1, channels, side, side)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch",
    [
        "vit_tiny_patch16_224",
        "deit_tiny_patch16_224",
        "eva02_tiny_patch14_224",
        "cait_xxs24_224",
        "crossvit_9_240",
        "vit_tiny_r_s16_p8_224",
        "mixer_s16_224",
    ],
)
def test_gradcam_refuses_tokens(arch: str) -> None:
    import torch

    from ensemble.core.errors import DataError
    from ensemble.inference.gradcam import grad_cam, why_no_map

    size = 240 if "240" in arch else 224
    model = network(arch, size)
    assert "tokens" in why_no_map(model, size) and "resnet" in why_no_map(model, size)
    with pytest.raises(DataError, match="tokens"):
        grad_cam(model, torch.zeros(1, 3, size, size))


@pytest.fixture
def vit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    picture(1).save("a.png")
    return network_run(Path("runs"), "vit-00000001", 0, arch="test_vit", image_size=32, filters=None, dense=None)


@pytest.mark.slow
def test_explain_refuses_a_transformer(vit: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["explain", vit.id, "a.png"]) == 3
    out, err = capfd.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("ens:")]
    assert out == "" and "vit-00000001 (test_vit) cannot be explained" in line and "resnet" in line
    assert not (vit.path / "figures").exists()


@pytest.mark.slow
def test_report_leaves_out_gradcam_of_a_transformer(vit: Any) -> None:
    import torch

    from ensemble.inference.gradcam import draw_heatmaps

    look = Heatmap(vit, "a.png", vit.record.values["classes"][0])
    (line,) = draw_heatmaps([look], lambda name: picture(1), torch.device("cpu"))
    assert line.startswith("vit-00000001: no Grad-CAM (") and "tokens" in line and not look.path.exists()


@pytest.mark.slow
def test_service_of_a_transformer_draws_no_gradcam(vit: Any) -> None:
    pytest.importorskip("fastapi")
    import torch
    from fastapi.testclient import TestClient

    from ensemble.combine.predicting_members import predicting_members
    from ensemble.serve.app import create_app
    from ensemble.serve.predictor import Limits
    from ensemble.serve.run_predictor import load_run

    model = load_run(predicting_members(vit), torch.device("cpu"), 0.9)
    with TestClient(create_app(model, Limits()), base_url="http://127.0.0.1") as client:
        answer = client.post("/explain", files={"images": ("a.png", Path("a.png").read_bytes())})
        assert answer.status_code == 501 and "tokens" in answer.json()["error"]
        known = client.get("/model").json()
        assert not known["gradcam"] and "tokens" in known["why_no_gradcam"]
        assert "Not drawn: its features are" in client.get("/").text
        assert client.post("/predict", files={"images": Path("a.png").read_bytes()}).status_code == 200


@pytest.mark.slow
def test_gradcam_looks_where_the_class_is(trained_on_sides: str, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    from ensemble.inference.gradcam import grad_cam
    from ensemble.inference.model import load_network

    run = Run(Path("runs") / trained_on_sides)
    network = load_network(run, torch.device("cpu"))
    right = 0
    for path in sorted(Path("photos/valid").rglob("*.png")):
        pixels = network.square.of(Image.open(path))
        cam, probs = grad_cam(network.network, network.normalised(pixels, torch.device("cpu")))
        assert cam.shape == (32, 32) and float(cam.min()) >= 0 and float(cam.max()) <= 1
        reported = network.classes[int(probs.argmax())]
        half = cam[:, :16].sum() > cam[:, 16:].sum()
        right += reported == path.parent.name and bool(half) == (reported == "left")
    assert right >= 12
    capfd.readouterr()
    assert ens(["explain", trained_on_sides, "photos/valid/left/left0.png", "left/left1", "--class", "left"]) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 2 and "gradcam.png" in err
    assert (Path("runs") / trained_on_sides / "figures" / "gradcam.png").is_file()
    assert ens(["explain", trained_on_sides, "nothing.png"]) == 3
    assert "neither a file nor the id" in capfd.readouterr().err
    assert ens(["explain", trained_on_sides, "left/left1", "--class", "lfet"]) == 2


@pytest.mark.slow
def test_report_shows_gradcam_of_mistakes_and_classes(
    trained_on_sides: str, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    words = ["train", "--arch", "customnet", "--data", "photos", "--image-size", "32", "--batch-size", "8"]
    assert (
        ens(
            [*words, "--epochs", "1", "--lr", "0.00001", "--set", "sampler=oversample", "--set", "sampler_count=30"]
        )
        == 0
    )
    other = capfd.readouterr().out.strip()
    assert json.loads((Path("runs") / other / "run.json").read_text())["shown"] == {
        "before": [24, 24],
        "after": [30, 30],
    }
    assert ens(["compare", trained_on_sides, other]) == 0
    created = {path.name for path in (Path("runs") / other / "figures").iterdir()}
    assert created == {
        "curves.png",
        "confusion.png",
        "roc_pr.png",
        "reliability.png",
        "classes.png",
        "mistakes.png",
    }
    assert {path.suffix for path in Path("runs/compare").iterdir()} == {".md", ".csv", ".png"}
    (Path("photos") / "train" / "left" / "left0.png").unlink()
    assert ens(["compare", other]) == 0
    assert "no pictures of its mistakes (its images have changed since)" in capfd.readouterr().err


@pytest.mark.slow
def test_gradcam_sheets_and_layers(trained_on_sides: str, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    assert ens(["show", "--data", "photos", "--image-size", "32", "--augment", "flip+noise", "--out", "a.png"]) == 0
    assert ens(["show", "--data", "photos", "--image-size", "32", "--preprocess", "all", "--out", "b.png"]) == 0
    assert Image.open("a.png").size[0] > 300 and Image.open("b.png").size[1] > 800
    assert capfd.readouterr().out.split() == ["a.png", "b.png"]
    assert ens(["show", "--layers", "3", "--arch", "resnet18"]) == 0
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 4 and "3 of 20 layers" in err
    assert ens(["show", "--augment", "flpi", "--data", "photos"]) == 2
    assert "did you mean 'flip'" in capfd.readouterr().err
