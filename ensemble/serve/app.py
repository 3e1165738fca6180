"""The HTTP service: its endpoints, security headers, web page and server process."""

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

from ensemble.core import __version__
from ensemble.core.errors import EnsError, one_line
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
    """Security headers: no-store, no framing, no MIME sniffing, same-origin. policy: Content-Security-Policy."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self.app, self.headers = app, HEADERS | {"Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to the response of a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)


@dataclass(frozen=True)
class Page:
    """policy: its Content-Security-Policy, which allows its style and its script by their hashes."""

    html: str
    policy: str


def page(facts: Facts, limits: Limits) -> Page:
    """The web page of a model."""
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
    texts = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts)
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
    """The service of one model. hosts: the accepted values of the Host header, `*` for any."""
    service = Service(predictor, limits)
    web_page = page(predictor.facts, limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # the default documentation pages load scripts from other sites
    app = FastAPI(
        title=f"ens serve {predictor.facts.run}",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(SecureHeaders, policy=web_page.policy)
    app.add_exception_handler(RequestRefused, _refused)
    app.add_exception_handler(Exception, _unexpected)
    _add_endpoints(app, service, web_page)
    return app


def _add_endpoints(app: FastAPI, service: Service, web_page: Page) -> None:
    facts, limits = service.predictor.facts, service.limits

    @app.post("/predict", openapi_extra=_FILES, responses=_PROBLEMS)
    async def predict(request: Request) -> Predictions:
        """What the model says of one or many images; the fields are those of `ens predict --format jsonl`."""
        with service.admitted():
            return Predictions(**await service.predictions(await uploads(request, limits)))

    @app.post("/explain", openapi_extra=_FILES, responses=_PROBLEMS | {501: {"model": Problem}})
    async def explain(
        request: Request, class_name: Annotated[str | None, Query(alias="class")] = None
    ) -> Explanation:
        """Where each member looks in one image (Grad-CAM), for a class, by default the predicted one."""
        with service.admitted():
            files = await uploads(request, limits)
            if len(files) > 1:
                raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "one image at a time is explained")
            return Explanation(**await service.maps(files[0], class_name))

    @app.get("/health")
    async def health() -> Health:
        """Whether it answers, and how many requests it is about."""
        return Health(status="ok", run=facts.run, waiting=service.active_requests)

    @app.get("/model")
    async def model() -> Model:
        """What is known of the model, and what it takes on."""
        return model_facts(facts, limits, service.reading)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(web_page.html)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestRefused)
    return JSONResponse({"error": error.message}, error.status, error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"unexpected {type(error).__name__}"}, HTTPStatus.INTERNAL_SERVER_ERROR)


def listening_socket(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 selects any free port. Raises EnsError where the address is not available."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EnsError(
            f"cannot listen at {one_line(host)} port {port} ({one_line(reason)}); name another --port or --host"
        ) from error


def url(server_socket: socket.socket) -> str:
    """The URL of the service."""
    host, port = server_socket.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_local(server_socket: socket.socket) -> bool:
    """Whether the socket is reachable from this machine only."""
    return ipaddress.ip_address(server_socket.getsockname()[0]).is_loopback


def serve(
    app: FastAPI,
    server_socket: socket.socket,
    *,
    shutdown_timeout: float,
    idle_timeout: float,
    on_start: Callable[[], None],
) -> None:
    """Serve until a signal arrives, then finish pending requests within `shutdown_timeout` seconds.

    idle_timeout: seconds after which a connection without a complete request header is closed.  on_start: called
    when requests are accepted. Raises KeyboardInterrupt, or the exception of the handler of SIGTERM.
    """
    # its warnings quote the content of requests
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        # httptools, uvicorn's choice where it is installed, buffers headers of unlimited size in memory
        http="h11",
        # invalid requests would fill the log
        log_level="error",
        # request lines, which may contain the names of images, are not logged
        access_log=False,
        log_config=None,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(shutdown_timeout) + 1,
    )
    _Server(config, on_start, idle_timeout).run(sockets=[server_socket])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None], idle_timeout: float) -> None:
        super().__init__(config)
        self.on_start, self.idle_timeout = on_start, idle_timeout
        self.idle_since: dict[tuple[Any, Any], float] = {}

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Like uvicorn's, then calls `on_start`."""
        await super().startup(sockets)
        self.on_start()

    async def on_tick(self, counter: int) -> bool:
        """Like uvicorn's, ten times a second; also closes idle connections, for which uvicorn has no time limit."""
        now = time.monotonic()
        connections: set[Any] = set(self.server_state.connections)
        # the key includes the last request, so that the time starts again after the next one
        idle = [(connection, connection.cycle) for connection in connections if _is_idle(connection)]
        self.idle_since = {key: self.idle_since.get(key, now) for key in idle}
        for (connection, _), since in self.idle_since.items():
            if now - since > self.idle_timeout:
                connection.transport.abort()
        return await super().on_tick(counter)


def _is_idle(connection: Any) -> bool:
    """Whether a connection has no request with complete headers that is still to be answered."""
    return connection.cycle is None or bool(connection.cycle.response_complete)
