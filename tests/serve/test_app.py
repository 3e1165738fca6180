"""The service's answers, without a network: predictions, health, headers, limits."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.bad_images import saved
from helpers.colour_model import BLUE, CLASSES, RED, Colours, client_of, send
from PIL import Image
from starlette.testclient import TestClient

from ensemble.combine.predicting_members import EnsembleOutput
from ensemble.export.model_facts import ServedMember


def test_answer_has_the_fields_of_predict_and_the_members(client: TestClient, model: Colours) -> None:
    output = send(client, RED, BLUE, names=["r.png", "b ü.png"]).json()
    assert output["run"] == "colours-00000001" and output["unreadable"] == []
    first, second = output["predictions"]
    assert list(first) == [
        *("image", "label", "probability", "probabilities"),
        *("entropy", "disagreement", "set", "members"),
    ]
    assert (first["image"], first["label"], second["image"], second["label"]) == (
        *("r.png", "red"),
        *("b ü.png", "blue ünï"),
    )
    assert tuple(first["probabilities"]) == CLASSES and first["set"] == ["red"]
    assert first["probability"] == max(first["probabilities"].values()) == pytest.approx(251 / 263, abs=0.01)
    assert [item["member"] for item in first["members"]] == ["one-1", "two-2"]
    # black bars of the padded square make the second member less sure
    assert first["members"][0]["probability"] > first["members"][1]["probability"]
    shares = np.array(list(first["probabilities"].values()))
    assert first["entropy"] == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-5)
    assert 0 < first["disagreement"] < 0.1


def test_unreadable_images_are_named_and_the_others_predicted(client: TestClient) -> None:
    answer = send(client, b"no image", RED, RED[:80], names=["a.png", "b.png", "c.png"])
    assert answer.status_code == 200
    output = answer.json()
    assert [item["image"] for item in output["predictions"]] == ["b.png"]
    assert [item["image"] for item in output["unreadable"]] == ["a.png", "c.png"]
    assert "not an image of a known format" in output["unreadable"][0]["error"]
    assert send(client, b"no image", RED[:80]).status_code == 415


def test_served_image_is_oriented(client: TestClient) -> None:
    """A turned half-red picture, padded, puts its black bars elsewhere: the same image must be seen."""
    upright = Image.new("RGB", (60, 20), (250, 5, 5))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    plain = saved(upright, "PNG")
    first, other = (send(client, body).json()["predictions"][0] for body in (plain, turned))
    assert {**first, "image": ""} == {**other, "image": ""}


def test_gradcam_maps_of_a_class(client: TestClient) -> None:
    output = send(client, RED, path="/explain").json()
    assert output["class"] == "red" and [item["member"] for item in output["maps"]] == ["one-1", "two-2"]
    assert output["maps"][0]["picture"].startswith("data:image/") and output["maps"][1]["why"] == "it has no places"
    requested = send(client, RED, path="/explain?class=blue%20%C3%BCn%C3%AF").json()
    assert requested["class"] == "blue ünï" and requested["maps"][0]["picture"] != output["maps"][0]["picture"]
    unknown = send(client, RED, path="/explain?class=rde")
    assert unknown.status_code == 422 and "did you mean 'red'" in unknown.json()["error"]
    assert send(client, RED, RED, path="/explain").status_code == 413
    assert send(client, b"no", path="/explain").status_code == 415


def test_unknown_paths_and_classes_are_refused(client: TestClient) -> None:
    lone = Colours(
        members=(ServedMember("one-1", "mean", None),),
        weights=np.ones(1),
        calibration=None,
        no_calibration="no validation row of this run has a label",
        no_maps="an export has no gradients",
        score=None,
        medical=True,
    )
    lone.output = lambda pixels: EnsembleOutput(  # type: ignore[method-assign]
        np.array([[0.5, 0.3, 0.2]], np.float32), np.array([[[0.5, 0.3, 0.2]]], np.float32)
    )
    with client_of(lone) as alone:
        output = send(alone, RED).json()["predictions"][0]
        assert output["set"] is None and output["disagreement"] is None
        assert send(alone, RED, path="/explain").status_code == 501
        known = alone.get("/model").json()
        assert known["sets"] is None and not known["gradcam"] and known["why_no_gradcam"]
        assert known["medical"] and known["notice"].startswith("This is not a medical device.")
        page = alone.get("/").text
        assert "This is not a medical device." in page and "Not drawn: an export has no gradients." in page
        assert "nobody knows" in page and "No conformal sets: no validation row" in page
    assert "medical" not in client.get("/").text


def test_health_and_model(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok", "run": "colours-00000001", "waiting": 0}
    known = client.get("/model").json()
    assert known["classes"] == list(CLASSES) and known["notice"] is None
    assert known["sets"]["coverage"] == 0.9 and known["sets"]["measured"] == 0.9
    assert known["limits"]["body"] == 2_000_000 and known["limits"]["pixels"] == 50_000_000


def test_openapi_and_pages_load_nothing_from_elsewhere(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/explain", "/health", "/model"}
    predict = described["paths"]["/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert {"200", "400", "408", "413", "415", "422", "503"} <= set(predict["responses"])
    schema = described["components"]["schemas"]["Prediction"]["properties"]
    assert {"image", "label", "probability", "probabilities", "entropy", "disagreement", "set"} <= set(schema)
    for path in ("/docs", "/redoc"):
        assert client.get(path).status_code == 404
    assert client.get("/predict").status_code == 405


def test_every_answer_has_protective_headers(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/nowhere"), send(client, b"no"), send(client, RED)):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';") and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert "access-control-allow-origin" not in answer.headers and "server" not in answer.headers


def test_class_name_with_markup_is_text() -> None:
    name = "<script>alert(1)</script>"
    page = client_of(Colours(run=name, classes=("red", name, "x"))).get("/").text
    assert name not in page and "&lt;script&gt;" in page and page.count("<script>") == 1


def test_other_hosts_are_refused(model: Colours) -> None:
    """Else a page elsewhere could let its own name point here and read the answers."""
    client = client_of(model)
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert client.get("/health", headers={"host": host}).status_code == 200
    named = client_of(model, hosts=("lab.example",))
    assert named.get("/health", headers={"host": "lab.example"}).status_code == 200
