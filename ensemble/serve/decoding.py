"""Files decoded in processes of their own, which may be slowed down, filled or killed by a file without harm.

A process gets a file's bytes and gives the squares that the networks need, or a status and a reason. Past its time
it is killed, its memory is bounded where the system can do that, and it can write no file.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import multiprocessing
import os
import queue
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from PIL import Image

from ensemble.core.errors import DataError, one_line
from ensemble.data.images import NotAnImage, SeeThrough, TooManyPixels, decode
from ensemble.data.preprocess import Pixels, Preprocess
from ensemble.serve.predictor import Reading, RequestRefused, busy

BYTES_A_PIXEL = 32
"""Room for the pixels as they are stored, as RGB with alpha, turned and resized."""

STARTING = 60.0
"""Seconds that a process may take to import what it needs, before a file's own time begins."""

_ROOM = 1 << 30
_READ, _REFUSED, _READY = b"\0", b"\1", b"\2"
_STATUS: dict[type[DataError], HTTPStatus] = {
    NotAnImage: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    TooManyPixels: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
_ADVICE: dict[type[DataError], str] = {
    TooManyPixels: "shrink it",
    SeeThrough: "this model does not know what lies behind them, so save it without",
}
"""For whoever sends an image, where the error's own words are for whoever trains a model."""


def answer(body: bytes, reading: Reading) -> bytes:
    """The squares of an image file, one after another, or why not; the first byte says which."""
    try:
        image = decode(io.BytesIO(body), max_pixels=reading.max_pixels, background=reading.background)
        return _READ + b"".join(square.of(image).tobytes() for square in reading.squares)
    except DataError as error:
        kind, why = type(error), str(error)
        if kind in _ADVICE:
            why = f"{why.partition(';')[0]}; {_ADVICE[kind]}"
        return _refused(_STATUS.get(kind, HTTPStatus.UNPROCESSABLE_ENTITY), why)
    except MemoryError:
        return _refused(HTTPStatus.UNPROCESSABLE_ENTITY, "needs more memory than an image may; shrink it")


def squares(reply: bytes, reading: Reading) -> dict[Preprocess, Pixels]:
    """`answer` read back: uint8 (1, size, size, 3) for each square. Raises Refused."""
    if reply[:1] == _REFUSED:
        status, message = json.loads(reply[1:])
        raise RequestRefused(HTTPStatus(status), message)
    made, start = {}, 1
    for square in reading.squares:
        pixels = np.frombuffer(reply, np.uint8, square.bytes, start)
        made[square] = pixels.reshape(1, square.size, square.size, 3)
        start += square.bytes
    return made


def _refused(status: HTTPStatus, why: str) -> bytes:
    return _REFUSED + json.dumps([int(status), one_line(why)]).encode()


def work(connection: Connection[bytes, bytes], reading: Reading) -> None:
    """What a decoding process does until nobody is there to ask."""
    _get_ready(reading)
    _confine(reading)
    connection.send_bytes(_READY)
    while True:
        try:
            connection.send_bytes(answer(connection.recv_bytes(), reading))
        except (EOFError, OSError):
            return


def _get_ready(reading: Reading) -> None:
    """Import what the filters need, at nobody's expense."""
    Image.init()
    for square in reading.squares:
        square.of(Image.new("RGB", (64, 64)))


def _confine(reading: Reading) -> None:
    """The service decides when this process ends; it says nothing, writes nothing and takes so much memory."""
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    if sys.platform != "win32":
        import resource

        room = _now_mapped() + _ROOM + BYTES_A_PIXEL * reading.max_pixels
        for limit, most in ((resource.RLIMIT_AS, room), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
            # macOS knows the limit of memory and refuses it
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(limit, (most, most))


def _now_mapped() -> int:
    """Bytes of address space that this process has already, where /proc tells."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (no file of anybody's)
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Decoder:
    """One process, begun again when a file has brought it down. seconds: what a file may take."""

    def __init__(self, reading: Reading, seconds: float) -> None:
        self.reading, self.seconds = reading, seconds
        self._begin()

    def _begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process: Any = context.Process(target=work, args=(other, self.reading), daemon=True)
        self.process.start()
        self.ready = False
        other.close()

    def ask(self, body: bytes) -> dict[Preprocess, Pixels]:
        """The squares of an image file. Raises Refused."""
        # once more where the process ends: another hand may have ended it
        reply = self._reply(body) or self._reply(body)
        if not reply:
            why = "cannot be decoded; save it again as PNG or JPEG"
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, why)
        return squares(reply, self.reading)

    def _reply(self, body: bytes) -> bytes:
        """What the process says; nothing where it ends. Raises Refused where it takes too long."""
        self.wait_until_ready()
        try:
            self.connection.send_bytes(body)
            if self.connection.poll(self.seconds):
                return self.connection.recv_bytes()
        except (EOFError, OSError):
            self._again()
            return b""
        self._again()
        why = f"takes longer than {self.seconds:g} s to decode; shrink it"
        raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, why)

    def wait_until_ready(self) -> None:
        """Raises Refused where the process does not come up, which no file is to blame for."""
        try:
            self.ready = self.ready or (self.connection.poll(STARTING) and self.connection.recv_bytes() == _READY)
        except (EOFError, OSError):
            self._again()
        if not self.ready:
            raise busy("decoding does not start")

    def _again(self) -> None:
        self.close()
        self._begin()

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class Decoders:
    """Several such processes, each asked by one thread at a time."""

    def __init__(self, count: int, reading: Reading, seconds: float) -> None:
        self.idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self.all = [Decoder(reading, seconds) for _ in range(count)]
        for one in self.all:
            self.idle.put(one)
        self.threads = ThreadPoolExecutor(count, "decoding")

    async def __call__(self, body: bytes) -> dict[Preprocess, Pixels]:
        """The squares of an image file. Raises Refused."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._ask, body)

    async def start(self) -> None:
        """Wait until all of them can be asked. Raises Refused."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self.threads, one.wait_until_ready) for one in self.all))

    def _ask(self, body: bytes) -> dict[Preprocess, Pixels]:
        one = self.idle.get()
        try:
            return one.ask(body)
        finally:
            self.idle.put(one)

    def close(self) -> None:
        """End all processes; nobody asks any more."""
        for one in self.all:
            one.close()
        self.threads.shutdown()
