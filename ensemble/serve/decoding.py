"""Decoding of image files in separate processes, so that malicious files cannot harm the service.

A process receives a file's bytes and returns the squares that the networks need, or a status and a reason. It is
killed after a time limit, its memory is limited where the system supports that, and it cannot write files.
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

BYTES_PER_PIXEL = 32
"""Memory for the pixels as they are stored, as RGB with alpha, rotated and resized."""

START_TIMEOUT = 60.0
"""Seconds for the imports of a new process; the time limit of a file starts afterwards."""

_BASE_MEMORY = 1 << 30
_READ, _REFUSED, _READY = b"\0", b"\1", b"\2"
_STATUS: dict[type[DataError], HTTPStatus] = {
    NotAnImage: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    TooManyPixels: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
_ADVICE: dict[type[DataError], str] = {
    TooManyPixels: "shrink it",
    SeeThrough: "this model does not know what lies behind them, so save it without",
}
"""Advice for users of the service, in place of the error's own, which is for training."""


def encoded_reply(body: bytes, reading: Reading) -> bytes:
    """The squares of an image file, concatenated, or a status and a reason; the first byte tells which."""
    try:
        image = decode(io.BytesIO(body), max_pixels=reading.max_pixels, background=reading.background)
        return _READ + b"".join(square.of(image).tobytes() for square in reading.squares)
    except DataError as error:
        error_type, reason = type(error), str(error)
        if error_type in _ADVICE:
            reason = f"{reason.partition(';')[0]}; {_ADVICE[error_type]}"
        return _encoded_refusal(_STATUS.get(error_type, HTTPStatus.UNPROCESSABLE_ENTITY), reason)
    except MemoryError:
        return _encoded_refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "needs more memory than an image may; shrink it")


def squares(reply: bytes, reading: Reading) -> dict[Preprocess, Pixels]:
    """The decoded `encoded_reply`: uint8 (1, size, size, 3) for each square. Raises RequestRefused."""
    if reply[:1] == _REFUSED:
        status, message = json.loads(reply[1:])
        raise RequestRefused(HTTPStatus(status), message)
    arrays, start = {}, 1
    for square in reading.squares:
        pixels = np.frombuffer(reply, np.uint8, square.bytes, start)
        arrays[square] = pixels.reshape(1, square.size, square.size, 3)
        start += square.bytes
    return arrays


def _encoded_refusal(status: HTTPStatus, reason: str) -> bytes:
    return _REFUSED + json.dumps([int(status), one_line(reason)]).encode()


def decoder_main(connection: Connection[bytes, bytes], reading: Reading) -> None:
    """The main loop of a decoding process; returns when the connection is closed."""
    _warm_up(reading)
    confine(reading)
    connection.send_bytes(_READY)
    while True:
        try:
            connection.send_bytes(encoded_reply(connection.recv_bytes(), reading))
        except (EOFError, OSError):
            return


def _warm_up(reading: Reading) -> None:
    """Import the filters' modules before the time limit of the first file starts."""
    Image.init()
    for square in reading.squares:
        square.of(Image.new("RGB", (64, 64)))


def confine(reading: Reading) -> None:
    """Ignore signals, discard output, forbid writing files and limit the memory of this process."""
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    null_device = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null_device, stream)
    if sys.platform != "win32":
        import resource

        memory = _mapped_bytes() + _BASE_MEMORY + BYTES_PER_PIXEL * reading.max_pixels
        for limit, value in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
            # macOS defines the memory limit but rejects setting it
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(limit, (value, value))


def _mapped_bytes() -> int:
    """Bytes of address space that this process uses at present; 0 where /proc is not available."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 (a file of the system)
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class Decoder:
    """A decoding process, restarted when a file has made it end. seconds: the time limit of a file."""

    def __init__(self, reading: Reading, seconds: float) -> None:
        self.reading, self.seconds = reading, seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, child_connection = context.Pipe()
        self.process: Any = context.Process(target=decoder_main, args=(child_connection, self.reading), daemon=True)
        self.process.start()
        self.ready = False
        child_connection.close()

    def decode(self, body: bytes) -> dict[Preprocess, Pixels]:
        """The squares of an image file. Raises RequestRefused."""
        # a second attempt where the process ends, which need not be the fault of the file
        reply = self._reply(body) or self._reply(body)
        if not reply:
            reason = "cannot be decoded; save it again as PNG or JPEG"
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, reason)
        return squares(reply, self.reading)

    def _reply(self, body: bytes) -> bytes:
        """The reply of the process; empty where the process ends. Raises RequestRefused after the time limit."""
        self.wait_until_ready()
        try:
            self.connection.send_bytes(body)
            if self.connection.poll(self.seconds):
                return self.connection.recv_bytes()
        except (EOFError, OSError):
            self._restart()
            return b""
        self._restart()
        reason = f"takes longer than {self.seconds:g} s to decode; shrink it"
        raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, reason)

    def wait_until_ready(self) -> None:
        """Raises RequestRefused where the process does not start, whatever the file."""
        try:
            self.ready = self.ready or (
                self.connection.poll(START_TIMEOUT) and self.connection.recv_bytes() == _READY
            )
        except (EOFError, OSError):
            self._restart()
        if not self.ready:
            raise busy("decoding does not start")

    def _restart(self) -> None:
        self.close()
        self._start()

    def close(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class Decoders:
    """A pool of decoding processes, each used by one thread at a time."""

    def __init__(self, count: int, reading: Reading, seconds: float) -> None:
        self.idle: queue.SimpleQueue[Decoder] = queue.SimpleQueue()
        self.all = [Decoder(reading, seconds) for _ in range(count)]
        for decoder in self.all:
            self.idle.put(decoder)
        self.threads = ThreadPoolExecutor(count, "decoding")

    async def __call__(self, body: bytes) -> dict[Preprocess, Pixels]:
        """The squares of an image file. Raises RequestRefused."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._decode, body)

    async def start(self) -> None:
        """Wait until all processes are ready. Raises RequestRefused."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.run_in_executor(self.threads, decoder.wait_until_ready) for decoder in self.all)
        )

    def _decode(self, body: bytes) -> dict[Preprocess, Pixels]:
        decoder = self.idle.get()
        try:
            return decoder.decode(body)
        finally:
            self.idle.put(decoder)

    def close(self) -> None:
        """End all processes and threads."""
        for decoder in self.all:
            decoder.close()
        self.threads.shutdown()
