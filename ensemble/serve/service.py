"""From the bytes of image files to a model's predictions, with requests batched together."""

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
    """compute: what n are asked -> n answers, in one thread.  most: so many at a time."""

    def __init__(self, compute: Callable[[Sequence[Asked]], Sequence[Said]], most: int) -> None:
        self.compute, self.most = compute, most
        self.thread = ThreadPoolExecutor(1, "computing")
        self.waiting: asyncio.Queue[tuple[Asked, asyncio.Future[Said]]] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None

    async def __call__(self, asked: Asked) -> Said:
        """The answer to one."""
        answer: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait((asked, answer))
        return await answer

    async def alone(self, do: Callable[[], T]) -> T:
        """Something else in the same thread, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, do)

    def start(self) -> None:
        """Begin to answer, in the running loop."""
        self.task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        """Answer no more."""
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        self.thread.shutdown()

    async def _go_on(self) -> None:
        while True:
            some = [await self.waiting.get()]
            while len(some) < self.most and not self.waiting.empty():
                some.append(self.waiting.get_nowait())
            await self._answer([(asked, answer) for asked, answer in some if not answer.done()])

    async def _answer(self, some: Sequence[tuple[Asked, asyncio.Future[Said]]]) -> None:
        """To each its own, or to all of them the error that befell them."""
        if not some:
            return
        try:
            said = await self.alone(lambda: self.compute([asked for asked, _ in some]))
        except Exception as error:
            for _, answer in some:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), one in zip(some, said, strict=True):
            if not answer.done():
                answer.set_result(one)


PICTURE = 224
"""Pixels of the longer side of a drawn map."""


@dataclass(frozen=True)
class _Seen:
    """One file: its squares, or why it has none."""

    name: str
    squares: Squares | None
    refused: RequestRefused | None = None


class Service:
    """A model behind its decoders and its queue; `start` and `stop` it in the loop that asks it."""

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.limits, self.inside = predictor, limits, 0
        self.layout = Layout(predictor.facts.classes, None, "jsonl", uncertain=True)
        most = min(predictor.reading.max_pixels, limits.pixels)
        self.reading = replace(predictor.reading, max_pixels=most)

    async def start(self) -> None:
        """Begin to answer. Raises Refused where nothing can be decoded."""
        self.decoders = Decoders(self.limits.decoders, self.reading, self.limits.seconds)
        await self.decoders.start()
        self.batcher: Batcher[Squares, EnsembleOutput] = Batcher(self._opinions, self.limits.batch)
        self.batcher.start()

    async def stop(self) -> None:
        """Answer no more."""
        await self.batcher.stop()
        self.decoders.close()

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place for a request, which holds its files in memory. Raises Refused where all are taken."""
        if self.inside >= self.limits.waiting:
            raise busy(f"{self.inside} requests are waiting")
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def predictions(self, files: Sequence[Upload]) -> dict[str, Any]:
        """What is said of each file that can be read, and why not of the others.

        Raises Refused where none can be read, for the first one's reason, and where it takes too long.
        """
        return await self._in_time(self._predictions(files))

    async def maps(self, file: Upload, asked: str | None) -> dict[str, Any]:
        """Where the members look in one image for the class called `asked`, by default the predicted one.

        Raises Refused for a model without gradients, an unknown class, a file that cannot be read.
        """
        facts = self.predictor.facts
        if facts.no_maps:
            raise RequestRefused(HTTPStatus.NOT_IMPLEMENTED, facts.no_maps)
        if asked is not None and asked not in facts.classes:
            why = f"unknown class {asked!r}{did_you_mean(asked, facts.classes)}"
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, why)
        return await self._in_time(self._maps(file, asked))

    async def _in_time(self, work: Any) -> dict[str, Any]:
        try:
            made: dict[str, Any] = await asyncio.wait_for(work, 2 * self.limits.seconds)
            return made
        except asyncio.TimeoutError as error:
            raise busy(f"no answer within {2 * self.limits.seconds:g} s") from error

    async def _predictions(self, files: Sequence[Upload]) -> dict[str, Any]:
        seen = await asyncio.gather(*map(self._seen, files))
        read = [one for one in seen if one.squares is not None]
        refused = [one for one in seen if one.refused is not None]
        if not read and refused[0].refused:
            raise refused[0].refused
        said = await asyncio.gather(*(self.batcher(one.squares) for one in read if one.squares is not None))
        return {
            "run": self.predictor.facts.run,
            "predictions": [self._said(one.name, output) for one, output in zip(read, said, strict=True)],
            "unreadable": [{"image": one.name, "error": str(one.refused)} for one in refused],
        }

    async def _seen(self, file: Upload) -> _Seen:
        try:
            return _Seen(file.name, await self.decoders(file.body))
        except RequestRefused as refused:
            return _Seen(file.name, None, refused)

    def _opinions(self, asked: Sequence[Squares]) -> Sequence[EnsembleOutput]:
        """What the model says of n images, each on its own."""
        together = {square: np.concatenate([one[square] for one in asked]) for square in asked[0]}
        output = self.predictor.output(together)
        return [output.row(i) for i in range(len(asked))]

    def _said(self, name: str, output: EnsembleOutput) -> dict[str, Any]:
        """A line of `ens predict --uncertain`, and the same of each member."""
        facts = self.predictor.facts
        sets = None if facts.calibration is None else facts.calibration.sets.sets(output.probs)
        unsure = Uncertainty(entropy(output.probs), member_disagreement(output.members, facts.weights), sets)
        (said,) = self.layout.objects([name], output.probs, unsure)
        alone = self.layout.objects([one.id for one in facts.members], output.members[:, 0], None)
        return said | {"members": [{"member": one.pop("image"), **one} for one in alone]}

    async def _maps(self, file: Upload, asked: str | None) -> dict[str, Any]:
        squares = await self.decoders(file.body)
        classes = self.predictor.facts.classes
        if asked is None:
            asked = classes[int((await self.batcher(squares)).probs[0].argmax())]
        maps = await self.batcher.alone(partial(self.predictor.maps, squares, classes.index(asked)))
        return {
            "run": self.predictor.facts.run,
            "image": file.name,
            "class": asked,
            "maps": await asyncio.to_thread(lambda: [_drawn(one) for one in maps]),
        }


def _drawn(one: HeatMap) -> dict[str, Any]:
    from ensemble.report.figures import overlaid
    from ensemble.report.html import data_uri

    if one.heat is None:
        return {"member": one.member, "picture": None, "why": one.why}
    picture = overlaid(one.picture, one.heat)
    larger = max(1, PICTURE // max(picture.size))
    shown = picture.resize((picture.width * larger, picture.height * larger), Image.Resampling.NEAREST)
    return {"member": one.member, "picture": data_uri(shown, PICTURE), "why": ""}
