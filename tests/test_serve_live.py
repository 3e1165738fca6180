"""Laws of `ens serve` with real networks, real sockets and a real browser."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from helpers.bad_images import hostile, saved
from helpers.browser import browser as chromium
from helpers.browser import watched
from helpers.fake_runs import CLASSES
from helpers.network_runs import many_kinds, network_run, picture, see_through
from helpers.processes import HEARS_SIGNALS
from PIL import Image
from starlette.testclient import TestClient

from ensemble.cli import run as ens
from ensemble.combine.ensembler import combine
from ensemble.combine.predicting_members import predicting_members
from ensemble.runs.origin import named_run
from ensemble.serve.app import create_app
from ensemble.serve.predictor import Limits

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "fastai", "timm"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from ensemble.cli import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of three networks, members of other sizes, views, filters and class orders, and its export."""
    here = tmp_path_factory.mktemp("serve")
    data = {"background": (255, 250, 245), "medical": True}
    runs = [
        network_run(here / "runs", "one-00000001", 1, tta="flips", resize="pad", data=data),
        network_run(here / "runs", "two-00000002", 2, image_size=20, preprocess=("smooth", "grey"), data=data),
        network_run(here / "runs", "three-00000003", 3, classes=CLASSES[::-1], tta="crops", data=data),
    ]
    created = combine(runs, folder=here / "runs", rule="convex", name="all")
    (here / "name").write_text(created.run_id)
    assert ens(["--runs", str(here / "runs"), "export", created.run_id, "--out", str(here / "folder")]) == 0
    assert ens(["--runs", str(here / "runs"), "export", created.run_id, "--zip", str(here / "all.zip")]) == 0
    many_kinds(here / "photos")
    see_through(here / "photos" / "clear")
    picture(1).save(here / "x.png")
    return here


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def lines_of(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What `ens predict --uncertain` says, by image."""
    capfd.readouterr()
    assert ens(["predict", *words, "--uncertain", "--format", "jsonl"]) == 0
    return {one["image"]: one for one in map(json.loads, capfd.readouterr().out.splitlines())}


@contextmanager
def served(*words: str, program: str = WITHOUT_TORCH, cwd: Path) -> Iterator[tuple[str, Any]]:
    """`ens serve` in a process of its own, at a free port: its address and the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, "serve", *words, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **HEARS_SIGNALS,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), process.stderr.read()
        yield address, process
    finally:
        process.kill()
        process.communicate()


def send(address: str, *paths: Path) -> Any:
    files = [("images", (path.name, path.read_bytes())) for path in paths]
    return requests.post(address + "predict", files=files, timeout=120)


# the same answers


