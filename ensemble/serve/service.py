"""Predictions of a model from the bytes of image files, with concurrent requests batched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import numpy as np
from PIL import Image

from ensemble.combine.predicting_members import EnsembleOutput, member_disagreement
from ensemble.core.registry import did_you_mean
from ensemble.metrics.classification import entropy
from ensemble.report.prediction_output import Layout, Uncertainty
from ensemble.serve.decoding import Decoders
from ensemble.serve.predictor import HeatMap, Limits, Predictor, RequestRefused, Squares, busy
from ensemble.serve.uploads import Upload

Asked = TypeVar("Asked")
Said = TypeVar("Said")
T = TypeVar("T")


class Batcher(Generic[Asked, Said]):
    """Batches concurrent calls. compute: n items -> n results, in one thread.  max_batch: the largest n."""

    def __init__(self, compute: Callable[[Sequence[Asked]], Sequence[Said]], max_batch: int) -> None:
        self.compute, self.max_batch = compute, max_batch
        self.thread = ThreadPoolExecutor(1, "computing")
        self.queue: asyncio.Queue[tuple[Asked, asyncio.Future[Said]]] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None

    async def __call__(self, item: Asked) -> Said:
        """The result for one item."""
        future: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((item, future))
        return await future

    async def run_in_thread(self, call: Callable[[], T]) -> T:
        """The result of `call`, run in the same thread between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, call)

    def start(self) -> None:
        """Start processing, in the running event loop."""
        self.task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop processing."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        self.thread.shutdown()

    async def _run(self) -> None:
        while True:
            batch = [await self.queue.get()]
            while len(batch) < self.max_batch and not self.queue.empty():
                batch.append(self.queue.get_nowait())
            await self._compute_batch([(item, future) for item, future in batch if not future.done()])

    async def _compute_batch(self, batch: Sequence[tuple[Asked, asyncio.Future[Said]]]) -> None:
        """Set the result of every future, or the error of the batch for all of them."""
        if not batch:
            return
        try:
            results = await self.run_in_thread(lambda: self.compute([item for item, _ in batch]))
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


PICTURE_SIDE = 224
"""The longer side of a drawn map, in pixels."""


@dataclass(frozen=True)
class _DecodedFile:
    """A file: its squares, or the reason why it has none."""

    name: str
    squares: Squares | None
    refusal: RequestRefused | None = None


