"""`ens serve` with real networks and sockets."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
import zipfile
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from helpers.bad_images import bad_images, saved
from helpers.network_runs import network_run
from helpers.served import send_files, served
from PIL import Image
from starlette.testclient import TestClient

from ensemble.cli import run as ens
from ensemble.combine.predicting_members import predicting_members
from ensemble.runs.origin import named_run
from ensemble.serve.app import create_app
from ensemble.serve.predictor import Limits

pytestmark = pytest.mark.slow


def lines_of(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What `ens predict --uncertain` says, by image."""
    capfd.readouterr()
    assert ens(["predict", *words, "--uncertain", "--format", "jsonl"]) == 0
    return {item["image"]: item for item in map(json.loads, capfd.readouterr().out.splitlines())}


def test_service_predicts_like_predict(served_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    from ensemble.serve.run_predictor import load_run

    name = (served_folder / "name").read_text()
    output = lines_of(capfd, name, "photos")
    model = load_run(predicting_members(named_run(served_folder / "runs", name)), torch.device("cpu"), 0.9)
    with TestClient(create_app(model, Limits(files=40)), base_url="http://127.0.0.1") as client:

        def requests(*paths: str) -> list[dict[str, Any]]:
            files = [("images", (path, Path(path).read_bytes())) for path in paths]
            answers: list[dict[str, Any]] = client.post("/predict", files=files).json()["predictions"]
            return answers

        assert len(output) == 22
        for item in requests(*output):
            line, members = output[item["image"]], item.pop("members")
            assert list(item) == list(line) and item["label"] == line["label"] and item["set"] == line["set"]
            assert item["probabilities"] == pytest.approx(line["probabilities"], abs=1e-6)
            assert item["entropy"] == pytest.approx(line["entropy"], abs=2e-6)
            assert item["disagreement"] == pytest.approx(line["disagreement"], abs=2e-6)
            assert {each["member"][:3] for each in members} <= {"one", "two", "thr"}
        # one image alone is the same to the last digit
        for path in list(output)[:6]:
            (item,) = requests(path)
            item.pop("members")
            assert item == lines_of(capfd, name, path)[path]
        maps = client.post("/explain", files={"images": ("x.png", Path("x.png").read_bytes())}).json()["maps"]
        assert len(maps) == len(members) and all(item["picture"] for item in maps)
        known = client.get("/model").json()
        assert known["medical"] and known["gradcam"] and known["engine"].startswith("torch")


@pytest.mark.parametrize("source", ["folder", "all.zip"])
def test_service_of_an_export_predicts_without_torch(
    served_folder: Path, source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name = (served_folder / "name").read_text()
    output = lines_of(capfd, name, "photos")
    with served(source, "--max-files", "40", cwd=served_folder) as (address, _):
        answer = send_files(address, *map(Path, output)).json()
        assert answer["run"] == name and len(answer["predictions"]) == len(output)
        for item, (path, line) in zip(answer["predictions"], output.items(), strict=True):
            assert item["image"] == Path(path).name and item["label"] == line["label"]
            assert item["probabilities"] == pytest.approx(line["probabilities"], abs=1e-4)
            assert item["entropy"] == pytest.approx(line["entropy"], abs=1e-3)
            assert item["disagreement"] == pytest.approx(line["disagreement"], abs=1e-3)
            assert item["set"] == line["set"]
        known = requests.get(address + "model", timeout=10).json()
        assert known["engine"].startswith("onnxruntime") and known["medical"] and not known["gradcam"]
        assert known["sets"]["rows"] == 60 and known["limits"]["pixels"] == 50_000_000
        explained = requests.post(address + "explain", files={"images": b"x"}, timeout=10)
        assert explained.status_code == 501 and "serve the run itself" in explained.json()["error"]


def test_older_export_is_served(served_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from ensemble.serve.onnx_predictor import load_export

    old = served_folder / "old"
    old.mkdir()
    config = json.loads((served_folder / "folder" / "config.json").read_text())
    for key in ("calibration", "weights", "max_pixels"):
        del config[key]
    (old / "config.json").write_text(json.dumps(config))
    (old / "model.onnx").write_bytes((served_folder / "folder" / "model.onnx").read_bytes())
    facts = load_export(old, 0.9).facts
    assert facts.calibration is None and "export the run again" in facts.no_calibration
    assert facts.weights.sum() == pytest.approx(1)
    assert ens(["serve", "folder", "--coverage", "0.77"]) == 2
    assert "0.9, 0.95" in capfd.readouterr().err
    (old / "model.onnx").write_bytes(b"other")
    assert ens(["serve", "old"]) == 3
    with zipfile.ZipFile(served_folder / "torn.zip", "w") as archive:
        archive.writestr("x/config.json", json.dumps(config))
    assert ens(["serve", "torn.zip"]) == 3


def test_run_without_weights_is_not_served(served_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lone = network_run(served_folder / "runs", "lone-00000009", 9)
    (lone.path / "weights.safetensors").unlink()
    assert ens(["serve", "lone"]) == 3
    err = capfd.readouterr().err
    assert "has no network of its own" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_lets_requests_finish(served_folder: Path, sent: signal.Signals, code: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5000, 6000, 3), dtype=np.uint8)
    (served_folder / "large.jpg").write_bytes(saved(Image.fromarray(noise), "JPEG"))
    with served("folder", cwd=served_folder) as (address, process):
        answers: list[int] = []
        thread = threading.Thread(
            target=lambda: answers.append(send_files(address, served_folder / "large.jpg").status_code)
        )
        thread.start()
        while requests.get(address + "health", timeout=10).json()["waiting"] < 1:
            time.sleep(0.01)
        process.send_signal(sent)
        thread.join()
        out, err = process.communicate(timeout=60)
        assert (answers, process.returncode) == ([200], code), err
        assert "Traceback" not in err and len(err.splitlines()) <= 2 and "large" not in out + err
    with pytest.raises(requests.ConnectionError):
        requests.get(address + "health", timeout=2)


def test_port_in_use_is_one_line(served_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert ens(["serve", "folder", "--port", str(taken.getsockname()[1])]) == 1
    err = capfd.readouterr().err
    assert "in use" in err and "--port" in err and len(err.splitlines()) == 1
    assert ens(["serve", "folder", "--host", "no.such.host.invalid"]) == 1
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_hostile_files_over_a_socket_are_refused(served_folder: Path) -> None:
    with served("folder", "--max-body", "3", cwd=served_folder) as (address, process):
        for name, body in bad_images(background=True).items():
            answer = requests.post(address + "predict", files={"images": ("patient-4711.png", body)}, timeout=20)
            assert 400 <= answer.status_code < 500, name
        large = requests.post(address + "predict", files={"images": ("x.png", bytes(9_000_000))}, timeout=20)
        assert large.status_code == 413 and "3 MB" in large.json()["error"]
        assert send_files(address, served_folder / "x.png").status_code == 200
        assert process.poll() is None
        process.terminate()
        out, err = process.communicate(timeout=60)
        assert "4711" not in out + err and len(err.splitlines()) <= 2


def hung_up(opened: socket.socket, seconds: float) -> bytes | None:
    """What is said before the other side closes; None where it does not within so many seconds."""
    opened.settimeout(seconds)
    try:
        return opened.recv(1000)
    except ConnectionResetError:
        return b""
    except TimeoutError:
        return None


def test_endless_request_is_closed(served_folder: Path) -> None:
    with served("folder", "--timeout", "2", cwd=served_folder) as (address, _):
        place = ("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))
        steady = HTTPConnection(*place, timeout=5)
        with socket.create_connection(place) as mute, socket.create_connection(place) as slow:
            slow.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while not slow.recv(1000).endswith(b"}"):
                pass
            slow.sendall(b"GET /health HTTP/1.1\r\n")
            for at in range(8):
                if at < 4:
                    # a line now and then, on a connection that was answered before
                    slow.sendall(b"X-More: 1\r\n")
                steady.request("GET", "/health")
                assert steady.getresponse().read()
                time.sleep(0.4)
            assert hung_up(mute, 5) == b"" and hung_up(slow, 5) == b""
        steady.close()
        assert send_files(address, served_folder / "x.png").status_code == 200


def test_endless_headers_are_bounded(served_folder: Path) -> None:
    with served("folder", cwd=served_folder) as (address, process):
        with socket.create_connection(("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))) as opened:
            opened.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            with pytest.raises(ConnectionError):
                for _ in range(1000):
                    opened.sendall((b"X-More: " + b"x" * 1000 + b"\r\n") * 64)
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert len(err.splitlines()) <= 2, err


def test_memory_under_load_is_constant(served_folder: Path) -> None:
    from benchmarks.serve_load import load, memory

    with served("folder", cwd=served_folder) as (address, process):
        images = [path.read_bytes() for path in sorted((served_folder / "photos").glob("*.jpg"))]
        load(address, images, clients=4, requests=100)
        before = memory(process.pid)
        result = load(address, images, clients=4, requests=200)
        assert result["refused"] == 0 and 0 < result["p50_ms"] <= result["p95_ms"]
        assert memory(process.pid) < before + 20e6
