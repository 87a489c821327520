"""Run the web app with uvicorn until a signal comes."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from phosphene.errors import PhospheneError

GRACE = 10  # seconds that requests under way have when the server stops


def serve(app: Starlette, host: str, port: int, ready: Callable[[str], None] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM; requests under way are finished first.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    ready
        Called once with the address, such as ``http://127.0.0.1:8000``, as soon as connections are
        taken. Nothing is printed here, and requests are not logged: their addresses are the raters'
        keys.
    """
    listening = listen(host, port)
    if ready is not None:
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listening.getsockname()[1]}")
    with listening:
        try:
            server(app).run(sockets=[listening])
        except KeyboardInterrupt:  # how uvicorn passes on Ctrl-C when all is done
            pass


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections, or one sentence why not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, port), family=family, backlog=2048)
        # connections inherit it; without it the second half of a reply waits 40 ms for the client's
        # acknowledgement
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found
    except (OSError, OverflowError) as error:
        raise PhospheneError(
            f"{host}:{port}: cannot be listened on ({error}); choose another port or host"
        ) from None


def server(app: Starlette) -> uvicorn.Server:
    """A server without access log, server name, web sockets or trust in forwarded addresses."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        backlog=2048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)
