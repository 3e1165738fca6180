"""A model without a network that sees colours, and clients of its service."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from ensemble.combine.calibration import Conformal
from ensemble.combine.predicting_members import Calibration, EnsembleOutput
from ensemble.data.preprocess import Preprocess
from ensemble.export.model_facts import ServedMember
from ensemble.serve.app import create_app
from ensemble.serve.predictor import Facts, HeatMap, Limits, Reading, Squares
from helpers.bad_images import saved

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
