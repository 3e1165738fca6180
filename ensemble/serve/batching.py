"""One thread that computes, and what waits for it: whatever has come while it was busy goes together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

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
