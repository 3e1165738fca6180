"""Requests together: batches, errors, waiting, time limits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

from helpers.colour_model import BLUE, LIMITS, RED, Colours, client_of, fine, send, soon_fine
from starlette.testclient import TestClient

from ensemble.combine.predicting_members import EnsembleOutput
from ensemble.serve.app import create_app
from ensemble.serve.predictor import Limits, Squares
from ensemble.serve.service import Batcher


def test_requests_are_batched() -> None:
    async def story() -> tuple[list[int], list[list[int]]]:
        batches: list[list[int]] = []
        gate = threading.Event()

        def compute(requests: Sequence[int]) -> Sequence[int]:
            batches.append(list(requests))
            assert gate.wait(5)
            return [2 * item for item in requests]

        batcher: Batcher[int, int] = Batcher(compute, max_batch=4)
        batcher.start()
        requests = [asyncio.create_task(batcher(i)) for i in range(8)]
        await asyncio.sleep(0.05)
        requests[5].cancel()  # whoever has left is not computed
        gate.set()
        output = await asyncio.gather(*requests, return_exceptions=True)
        await batcher.stop()
        return [item for item in output if isinstance(item, int)], batches

    output, batches = asyncio.run(story())
    assert output == [0, 2, 4, 6, 8, 12, 14]
    assert batches[0] == [0, 1, 2, 3] and batches[1] == [4, 6, 7]


def test_error_of_a_batch_reaches_each_request() -> None:
    async def story() -> list[Any]:
        def compute(requests: Sequence[int]) -> Sequence[int]:
            if min(requests) < 0:
                raise ArithmeticError("negative")
            return requests

        batcher: Batcher[int, int] = Batcher(compute, max_batch=4)
        batcher.start()
        output = await asyncio.gather(batcher(-1), batcher(2), return_exceptions=True)
        output.append(await batcher(3))
        await batcher.stop()
        return output

    output = asyncio.run(story())
    assert [type(item) for item in output] == [ArithmeticError, ArithmeticError, int]


def test_concurrent_requests_and_overload() -> None:
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


def test_slow_model_is_503_and_failing_model_is_500() -> None:
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
