"""Laws of `ens serve` that need no network: what is let in, what is answered, what is never said."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import member
from hostile import hostile, many_scans, noise, odd_but_fine, saved
from PIL import Image
from starlette.testclient import TestClient

from ensemble.cli import run as ens
from ensemble.combine.calibration import Conformal
from ensemble.combine.predicting_members import Calibration, EnsembleOutput
from ensemble.core.errors import EnsError, require
from ensemble.data.preprocess import Preprocess
from ensemble.export.model_facts import ServedMember
from ensemble.serve.app import create_app
from ensemble.serve.decoding import Decoder
from ensemble.serve.predictor import Facts, HeatMap, Limits, Reading, Squares
from ensemble.serve.service import Batcher

CLASSES = ("red", "green <b>", "blue ünï")
SQUARES = (Preprocess(8, "squash"), Preprocess(6, "pad", ("smooth",)))


class Colours:
    """A model without a network: the share of each colour, as two members see it in squares of their own."""

    def __init__(self, **facts: Any) -> None:
        known: dict[str, Any] = {
            "run": "colours-00000001",
            "kind": "ensemble",
            "classes": CLASSES,
            "members": (ServedMember("one-1", "mean", 0.5), ServedMember("two-2", "mean", 0.5)),
            "weights": np.array([0.5, 0.5]),
            "rule": "uniform",
            "temperature": None,
            "medical": False,
            "score": "accuracy 0.9000 on 60 validation rows",
            "calibration": Calibration(Conformal(0.9, 0.6, 60), 0.9),
            "no_calibration": "",
            "no_maps": "",
            "engine": "numpy",
        }
        self.facts = Facts(**{**known, **facts})
        self.reading = Reading(SQUARES, None, 100_000_000)
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Event()

    def output(self, pixels: Squares) -> EnsembleOutput:
        self.began.set()
        assert self.gate.wait(20)
        self.sizes.append(len(pixels[SQUARES[0]]))
        means = np.stack([pixels[square].astype(np.float64).mean((1, 2)) + 1 for square in SQUARES])
        members = (means / means.sum(2, keepdims=True)).astype(np.float32)
        return EnsembleOutput(members.mean(0), members)

    def maps(self, pixels: Squares, c: int) -> Sequence[HeatMap]:
        picture = pixels[SQUARES[0]][0]
        heat = np.zeros(picture.shape[:2], np.float32)
        heat[:, c] = 1
        return [HeatMap("one-1", picture, heat), HeatMap("two-2", picture, None, "it has no places")]


def flat(colour: tuple[int, int, int]) -> bytes:
    return saved(Image.new("RGB", (40, 30), colour), "PNG")


RED, BLUE = flat((250, 5, 5)), flat((5, 5, 250))
LIMITS = Limits(body=2_000_000, files=4, seconds=20, waiting=6, batch=4, decoders=1)


def client_of(model: Colours, limits: Limits = LIMITS, **options: Any) -> TestClient:
    return TestClient(create_app(model, limits, **options), base_url="http://127.0.0.1:8000")


@pytest.fixture(scope="module")
def model() -> Colours:
    return Colours()


@pytest.fixture(scope="module")
def client(model: Colours) -> Iterator[TestClient]:
    with client_of(model) as client:
        yield client


def send(client: TestClient, *bodies: bytes, names: Sequence[str] = (), path: str = "/predict") -> Any:
    named = names or [f"{i}.png" for i in range(len(bodies))]
    return client.post(path, files=[("images", (name, body)) for name, body in zip(named, bodies, strict=True)])


def fine(client: TestClient) -> bool:
    """Whether the service is up and right."""
    answer = send(client, RED)
    return answer.status_code == 200 and answer.json()["predictions"][0]["label"] == "red"


def soon_fine(client: TestClient) -> bool:
    """The same where the limits of time are so short that a busy machine may need more than one go."""
    return any(fine(client) for _ in range(20))


# what is answered


def test_an_answer_has_the_fields_of_ens_predict_and_the_members(client: TestClient, model: Colours) -> None:
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
    assert [one["member"] for one in first["members"]] == ["one-1", "two-2"]
    # black bars of the padded square make the second member less sure
    assert first["members"][0]["probability"] > first["members"][1]["probability"]
    shares = np.array(list(first["probabilities"].values()))
    assert first["entropy"] == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-5)
    assert 0 < first["disagreement"] < 0.1


def test_those_that_cannot_be_read_are_named_and_the_others_predicted(client: TestClient) -> None:
    answer = send(client, b"no image", RED, RED[:80], names=["a.png", "b.png", "c.png"])
    assert answer.status_code == 200
    output = answer.json()
    assert [one["image"] for one in output["predictions"]] == ["b.png"]
    assert [one["image"] for one in output["unreadable"]] == ["a.png", "c.png"]
    assert "not an image of a known format" in output["unreadable"][0]["error"]
    assert send(client, b"no image", RED[:80]).status_code == 415


def test_the_first_orientation_is_the_cameras(client: TestClient) -> None:
    """A turned half-red picture, padded, puts its black bars elsewhere: the same image must be seen."""
    upright = Image.new("RGB", (60, 20), (250, 5, 5))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    plain = saved(upright, "PNG")
    one, other = (send(client, body).json()["predictions"][0] for body in (plain, turned))
    assert {**one, "image": ""} == {**other, "image": ""}


def test_maps_are_drawn_for_a_class(client: TestClient) -> None:
    output = send(client, RED, path="/explain").json()
    assert output["class"] == "red" and [one["member"] for one in output["maps"]] == ["one-1", "two-2"]
    assert output["maps"][0]["picture"].startswith("data:image/") and output["maps"][1]["why"] == "it has no places"
    requested = send(client, RED, path="/explain?class=blue%20%C3%BCn%C3%AF").json()
    assert requested["class"] == "blue ünï" and requested["maps"][0]["picture"] != output["maps"][0]["picture"]
    unknown = send(client, RED, path="/explain?class=rde")
    assert unknown.status_code == 422 and "did you mean 'red'" in unknown.json()["error"]
    assert send(client, RED, RED, path="/explain").status_code == 413
    assert send(client, b"no", path="/explain").status_code == 415


def test_what_is_not_there_is_said(client: TestClient) -> None:
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


def test_openapi_describes_it_and_no_page_loads_from_elsewhere(client: TestClient) -> None:
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


def test_every_answer_has_the_headers_that_protect_it(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/nowhere"), send(client, b"no"), send(client, RED)):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';") and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert "access-control-allow-origin" not in answer.headers and "server" not in answer.headers


def test_a_class_with_signs_in_its_name_is_text_on_the_page() -> None:
    name = "<script>alert(1)</script>"
    page = client_of(Colours(run=name, classes=("red", name, "x"))).get("/").text
    assert name not in page and "&lt;script&gt;" in page and page.count("<script>") == 1


# what is let in


def test_hostile_files_are_refused_and_the_service_is_up(client: TestClient) -> None:
    files = hostile()
    assert len(files) >= 40
    statuses = {}
    for name, body in files.items():
        answer = send(client, body, names=["x.png"])
        statuses[name] = answer.status_code
        assert answer.status_code in (400, 413, 415, 422), (name, answer.status_code, answer.text)
        message = answer.json()["error"]
        assert message and len(message.splitlines()) == 1 and "Traceback" not in message, name
    assert fine(client)
    expected = {
        "page.png": 415,
        "zip.png": 415,
        "a PNG of the largest sides": 413,
        "a PNG that unpacks to 64 megapixels": 413,
        "half a JPEG": 422,
        "an animated GIF": 422,
        "what lies behind is not known": 422,
        "nothing": 422,
    }
    assert {name: statuses[name] for name in expected} == expected


def test_odd_names_and_contents_that_are_images_are_read(client: TestClient) -> None:
    expected = send(client, saved(noise(), "PNG")).json()["predictions"][0]["label"]
    for name, body in odd_but_fine().items():
        answer = send(client, body, names=[name or "x"])
        assert answer.status_code == 200, (name, answer.text)
        (output,) = answer.json()["predictions"]
        assert output["label"] == expected and len(output["image"]) <= 255 and output["image"].isprintable()


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-type": "application/json"}, b"{}", 415),
        ({}, RED, 415),
        ({"content-type": "image/png"}, RED, 415),
        ({"content-type": "multipart/form-data"}, b"--x", 400),
        ({"content-type": "multipart/form-data; boundary=x"}, b"", 400),
        ({"content-type": "multipart/form-data; boundary=x"}, b"nothing of the kind", 400),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b"--x\r\nContent-Disposition: form-data\r\n\r\n",
            400,
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="images"\r\n\r\ntext\r\n--x--\r\n',
            400,
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\n\r\n' + RED,
            400,
        ),
        (
            {"content-type": "multipart/form-data; boundary=x"},
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"y" * 20_000 + b"\r\n--x--\r\n",
            400,
        ),
        ({"content-type": "multipart/form-data; boundary=" + "x" * 300}, b"--x", 400),
    ],
)
def test_broken_requests_are_refused(
    client: TestClient, headers: Mapping[str, str], body: bytes, status: int
) -> None:
    answer = client.post("/predict", content=body, headers=dict(headers))
    assert answer.status_code == status, answer.text
    assert len(answer.json()["error"].splitlines()) == 1
    assert fine(client)


def test_limits_of_bytes_files_and_pixels(client: TestClient) -> None:
    assert send(client, bytes(2_000_001)).status_code == 413
    # by what it says, before a byte of it is looked at; and by what comes, where it says nothing
    form = {"content-type": "multipart/form-data; boundary=x"}
    pieces = (b"--x\r\n" + bytes(100_000) for _ in range(40))
    assert client.post("/predict", content=pieces, headers=form).status_code in (400, 413)
    assert send(client, *[RED] * 4).status_code == 200
    many = send(client, *[RED] * 5)
    assert many.status_code == 413 and "4 files" in many.json()["error"]
    assert send(client, *[RED] * 50).status_code == 413
    with client_of(Colours(), Limits(pixels=1000, decoders=1)) as small:
        assert small.get("/model").json()["limits"]["pixels"] == 1000
        large = send(small, RED)
        assert large.status_code == 413 and "1000 pixels" in large.json()["error"]
    assert fine(client)


def test_a_file_that_takes_for_ever_is_given_up_and_the_next_is_read() -> None:
    """Nor does the next pay for the process that has to be begun again."""
    with client_of(Colours(), Limits(body=10_000_000, seconds=0.3, decoders=1)) as client:
        answer = send(client, many_scans())
        assert answer.status_code == 422 and "0.3 s" in answer.json()["error"]
        assert soon_fine(client)


def test_a_decoder_that_somebody_ends_is_begun_again() -> None:
    reading = Reading(SQUARES, None, 1_000_000)
    decoder = Decoder(reading, 20)
    try:
        assert list(decoder.decode(RED)) == list(SQUARES)
        decoder.process.kill()
        assert list(decoder.decode(RED)) == list(SQUARES)
    finally:
        decoder.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound a process's memory")
def test_a_decoder_may_fill_no_memory_and_write_no_file(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from ensemble.serve.decoding import _confine\nfrom ensemble.serve.predictor import Reading\n"
        "_confine(Reading((), None, 1000))\n"
        "try: bytes(3 << 30); os._exit(1)\n"
        "except MemoryError: pass\n"
        "try: open(sys.argv[1], 'wb', 0).write(b'x' * 10); os._exit(2)\n"
        "except OSError: os._exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=False).returncode == 7
    assert not (tmp_path / "x").stat().st_size


def test_hosts_that_it_is_not_called_by_are_refused(model: Colours) -> None:
    """Else a page elsewhere could let its own name point here and read the answers."""
    client = client_of(model)
    assert client.get("/health", headers={"host": "evil.example"}).status_code == 400
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert client.get("/health", headers={"host": host}).status_code == 200
    named = client_of(model, hosts=("lab.example",))
    assert named.get("/health", headers={"host": "lab.example"}).status_code == 200


def test_nothing_of_an_image_is_logged_or_written(
    client: TestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and watching and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            opened.append(str(arguments[0]))

    watching = True
    sys.addaudithook(hook)
    with caplog.at_level(logging.DEBUG):
        secret = "patient-4711.png"
        large = saved(noise(700, 700), "PNG")  # above the size at which forms are put on the disk
        assert len(large) > 1_200_000
        assert send(client, large, names=[secret]).status_code == 200
        assert send(client, b"broken", names=[secret]).status_code == 415
    watching = False
    out, err = capfd.readouterr()
    # the client of this test logs the address that it asks, and no name of a file
    assert secret not in caplog.text + out + err
    assert not opened and not list(tmp_path.iterdir())


# many at once


def test_what_comes_while_it_computes_goes_together() -> None:
    async def story() -> tuple[list[int], list[list[int]]]:
        batches: list[list[int]] = []
        gate = threading.Event()

        def compute(asked: Sequence[int]) -> Sequence[int]:
            batches.append(list(asked))
            assert gate.wait(5)
            return [2 * one for one in asked]

        batcher: Batcher[int, int] = Batcher(compute, max_batch=4)
        batcher.start()
        asked = [asyncio.create_task(batcher(i)) for i in range(8)]
        await asyncio.sleep(0.05)
        asked[5].cancel()  # whoever has left is not computed
        gate.set()
        output = await asyncio.gather(*asked, return_exceptions=True)
        await batcher.stop()
        return [one for one in output if isinstance(one, int)], batches

    output, batches = asyncio.run(story())
    assert output == [0, 2, 4, 6, 8, 12, 14]
    assert batches[0] == [0, 1, 2, 3] and batches[1] == [4, 6, 7]


def test_an_error_of_a_batch_is_told_to_each_and_the_next_is_answered() -> None:
    async def story() -> list[Any]:
        def compute(asked: Sequence[int]) -> Sequence[int]:
            if min(asked) < 0:
                raise ArithmeticError("negative")
            return asked

        batcher: Batcher[int, int] = Batcher(compute, max_batch=4)
        batcher.start()
        output = await asyncio.gather(batcher(-1), batcher(2), return_exceptions=True)
        output.append(await batcher(3))
        await batcher.stop()
        return output

    output = asyncio.run(story())
    assert [type(one) for one in output] == [ArithmeticError, ArithmeticError, int]


def test_concurrent_requests_get_their_own_answers_and_too_many_are_told_to_come_again() -> None:
    model = Colours()
    with client_of(model) as client:
        assert fine(client)
        model.gate.clear()
        model.began.clear()
        answers: dict[int, Any] = {}

        def ask(i: int) -> None:
            answers[i] = send(client, RED if i % 2 else BLUE)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(LIMITS.waiting)]
        for thread in threads:
            thread.start()
        assert model.began.wait(10)
        while client.get("/health").json()["waiting"] < LIMITS.waiting:
            time.sleep(0.01)
        refused = send(client, RED)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
        model.gate.set()
        for thread in threads:
            thread.join()
        labels = [answers[i].json()["predictions"][0]["label"] for i in range(LIMITS.waiting)]
        assert labels == ["blue ünï", "red"] * 3
        assert max(model.sizes) > 1 and max(model.sizes) <= LIMITS.batch
        assert client.get("/health").json()["waiting"] == 0 and fine(client)


def test_a_model_that_takes_too_long_is_a_503_and_one_that_fails_a_500() -> None:
    model = Colours()
    limits = Limits(seconds=0.3, decoders=1)
    with TestClient(
        create_app(model, limits), base_url="http://127.0.0.1", raise_server_exceptions=False
    ) as client:
        assert soon_fine(client)
        model.gate.clear()
        answer = send(client, RED)
        assert answer.status_code == 503 and "retry-after" in answer.headers
        model.gate.set()
        assert soon_fine(client)

        def broken(pixels: Squares) -> EnsembleOutput:
            raise RuntimeError("patient-4711")

        model.output = broken  # type: ignore[method-assign]
        answer = send(client, RED)
        assert answer.status_code == 500 and answer.json() == {"error": "unexpected RuntimeError"}


# the command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_RUNS", raising=False)
    return tmp_path


def test_what_cannot_be_served_is_one_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> tuple[int, str]:
        code = ens(["serve", *words])
        err = capfd.readouterr().err
        assert len(err.strip().splitlines()) == 1, err
        return code, err

    member(here / "runs", "vit-00000002", 2, kind="import")
    (here / "other").mkdir()
    (here / "other" / "config.json").write_text("[]")
    (here / "empty.zip").write_bytes(b"PK no")
    config = {"schema": 1, "run": "x", "inputs": [], "classes": [], "files": {"model.onnx": "0" * 64}}
    for name, changed in (("torn", {}), ("newer", {"schema": 2}), ("outside", {"files": {"../x": "0"}})):
        (here / name).mkdir()
        (here / name / "config.json").write_text(json.dumps(config | changed))
        (here / name / "model.onnx").write_bytes(b"onnx")
    for word, message in (
        ("vit", "has no network"),
        ("nobody", "0 runs in runs are called"),
        ("other", "is no export"),
        ("empty.zip", "is no export"),
        ("torn", "not as it was written"),
        ("newer", "schema 2"),
        ("outside", "is no export"),
    ):
        code, err = said(word)
        assert code == 3 and message in err, (word, err)
    assert said("torn", "--device", "cpu")[0] == 2
    for words in (
        ["--port", "70000"],
        ["--coverage", "2"],
        ["--max-body", "0"],
        ["--queue", "0"],
        ["--timeout", "1e7"],
    ):
        assert ens(["serve", "vit", *words]) == 2
        capfd.readouterr()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_multipart", None)
    with pytest.raises(EnsError, match="a service needs python-multipart; type `python -m pip install"):
        require("a service", "fastapi", "python_multipart")


def test_sets_that_promise_nothing_are_said_to() -> None:
    assert Calibration(Conformal(0.9, 0.5, 60), 0.9).warning == ""
    assert "every set holds every class" in Calibration(Conformal(0.99, math.inf, 8), math.nan).warning
