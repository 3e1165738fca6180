"""The files of a request, in memory alone and no more of them than is allowed."""

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

LONGEST_NAME = 255
DRAINED = 4
"""So many times the largest body are read and dropped, so that the sender gets to hear why it is refused."""


@dataclass(frozen=True)
class Upload:
    """name: what the sender calls it, one line.  body: its bytes."""

    name: str
    body: bytes


class _InMemory(MultiPartParser):
    # nothing of an image goes to the disk, which is what happens beyond this size
    spool_max_size = sys.maxsize


async def uploads(request: Request, limits: Limits) -> list[Upload]:
    """The files of a multipart request, in their order. Raises Refused for anything else."""
    try:
        return await asyncio.wait_for(_parsed(request, limits), limits.seconds)
    except ClientDisconnect as error:
        # nobody hears it; it must only not count as a fault of ours
        raise RequestRefused(HTTPStatus.BAD_REQUEST, "the sender has left") from error
    except asyncio.TimeoutError as error:
        why = f"the request took longer than {limits.seconds:g} s to arrive"
        raise RequestRefused(HTTPStatus.REQUEST_TIMEOUT, why) from error


async def _parsed(request: Request, limits: Limits) -> list[Upload]:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise RequestRefused(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "multipart/form-data with a file in every part expected, as from curl -F",
        )
    body = _bounded(request, limits.body)
    # one more than allowed, so that too many can be told from a broken request
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
        return [await _taken(file) for file in files]
    finally:
        await form.close()


async def _taken(file: UploadFile) -> Upload:
    """The file's bytes, not held twice."""
    body = await file.read()
    await file.close()
    return Upload(one_line(file.filename or "")[:LONGEST_NAME], body)


def _too_many(limits: Limits) -> RequestRefused:
    return RequestRefused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{limits.files} files in a request at most expected"
    )


async def _bounded(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Raises Refused when it is larger than `most` bytes, or says that it will be."""
    length = request.headers.get("content-length", "")
    seen, large = 0, length.isdecimal() and int(length) > most
    async for chunk in request.stream():
        seen += len(chunk)
        large = large or seen > most
        if not large:
            yield chunk
        elif seen > DRAINED * most:
            break
    if large:
        why = f"the request is larger than {most / MEGABYTE:g} MB"
        raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, why)
