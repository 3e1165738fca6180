"""The HTTP service: its addresses, security headers, page and process."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import logging
import math
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ensemble.core.errors import EnsError, one_line
from ensemble.core.version import __version__
from ensemble.report.html import rendered
from ensemble.runs.leaderboard import LIMITS, NOT_MEDICAL
from ensemble.serve.predictor import Facts, Limits, Predictor, RequestRefused
from ensemble.serve.schema import Explanation, Health, Model, Predictions, Problem, model_facts
from ensemble.serve.service import Service
from ensemble.serve.uploads import uploads

HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class SecureHeaders:
    """Nothing of an answer is kept, framed, guessed at or read by another site. policy: what the page may load."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self.app, self.headers = app, HEADERS | {"Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await self.app(scope, receive, headed if scope["type"] == "http" else send)


@dataclass(frozen=True)
class Page:
    """policy: its Content-Security-Policy, which names its style and program by their hashes."""

    html: str
    policy: str


def page(facts: Facts, limits: Limits) -> Page:
    """The page of a model."""
    html = rendered(
        "serve.html",
        {
            "facts": facts,
            "limits": limits,
            "notice": NOT_MEDICAL if facts.medical else None,
            "limitations": LIMITS,
            "calibration": facts.calibration,
            "most_entropy": math.log(len(facts.classes)),
            "version": __version__,
        },
    )
    return Page(html, _policy(html))


def _policy(html: str) -> str:
    rules = {
        "default-src": "'none'",
        "style-src": _hashes(html, "style"),
        "script-src": _hashes(html, "script"),
        "img-src": "data: blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hashes(html: str, tag: str) -> str:
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")

_FILES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
                    },
                }
            }
        },
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in (
        (400, "No file, or a broken multipart request."),
        (408, "The request took too long to arrive."),
        (413, "Too many bytes, pixels or files."),
        (415, "No multipart/form-data, or a file that is no image by its content."),
        (422, "An image that cannot be read, or takes too long."),
        (503, "Too many requests are waiting, or no answer in time; see Retry-After."),
    )
}


def create_app(predictor: Predictor, limits: Limits, hosts: Sequence[str] = LOCAL) -> FastAPI:
    """The service of one model. hosts: the names it may be called by, `*` for any."""
    service = Service(predictor, limits)
    shown = page(predictor.facts, limits)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # the default pages of documentation load their programs from elsewhere
    app = FastAPI(
        title=f"ens serve {predictor.facts.run}",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=running,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(SecureHeaders, policy=shown.policy)
    app.add_exception_handler(RequestRefused, _refused)
    app.add_exception_handler(Exception, _unexpected)
    _add_addresses(app, service, shown)
    return app


def _add_addresses(app: FastAPI, service: Service, shown: Page) -> None:
    facts, limits = service.predictor.facts, service.limits

    @app.post("/predict", openapi_extra=_FILES, responses=_PROBLEMS)
    async def predict(request: Request) -> Predictions:
        """What the model says of one or many images; the fields are those of `ens predict --format jsonl`."""
        with service.admitted():
            return Predictions(**await service.predictions(await uploads(request, limits)))

    @app.post("/explain", openapi_extra=_FILES, responses=_PROBLEMS | {501: {"model": Problem}})
    async def explain(request: Request, asked: Annotated[str | None, Query(alias="class")] = None) -> Explanation:
        """Where each member looks in one image (Grad-CAM), for a class, by default the predicted one."""
        with service.admitted():
            files = await uploads(request, limits)
            if len(files) > 1:
                raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "one image at a time is explained")
            return Explanation(**await service.maps(files[0], asked))

    @app.get("/health")
    async def health() -> Health:
        """Whether it answers, and how many requests it is about."""
        return Health(status="ok", run=facts.run, waiting=service.inside)

    @app.get("/model")
    async def model() -> Model:
        """What is known of the model, and what it takes on."""
        return model_facts(facts, limits, service.reading)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(shown.html)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestRefused)
    return JSONResponse({"error": error.message}, error.status, error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"unexpected {type(error).__name__}"}, HTTPStatus.INTERNAL_SERVER_ERROR)


def listening(host: str, port: int) -> socket.socket:
    """A socket at that address; port 0 stands for any that is free. Raises EnsError where it cannot be had."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EnsError(
            f"cannot listen at {one_line(host)} port {port} ({one_line(reason)}); name another --port or --host"
        ) from error


def url(bound: socket.socket) -> str:
    """Where a person finds it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_local(bound: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(bound.getsockname()[0]).is_loopback


def serve(
    app: FastAPI, bound: socket.socket, *, seconds: float, patience: float, started: Callable[[], None]
) -> None:
    """Answer until a signal comes, and finish what was begun within `seconds`.

    patience: seconds that a connection is kept without a request, or for its headers.  started: called when it
    answers. Raises what the signal means: KeyboardInterrupt, or what SIGTERM was bound to.
    """
    # its warnings quote what was sent
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        # the other parser, which uvicorn takes where it is installed, keeps headers without end in memory
        http="h11",
        # whoever sends nonsense would fill the log
        log_level="error",
        # no line of a request, and so no name of an image, gets into a log
        access_log=False,
        log_config=None,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    _Server(config, started, patience).run(sockets=[bound])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None], patience: float) -> None:
        super().__init__(config)
        self.on_start, self.patience = on_start, patience
        self.quiet_since: dict[tuple[Any, Any], float] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and says so."""
        await super().startup(sockets)
        self.on_start()

    async def on_tick(self, counter: int) -> bool:
        """As uvicorn's, ten times a second, and hangs up on who says nothing: uvicorn itself waits for ever."""
        now = time.monotonic()
        connections: set[Any] = set(self.server_state.connections)
        # the last request is told too: after another one the time begins anew
        quiet = [(one, one.cycle) for one in connections if _waits(one)]
        self.quiet_since = {one: self.quiet_since.get(one, now) for one in quiet}
        for (connection, _), since in self.quiet_since.items():
            if now - since > self.patience:
                connection.transport.abort()
        return await super().on_tick(counter)


def _waits(connection: Any) -> bool:
    """Whether a connection has no request, or not all of its headers, that an answer is owed to."""
    return connection.cycle is None or bool(connection.cycle.response_complete)
