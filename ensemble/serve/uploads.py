"""The files of a request, within the limits and kept in memory only."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from ensemble.core.errors import one_line
from ensemble.serve.predictor import MEGABYTE, Limits, RequestRefused

MAX_NAME_LENGTH = 255
DRAIN_FACTOR = 4
"""Up to this multiple of the largest body is read and discarded, so that the client receives the error."""


@dataclass(frozen=True)
class Upload:
    """name: the client's file name, one line.  body: its bytes."""

    name: str
    body: bytes


class _InMemory(MultiPartParser):
    # larger parts would be written to disk, where no image may be stored
    spool_max_size = sys.maxsize


async def uploads(request: Request, limits: Limits) -> list[Upload]:
    """The files of a multipart request, in their order. Raises RequestRefused for anything else."""
    try:
        return await asyncio.wait_for(_parsed(request, limits), limits.seconds)
    except ClientDisconnect as error:
        # no client receives it; it only must not count as an internal error
        raise RequestRefused(HTTPStatus.BAD_REQUEST, "the sender has left") from error
    except asyncio.TimeoutError as error:
        reason = f"the request took longer than {limits.seconds:g} s to arrive"
        raise RequestRefused(HTTPStatus.REQUEST_TIMEOUT, reason) from error


async def _parsed(request: Request, limits: Limits) -> list[Upload]:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise RequestRefused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "multipart/form-data with a file in every part expected, as from curl -F",
        )
    body = _bounded(request, limits.body)
    # one more than allowed, to distinguish too many files from a broken request
    parser = _InMemory(request.headers, body, max_files=limits.files + 1, max_fields=8, max_part_size=10_000)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if parser._current_files > limits.files:
            raise _too_many(limits) from error
        raise RequestRefused(
            HTTPStatus.BAD_REQUEST, f"a broken multipart request ({one_line(error.message)})"
        ) from error
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        if not files:
            raise RequestRefused(HTTPStatus.BAD_REQUEST, "no file in the request; one named `images` expected")
        if len(files) > limits.files:
            raise _too_many(limits)
        return [await _upload(file) for file in files]
    finally:
        await form.close()


async def _upload(file: UploadFile) -> Upload:
    """The file's name and bytes; the file is closed, so that its bytes are held only once."""
    body = await file.read()
    await file.close()
    return Upload(one_line(file.filename or "")[:MAX_NAME_LENGTH], body)


def _too_many(limits: Limits) -> RequestRefused:
    return RequestRefused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{limits.files} files in a request at most expected"
    )


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The chunks of the body. Raises RequestRefused when it, or its Content-Length, exceeds `max_bytes`."""
    length = request.headers.get("content-length", "")
    received, too_large = 0, length.isdecimal() and int(length) > max_bytes
    async for chunk in request.stream():
        received += len(chunk)
        too_large = too_large or received > max_bytes
        if not too_large:
            yield chunk
        elif received > DRAIN_FACTOR * max_bytes:
            break
    if too_large:
        reason = f"the request is larger than {max_bytes / MEGABYTE:g} MB"
        raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