class Service:
    """A model with its decoders and its queue; to be started and stopped in the event loop that uses it."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.limits, self.active_requests = predictor, limits, 0
        self.layout = Layout(predictor.facts.classes, None, "jsonl", uncertain=True)
        max_pixels = min(predictor.reading.max_pixels, limits.pixels)
        self.reading = replace(predictor.reading, max_pixels=max_pixels)

    async def start(self) -> None:
        """Start processing. Raises RequestRefused where decoding does not start."""
        self.decoders = Decoders(self.limits.decoders, self.reading, self.limits.seconds)
        await self.decoders.start()
        self.batcher: Batcher[Squares, EnsembleOutput] = Batcher(self._outputs, self.limits.batch)
        self.batcher.start()

    async def stop(self) -> None:
        """Stop processing."""
        await self.batcher.stop()
        self.decoders.close()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request while it is processed. Raises RequestRefused above the limit: requests take memory."""
        if self.active_requests >= self.limits.waiting:
            raise busy(f"{self.active_requests} requests are waiting")
        self.active_requests += 1
        try:
            yield
        finally:
            self.active_requests -= 1

    async def predictions(self, files: Sequence[Upload]) -> dict[str, Any]:
        """The predictions of the readable files, and the reasons for the others.

        Raises RequestRefused for the reason of the first file where none is readable, and after the time limit.
        """
        return await self._with_time_limit(self._predictions(files))

    async def maps(self, file: Upload, class_name: str | None) -> dict[str, Any]:
        """The members' Grad-CAM of one image for the class `class_name`, by default the predicted one.

        Raises RequestRefused for a model without gradients, an unknown class, an unreadable file.
        """
        facts = self.predictor.facts
        if facts.no_maps:
            raise RequestRefused(HTTPStatus.NOT_IMPLEMENTED, facts.no_maps)
        if class_name is not None and class_name not in facts.classes:
            reason = f"unknown class {class_name!r}{did_you_mean(class_name, facts.classes)}"
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
        return await self._with_time_limit(self._maps(file, class_name))

    async def _with_time_limit(self, coroutine: Any) -> dict[str, Any]:
        try:
            result: dict[str, Any] = await asyncio.wait_for(coroutine, 2 * self.limits.seconds)
            return result
        except asyncio.TimeoutError as error:
            raise busy(f"no answer within {2 * self.limits.seconds:g} s") from error

    async def _predictions(self, files: Sequence[Upload]) -> dict[str, Any]:
        decoded = await asyncio.gather(*map(self._decoded_file, files))
        readable = [file for file in decoded if file.squares is not None]
        unreadable = [file for file in decoded if file.refusal is not None]
        if not readable and unreadable[0].refusal:
            raise unreadable[0].refusal
        outputs = await asyncio.gather(
            *(self.batcher(file.squares) for file in readable if file.squares is not None)
        )
        return {
            "run": self.predictor.facts.run,
            "predictions": [
                self._record(file.name, output) for file, output in zip(readable, outputs, strict=True)
            ],
            "unreadable": [{"image": file.name, "error": str(file.refusal)} for file in unreadable],
        }

    async def _decoded_file(self, file: Upload) -> _DecodedFile:
        try:
            return _DecodedFile(file.name, await self.decoders(file.body))
        except RequestRefused as refusal:
            return _DecodedFile(file.name, None, refusal)

    def _outputs(self, images: Sequence[Squares]) -> Sequence[EnsembleOutput]:
        """The model's output for each of n images."""
        batch = {square: np.concatenate([squares[square] for squares in images]) for square in images[0]}
        output = self.predictor.output(batch)
        return [output.row(i) for i in range(len(images))]

    def _record(self, name: str, output: EnsembleOutput) -> dict[str, Any]:
        """The fields of a line of `ens predict --uncertain`, and the same for each member."""
        facts = self.predictor.facts
        sets = None if facts.calibration is None else facts.calibration.sets.sets(output.probs)
        uncertainty = Uncertainty(entropy(output.probs), member_disagreement(output.members, facts.weights), sets)
        (record,) = self.layout.objects([name], output.probs, uncertainty)
        member_records = self.layout.objects([member.id for member in facts.members], output.members[:, 0], None)
        return record | {"members": [{"member": member.pop("image"), **member} for member in member_records]}

    async def _maps(self, file: Upload, class_name: str | None) -> dict[str, Any]:
        squares = await self.decoders(file.body)
        classes = self.predictor.facts.classes
        if class_name is None:
            class_name = classes[int((await self.batcher(squares)).probs[0].argmax())]
        maps = await self.batcher.run_in_thread(partial(self.predictor.maps, squares, classes.index(class_name)))
        return {
            "run": self.predictor.facts.run,
            "image": file.name,
            "class": class_name,
            "maps": await asyncio.to_thread(lambda: [_drawn(heat_map) for heat_map in maps]),
        }


def _drawn(heat_map: HeatMap) -> dict[str, Any]:
    from ensemble.report.figures import overlaid
    from ensemble.report.html import data_uri

    if heat_map.heat is None:
        return {"member": heat_map.member, "picture": None, "why": heat_map.reason}
    picture = overlaid(heat_map.picture, heat_map.heat)
    factor = max(1, PICTURE_SIDE // max(picture.size))
    enlarged = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return {"member": heat_map.member, "picture": data_uri(enlarged, PICTURE_SIDE), "why": ""}
