"""Laws of Grad-CAM: what it draws is a map of places, and a network that has none is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from network_runs import network_run, picture

from ensemble.cli import run as ens
from ensemble.report.sections.mistakes import Heatmap

pytestmark = pytest.mark.slow


def network(arch: str, size: int) -> Any:
    import torch

    from ensemble.models.network import build_network
    from ensemble.recipe.resolve import resolved
    from ensemble.recipe.schema import DataSpec, Recipe

    torch.manual_seed(0)
    return build_network(resolved(Recipe(data=DataSpec(), arch=arch, image_size=size)), 3, None).eval()


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
def test_the_places_of_a_map_are_those_of_the_image(arch: str, size: int, channels: int, side: int) -> None:
    import torch

    from ensemble.inference.gradcam import _features, grad_cam, why_no_map

    model, x = network(arch, size), torch.randn(1, 3, size, size)
    assert why_no_map(model, size) == ""
    features, logits = _features(model, x)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(x))
    cam, probs = grad_cam(model, x)
    assert cam.shape == (size, size) and float(cam.min()) >= 0 and float(cam.max()) in (0.0, 1.0)
    torch.testing.assert_close(probs, logits[0].softmax(0).detach())
    drawn = features.channels_first(features.computed)
    assert drawn.shape == (1, channels, side, side)


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
def test_tokens_are_no_map(arch: str) -> None:
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
    monkeypatch.delenv("ENS_RUNS", raising=False)
    picture(1).save("a.png")
    return network_run(Path("runs"), "vit-00000001", 0, arch="test_vit", image_size=32, filters=None, dense=None)


def test_explain_refuses_a_transformer_and_draws_nothing(vit: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert ens(["explain", vit.id, "a.png"]) == 3
    out, err = capfd.readouterr()
    (line,) = [line for line in err.splitlines() if line.startswith("ens:")]
    assert out == "" and "vit-00000001 (test_vit) cannot be explained" in line and "resnet" in line
    assert not (vit.path / "figures").exists()


def test_a_report_leaves_the_pictures_of_a_transformer_out(vit: Any) -> None:
    import torch

    from ensemble.inference.gradcam import draw_heatmaps

    look = Heatmap(vit, "a.png", vit.record.values["classes"][0])
    (line,) = draw_heatmaps([look], lambda name: picture(1), torch.device("cpu"))
    assert line.startswith("vit-00000001: no Grad-CAM (") and "tokens" in line and not look.path.exists()


def test_a_service_of_a_transformer_says_that_it_draws_nothing(vit: Any) -> None:
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
