"""The service in a process of its own: its address, its signals, its end."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

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


def serve(app: FastAPI, bound: socket.socket, *, seconds: float, started: Callable[[], None]) -> None:
    """Answer until a signal comes, and finish what was begun within `seconds`.

    started: called when it answers. Raises what the signal means: KeyboardInterrupt, or what SIGTERM was bound to.
    """
    config = uvicorn.Config(
        app,
        # no line of a request, and so no name of an image, gets into a log
        access_log=False,
        log_config=None,
        lifespan="on",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=int(seconds) + 1,
    )
    _Server(config, started).run(sockets=[bound])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self.on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and says so."""
        await super().startup(sockets)
        self.on_start()
