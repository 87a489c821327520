"""The web page of the human study: consent, instructions, trials, thanks; and progress for who runs
it.

Everything is behind tokens in the address; there are no cookies, no accounts and no other routes.
Names that come from outside are looked up in what is known and never become paths. The page's
script gets random picture ids, each for one picture of one trial, and neither method nor answer;
all pictures have one format and one length in bytes. Server state alone decides what is next: a
page that is reloaded, left, opened twice or gone back to goes on where the answers end.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from phosphene.errors import PhospheneError
from phosphene.ratings.server.answers import Answers
from phosphene.ratings.server.consent import Texts, agreement
from phosphene.ratings.server.schema import AlreadyAnswered, Invalid, NotYet, Rater
from phosphene.ratings.server.shield import Shield

# of a request's body
MOST_BYTES = 2048  # an answer has some 70
MOST_SECONDS = 10
ASSETS = (
    "rate.css",
    "rate.js",
    "icon.svg",
    "example-photo.svg",
    "example-likeness.svg",
    "example-other.svg",
)
ASSET_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PICTURE_KINDS = {".png": "image/png", ".jpg": "image/jpeg"}
# Nothing stays in the browser, and no proxy may recompress pictures: their lengths would differ
# again
PICTURE_HEADERS = {"Cache-Control": "no-store, no-transform"}
WORDS = {  # what a page that is no page says
    404: (
        "Nothing here",
        "This address leads nowhere. Please use your personal link exactly as you got it.",
    ),
    405: ("Not like this", "This address does not take that kind of request."),
    503: (
        "One moment",
        "The study cannot be reached just now. Your answers are kept; please try again in a "
        "minute.",
    ),
}


def create_app(
    answers: Answers, pictures_folder: str | Path, texts: Texts, admin_token: str, break_every: int
) -> Starlette:
    """Build the web app of one trial list.

    Parameters
    ----------
    pictures_folder
        Holds the files of the trial list's pictures
        (:func:`phosphene.ratings.trials.design.pictures`), all PNG or all JPEG.
    admin_token
        The secret part of the address of the progress page.
    break_every
        Trials between breaks; 0 for none.
    """
    pictures = _find_pictures(Path(pictures_folder), answers.picture_files)
    pages = _Pages(answers, pictures, texts, admin_token, break_every)
    routes = [
        Route("/r/{token}", pages.study, methods=["GET"]),
        Route("/r/{token}/consent", pages.consent, methods=["POST"]),
        Route("/r/{token}/trial/{position}.json", pages.trial, methods=["GET"]),
        Route("/r/{token}/picture/{id}", pages.picture, methods=["GET"]),
        Route("/r/{token}/answer", pages.answer, methods=["POST"]),
        Route("/a/{admin}", pages.progress, methods=["GET"]),
        Route("/a/{admin}/answers.csv", pages.table, methods=["GET"]),
        Route("/assets/{name}", pages.asset, methods=["GET"]),
    ]
    handlers: dict[Any, Any] = {HTTPException: pages.refusal}
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Shield, unreachable=WORDS[503][1])],
        exception_handlers=handlers,
    )
    # a redirect would repeat the Host header that a stranger sent
    app.router.redirect_slashes = False
    return app


def _find_pictures(folder: Path, names: dict[str, str]) -> dict[str, Path]:
    """Paths of picture ids; later requests are looked up here, so that no address becomes a
    path.
    """
    listed = (
        [path for path in folder.iterdir() if path.suffix in PICTURE_KINDS]
        if folder.is_dir()
        else []
    )
    known = {path.stem: path for path in listed}
    needed = set(names.values())
    if missing := sorted(needed - set(known)):
        raise PhospheneError(
            f"{folder}: {len(missing)} of the {len(needed)} pictures of the trial list are "
            "missing, such as "
            f"{missing[0]}; make the trial list anew"
        )
    if len(endings := sorted({known[name].suffix for name in needed})) > 1:
        raise PhospheneError(
            f"{folder}: pictures of several formats ({', '.join(endings)}); expected one format."
        )
    return {identity: known[name] for identity, name in names.items()}


def padded(data: bytes, length: int, identity: str) -> bytes:
    """A picture file of a given length: decoders ignore bytes behind the picture, and these cannot
    be compressed.
    """
    return data + hashlib.shake_256(identity.encode()).digest(length - len(data))


class _Pages:
    """The endpoints; what they share are the settings of :func:`create_app`."""

    def __init__(
        self,
        answers: Answers,
        pictures: dict[str, Path],
        texts: Texts,
        admin_token: str,
        break_every: int,
    ) -> None:
        self._answers = answers
        self._pictures = pictures
        self._texts = texts
        self._break_every = break_every
        self._length = max(path.stat().st_size for path in set(pictures.values()))
        self._admin = hashlib.sha256(admin_token.encode()).digest()
        folder = files("phosphene.ratings.server") / "templates"
        self._assets = {name: (folder / name).read_bytes() for name in ASSETS}
        self._templates = Environment(
            loader=PackageLoader("phosphene.ratings.server"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def _page(self, request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
        # addresses are relative, so that the study may lie in a folder behind a proxy
        up = "../" * (request.url.path.count("/") - 1)
        text = self._templates.get_template(name).render(texts=self._texts, up=up, **values)
        return HTMLResponse(text, status)

    async def _rater(self, request: Request) -> Rater:
        rater = await run_in_threadpool(self._answers.rater, request.path_params["token"])
        if rater is None:
            raise HTTPException(404)
        return rater

    def _has_agreed(self, rater: Rater) -> bool:
        """Whether a rater agreed to the text of today."""
        return rater.consented and rater.agreed_to == agreement(self._texts, rater.total).sha256

    # For raters

    async def study(self, request: Request) -> Response:
        """The page of a rater, by how far they are."""
        rater = await self._rater(request)
        if request.method == "GET":
            await run_in_threadpool(self._answers.opened, rater)
        values: dict[str, Any] = {"rater": rater, "token": request.path_params["token"]}
        if not self._has_agreed(rater):
            text = agreement(self._texts, rater.total)
            return self._page(request, "consent.html", agreement=text, **values)
        if not rater.finished:
            return self._page(request, "trials.html", break_every=self._break_every, **values)
        summary = await run_in_threadpool(self._answers.summary, rater)
        return self._page(request, "thanks.html", summary=summary, **values)

    async def consent(self, request: Request) -> Response:
        """The button of the consent page."""
        rater = await self._rater(request)
        fields = parse_qs(
            (await _body(request, "application/x-www-form-urlencoded")).decode("utf-8", "replace")
        )
        if set(fields) != {"agree", "text"} or fields["agree"] != ["yes"]:
            raise HTTPException(422, "expected agree=yes and the hash of the text")
        shown = agreement(self._texts, rater.total)
        # else the text has changed since the page was opened, and is shown once more
        if fields["text"] == [shown.sha256]:
            await run_in_threadpool(self._answers.consent, rater, shown.text)
        return RedirectResponse(f"../{request.path_params['token']}", 303)

    async def trial(self, request: Request) -> Response:
        """Picture ids of the next trial, or of the one after it, which the page loads ahead."""
        rater = await self._rater(request)
        text = request.path_params["position"]
        if not (text.isascii() and text.isdigit() and len(text) < 8 and int(text) < rater.total):
            raise HTTPException(404)
        if not self._has_agreed(rater) or not rater.answered <= int(text) <= rater.answered + 1:
            return _conflict("this trial is not the next one", rater.answered)
        return JSONResponse(self._answers.trial(rater, int(text)))

    async def picture(self, request: Request) -> Response:
        """A picture of a trial that the rater saw or sees next."""
        rater = await self._rater(request)
        name = request.path_params["id"]
        if not self._has_agreed(rater) or name not in self._answers.pictures(rater):
            raise HTTPException(404)
        path = self._pictures[name]
        data = await run_in_threadpool(lambda: padded(path.read_bytes(), self._length, name))
        return Response(data, media_type=PICTURE_KINDS[path.suffix], headers=PICTURE_HEADERS)

    async def answer(self, request: Request) -> Response:
        """Store an answer; 200 says that it is on disk."""
        rater = await self._rater(request)
        fields = _parsed(await _body(request, "application/json"))
        if not self._has_agreed(rater):
            return _conflict("consent is missing", rater.answered)
        try:
            await run_in_threadpool(self._answers.answer, rater, **fields)
        except Invalid as refused:
            raise HTTPException(422, str(refused)) from None
        except (AlreadyAnswered, NotYet) as refused:
            return _conflict(
                str(refused), await run_in_threadpool(self._answers.next_position, rater)
            )
        return JSONResponse({"next": fields["position"] + 1})

    # For who runs the study

    def _check_admin(self, request: Request) -> None:
        given = request.path_params["admin"].encode("utf-8", "replace")
        if not hmac.compare_digest(hashlib.sha256(given).digest(), self._admin):
            raise HTTPException(404)

    async def progress(self, request: Request) -> Response:
        """How far everyone is."""
        self._check_admin(request)
        table = (await run_in_threadpool(self._answers.progress)).astype(object)
        raters = table.where(table.notna(), None).to_dict("records")
        values = {"raters": raters, "token": request.path_params["admin"], "now": datetime.now(UTC)}
        return self._page(request, "progress.html", **values)

    async def table(self, request: Request) -> Response:
        """All answers as CSV."""
        self._check_admin(request)
        text = await run_in_threadpool(lambda: self._answers.export().to_csv(index=False))
        headers = {"Content-Disposition": 'attachment; filename="answers.csv"'}
        return Response(text, media_type="text/csv", headers=headers)

    # For everyone

    async def asset(self, request: Request) -> Response:
        """Style, script and drawings: files by fixed names, read when the app was made."""
        name = request.path_params["name"]
        if name not in self._assets:
            raise HTTPException(404)
        return Response(self._assets[name], media_type=ASSET_KINDS[Path(name).suffix])

    async def refusal(self, request: Request, error: Exception) -> Response:
        """A request that is not served: a page for people, JSON for the script."""
        assert isinstance(error, HTTPException)
        if error.status_code in WORDS:
            title, said = WORDS[error.status_code]
            response: Response = self._page(
                request, "refusal.html", error.status_code, title=title, said=said
            )
        else:
            response = JSONResponse({"error": error.detail}, error.status_code)
        response.headers.update(error.headers or {})
        return response


def _conflict(said: str, position: int) -> JSONResponse:
    return JSONResponse({"error": said, "next": position}, 409)


async def _body(request: Request, kind: str) -> bytes:
    """The body of a small request of one media type."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != kind:
        raise HTTPException(415, f"expected {kind}")
    body = b""
    with anyio.move_on_after(MOST_SECONDS) as waiting:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MOST_BYTES:
                raise HTTPException(413, f"more than {MOST_BYTES} bytes")
    if waiting.cancelled_caught:
        raise HTTPException(408, "the request did not arrive")
    return body


def _parsed(body: bytes) -> dict[str, Any]:
    """The three fields of an answer."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(422, "expected JSON") from None
    if not isinstance(fields, dict) or set(fields) != {"position", "choice", "milliseconds"}:
        raise HTTPException(422, "expected position, choice and milliseconds")
    return fields