def test_a_run_says_what_ens_predict_says(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torch

    from ensemble.serve.run_predictor import load_run

    name = (here / "name").read_text()
    output = lines_of(capfd, name, "photos")
    model = load_run(predicting_members(named_run(here / "runs", name)), torch.device("cpu"), 0.9)
    with TestClient(create_app(model, Limits(files=40)), base_url="http://127.0.0.1") as client:

        def asked(*paths: str) -> list[dict[str, Any]]:
            files = [("images", (path, Path(path).read_bytes())) for path in paths]
            answers: list[dict[str, Any]] = client.post("/predict", files=files).json()["predictions"]
            return answers

        assert len(output) == 22
        for one in asked(*output):
            line, members = output[one["image"]], one.pop("members")
            assert list(one) == list(line) and one["label"] == line["label"] and one["set"] == line["set"]
            assert one["probabilities"] == pytest.approx(line["probabilities"], abs=1e-6)
            assert one["entropy"] == pytest.approx(line["entropy"], abs=2e-6)
            assert one["disagreement"] == pytest.approx(line["disagreement"], abs=2e-6)
            assert {each["member"][:3] for each in members} <= {"one", "two", "thr"}
        # one image alone is the same to the last digit
        for path in list(output)[:6]:
            (one,) = asked(path)
            one.pop("members")
            assert one == lines_of(capfd, name, path)[path]
        maps = client.post("/explain", files={"images": ("x.png", Path("x.png").read_bytes())}).json()["maps"]
        assert len(maps) == len(members) and all(one["picture"] for one in maps)
        known = client.get("/model").json()
        assert known["medical"] and known["gradcam"] and known["engine"].startswith("torch")


@pytest.mark.parametrize("source", ["folder", "all.zip"])
def test_an_export_says_it_without_torch(here: Path, source: str, capfd: pytest.CaptureFixture[str]) -> None:
    name = (here / "name").read_text()
    output = lines_of(capfd, name, "photos")
    with served(source, "--max-files", "40", cwd=here) as (address, _):
        answer = send(address, *map(Path, output)).json()
        assert answer["run"] == name and len(answer["predictions"]) == len(output)
        for one, (path, line) in zip(answer["predictions"], output.items(), strict=True):
            assert one["image"] == Path(path).name and one["label"] == line["label"]
            assert one["probabilities"] == pytest.approx(line["probabilities"], abs=1e-4)
            assert one["entropy"] == pytest.approx(line["entropy"], abs=1e-3)
            assert one["disagreement"] == pytest.approx(line["disagreement"], abs=1e-3)
            assert one["set"] == line["set"]
        known = requests.get(address + "model", timeout=10).json()
        assert known["engine"].startswith("onnxruntime") and known["medical"] and not known["gradcam"]
        assert known["sets"]["rows"] == 60 and known["limits"]["pixels"] == 50_000_000
        explained = requests.post(address + "explain", files={"images": b"x"}, timeout=10)
        assert explained.status_code == 501 and "serve the run itself" in explained.json()["error"]


def test_an_export_of_before_is_served_with_what_it_has(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from ensemble.serve.onnx_predictor import load_export

    old = here / "old"
    old.mkdir()
    config = json.loads((here / "folder" / "config.json").read_text())
    for key in ("calibration", "weights", "max_pixels"):
        del config[key]
    (old / "config.json").write_text(json.dumps(config))
    (old / "model.onnx").write_bytes((here / "folder" / "model.onnx").read_bytes())
    facts = load_export(old, 0.9).facts
    assert facts.calibration is None and "export the run again" in facts.no_calibration
    assert facts.weights.sum() == pytest.approx(1)
    assert ens(["serve", "folder", "--coverage", "0.77"]) == 2
    assert "0.9, 0.95" in capfd.readouterr().err
    (old / "model.onnx").write_bytes(b"other")
    assert ens(["serve", "old"]) == 3
    with zipfile.ZipFile(here / "torn.zip", "w") as archive:
        archive.writestr("x/config.json", json.dumps(config))
    assert ens(["serve", "torn.zip"]) == 3


def test_a_run_without_its_weights_is_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lone = network_run(here / "runs", "lone-00000009", 9)
    (lone.path / "weights.safetensors").unlink()
    assert ens(["serve", "lone"]) == 3
    err = capfd.readouterr().err
    assert "has no network of its own" in err and len(err.splitlines()) == 1


# the process


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_what_was_begun_be_finished(here: Path, sent: signal.Signals, code: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5000, 6000, 3), dtype=np.uint8)
    (here / "large.jpg").write_bytes(saved(Image.fromarray(noise), "JPEG"))
    with served("folder", cwd=here) as (address, process):
        answers: list[int] = []
        thread = threading.Thread(target=lambda: answers.append(send(address, here / "large.jpg").status_code))
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


def test_a_port_in_use_is_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert ens(["serve", "folder", "--port", str(taken.getsockname()[1])]) == 1
    err = capfd.readouterr().err
    assert "in use" in err and "--port" in err and len(err.splitlines()) == 1
    assert ens(["serve", "folder", "--host", "no.such.host.invalid"]) == 1
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_over_a_socket_too_the_hostile_are_refused_and_nothing_is_said_of_them(here: Path) -> None:
    with served("folder", "--max-body", "3", cwd=here) as (address, process):
        for name, body in hostile(background=True).items():
            answer = requests.post(address + "predict", files={"images": ("patient-4711.png", body)}, timeout=20)
            assert 400 <= answer.status_code < 500, name
        large = requests.post(address + "predict", files={"images": ("x.png", bytes(9_000_000))}, timeout=20)
        assert large.status_code == 413 and "3 MB" in large.json()["error"]
        assert send(address, here / "x.png").status_code == 200
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


def test_who_never_ends_a_request_is_hung_up_on_and_others_are_not(here: Path) -> None:
    with served("folder", "--timeout", "2", cwd=here) as (address, _):
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
        assert send(address, here / "x.png").status_code == 200


def test_headers_without_end_fill_no_memory(here: Path) -> None:
    with served("folder", cwd=here) as (address, process):
        with socket.create_connection(("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]))) as opened:
            opened.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            with pytest.raises(ConnectionError):
                for _ in range(1000):
                    opened.sendall((b"X-More: " + b"x" * 1000 + b"\r\n") * 64)
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert len(err.splitlines()) <= 2, err


def test_memory_stays_where_it_is_under_load(here: Path) -> None:
    from benchmarks.serve_load import load, memory

    with served("folder", cwd=here) as (address, process):
        images = [path.read_bytes() for path in sorted((here / "photos").glob("*.jpg"))]
        load(address, images, clients=4, requests=100)
        before = memory(process.pid)
        result = load(address, images, clients=4, requests=200)
        assert result["refused"] == 0 and 0 < result["p50_ms"] <= result["p95_ms"]
        assert memory(process.pid) < before + 20e6


# the page


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    program = "import sys; from ensemble.cli import main; main(sys.argv[1:])"
    with served((place / "name").read_text(), program=program, cwd=place) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


GIVE = """([name, bytes, kind]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
  const event = kind === "drop"
    ? new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true})
    : new ClipboardEvent("paste", {clipboardData: data, bubbles: true});
  document.getElementById("give").dispatchEvent(event);
}"""


@pytest.fixture
def label(place: Path, address: str) -> str:
    (one,) = send(address, place / "x.png").json()["predictions"]
    return f"{one['label']} {100 * one['probability']:.1f} %"


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_an_image_that_is_dropped_or_pasted_is_answered(
    place: Path, address: str, browser: Any, label: str, kind: str
) -> None:
    with watched(browser, address) as seen:
        page = seen.page
        page.evaluate(GIVE, ["<b>x</b>.png", list((place / "x.png").read_bytes()), kind])
        page.wait_for_selector(".maps img")
        assert page.inner_text(".answer .label") == label
        assert page.inner_text("figcaption.name") == "<b>x</b>.png"
        assert page.inner_text("#said").startswith("<b>x</b>.png: ")
        assert page.locator(".members tbody tr").count() == 4 and page.locator(".maps img").count() == 3
        assert "not a medical device" in page.inner_text("main")
        assert page.locator("#camera").get_attribute("capture") == "environment"
        assert seen.complaints == [] and seen.elsewhere == []
        page.evaluate(GIVE, ["no.png", list(b"no image"), kind])
        page.wait_for_selector("#wrong p")
        assert "not an image of a known format" in page.inner_text("#wrong")
        assert page.locator(".answer").count() == 0


def test_the_keyboard_alone_is_enough(place: Path, address: str, browser: Any, label: str) -> None:
    with watched(browser, address) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "files"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(place / "x.png")
        page.wait_for_selector(".maps img")
        assert page.inner_text(".answer .label") == label
        reached = set()
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.tagName"))
        assert {"SELECT", "A"} <= reached
        page.focus("select")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        first = page.eval_on_selector("select", "one => one.options[0].value")
        page.locator(".maps-said", has_text=f"“{first}”").wait_for()
        assert (
            page.get_attribute("#said", "aria-live") == "polite" and page.get_attribute("#wrong", "role") == "alert"
        )
        assert seen.complaints == [] and seen.elsewhere == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(place: Path, address: str, browser: Any, scheme: str) -> None:
    phone = {"width": 390, "height": 844, "has_touch": True, "is_mobile": True}
    with watched(browser, address, scheme=scheme, **phone) as seen:
        page = seen.page
        page.set_input_files("#files", [place / "x.png", place / "photos" / "large.png"])
        page.locator(".maps img").nth(5).wait_for()
        assert seen.overflow <= 0
        assert page.locator(".answer").count() == 2 and page.locator("label", has_text="Take a photo").is_visible()
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")
        assert (sum(map(int, dark)) < 200) == (scheme == "dark")
        assert seen.complaints == [] and seen.elsewhere == []


# the thin front end


def test_streamlit_shows_what_the_service_says(place: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    testing = pytest.importorskip("streamlit.testing.v1")
    page = ROOT / "ensemble" / "serve" / "streamlit_page.py"
    monkeypatch.setattr(sys, "argv", ["streamlit_page.py", address])
    (output,) = send(address, place / "x.png").json()["predictions"]
    app = testing.AppTest.from_file(str(page), default_timeout=30).run()
    assert not app.exception and "medical" in app.warning[0].value
    app.file_uploader[0].set_value(("x.png", (place / "x.png").read_bytes(), "image/png")).run()
    assert not app.exception and app.metric[0].value == output["label"]
    assert any("Entropy" in one.value for one in app.text)
    app.file_uploader[0].set_value(("x.png", b"no image", "image/png")).run()
    assert "not an image" in app.error[0].value
    monkeypatch.setattr(sys, "argv", ["streamlit_page.py", "http://127.0.0.1:1"])
    away = testing.AppTest.from_file(str(page), default_timeout=30).run()
    assert "ens serve" in away.error[0].value


def test_streamlit_ends_with_the_command_that_began_it(tmp_path: Path) -> None:
    pytest.importorskip("streamlit")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    begun = subprocess.Popen(
        [sys.executable, "-m", "ensemble.serve.streamlit_app", "http://127.0.0.1:1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **HEARS_SIGNALS,
    )
    health = f"http://127.0.0.1:{port}/_stcore/health"

    def answers() -> bool:
        try:
            return bool(requests.get(health, timeout=5).ok)
        except requests.ConnectionError:
            return False

    try:
        end = time.monotonic() + 60
        while not answers():
            assert begun.poll() is None and time.monotonic() < end
            time.sleep(0.2)
    finally:
        begun.terminate()
        begun.wait(30)
    assert not answers()
