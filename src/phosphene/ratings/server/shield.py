"""What every response carries, and what becomes of errors: nothing of the inside reaches a browser
or a log.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from sqlalchemy.exc import DBAPIError, TimeoutError
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phosphene.ratings.server.schema import DatabaseReplaced

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the address is the key
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
    "Cache-Control": "no-store",  # unless a response says otherwise
}
_log = logging.getLogger(__name__)


class Shield:
    """ASGI middleware around everything: secure headers on every response, one line in the log for
    an error.
    """

    def __init__(self, app: ASGIApp, unreachable: str) -> None:
        self._app = app
        self._unreachable = unreachable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            pass  # nobody is there to be told
        except Exception as error:
            replaced = isinstance(error, DatabaseReplaced)
            _log.error("a request failed: %s", error if replaced else _where(error))
            if not begun:
                absent = replaced or isinstance(error, DBAPIError | TimeoutError)
                said = (
                    self._unreachable
                    if absent
                    else "Something went wrong here; your answers are kept."
                )
                response = JSONResponse(
                    {"error": said},
                    503 if absent else 500,
                    {"Retry-After": "5"} if absent else None,
                )
                await response(scope, receive, sending)


def _where(error: Exception) -> str:
    """Kind and place of an error; its words are left out, because they may hold what a rater
    sent.
    """
    frames = traceback.extract_tb(error.__traceback__)
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in frames
        if "phosphene" in frame.filename
    ]
    kind = type(getattr(error, "orig", None) or error).__name__
    return f"{kind} at {places[-1] if places else 'unknown'}"
