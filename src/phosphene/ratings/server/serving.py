"""Run the web app with uvicorn until a signal comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from phosphene.errors import PhospheneError

GRACE = 10  # seconds that requests under way have when the server stops
# Seconds from a new connection, or the first byte of a request, to the end of the request's head
HEAD_SECONDS = 10.0
REQUEST_SECONDS = 60.0  # from there to the last byte of the reply
# A process may usually open 1,024 files. Beyond this many connections the one whose head is late
# longest is closed,
MOST_CONNECTIONS = 800
# and beyond this many requests get 503, upon which the page tries again.
MOST_REQUESTS = 850
BACKLOG = 64  # connections accepted at once, before any of them can be closed


class TimedProtocol(H11Protocol):
    """HTTP/1.1 that closes connections of clients which send or read too slowly.

    uvicorn itself waits without end for a head that never ends and for a client that reads nothing.
    """

    _deadline: asyncio.TimerHandle | None = None
    _replying = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self._close_slowest()
        self._limit(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Start the time of a head with its first bytes, that of the reply when the head is
        complete; further bytes do not start it again.
        """
        super().data_received(data)
        replying = self.cycle is not None and not self.cycle.response_complete
        if replying != self._replying or self._deadline is None:
            self._replying = replying
            self._limit(REQUEST_SECONDS if replying else HEAD_SECONDS)

    def on_response_complete(self) -> None:
        """Leave an idle connection to uvicorn's own limit."""
        self._stop()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._stop()
        super().connection_lost(exc)

    def _close_slowest(self) -> None:
        """Close the connection that has waited longest for its head."""
        deadlines = {
            other._deadline.when(): other
            for other in self.connections
            if isinstance(other, TimedProtocol) and other._deadline and not other._replying
        }
        if deadlines:
            slowest = deadlines[min(deadlines)]
            slowest._stop()  # it is among the connections until the loop has closed it
            slowest.transport.abort()

    def _limit(self, seconds: float) -> None:
        self._stop_timer()
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _stop(self) -> None:
        self._stop_timer()
        self._replying = False

    def _stop_timer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None


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
        http=TimedProtocol,
        limit_concurrency=MOST_REQUESTS,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)
