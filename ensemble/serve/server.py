"""The service in a process of its own: its address, its signals, its end."""

from __future__ import annotations

import ipaddress
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI

from ensemble.errors import EnsError, one_line


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
