"""A small study for the tests of its pages: pictures, a trial list made by hand, and links."""

from __future__ import annotations

import re
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from urllib.parse import SplitResult

import numpy as np
import pandas as pd
from httpx import Response
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.testclient import TestClient

from phosphene.ratings.server.answers import Answers, open_answers
from phosphene.ratings.server.serving import listen, server

ADMIN = "admin-token-of-the-tests-0123456789"
HASH = "3f9c2a77d01b"
METHODS = ("z", "c", "zc")


@dataclass
class Example:
    """A study with its links; `answers` is open on `url`."""

    trials: pd.DataFrame
    tokens: dict[int, str]
    pictures: Path
    url: str
    answers: Answers

    def reopened(self) -> Answers:
        """The same database opened once more, as after a restart."""
        return open_answers(self.url, HASH, self.trials, self.tokens)

    def shown(self, slot: int) -> pd.DataFrame:
        """The trials of one rater, indexed by position."""
        return self.trials[self.trials["slot"] == slot].set_index("position")


def example(
    folder: Path, n_slots: int = 3, n_trials: int = 12, url: str = "", side: int = 64
) -> Example:
    """Make a study of `n_trials` per rater; the last of every rater repeats the first, position 2
    is a catch trial.
    """
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    rng = np.random.default_rng(7)
    shape = {
        name: [_picture(pictures, item, name, side) for item in range(n_trials)]
        for name in ("photo", *METHODS)
    }
    rows = []
    for slot in range(n_slots):
        for position in range(n_trials):
            kind = "catch" if position == 2 else "repeat" if position == n_trials - 1 else "trial"
            item = 0 if kind == "repeat" else position
            other = (item + 1 + slot) % n_trials
            method = "catch" if kind == "catch" else METHODS[item % 3]
            made = shape["photo" if kind == "catch" else method]
            correct = ("left", "right")[int(rng.integers(2))]
            own = made[item]
            foreign = made[other]
            rows.append(
                {
                    "slot": slot,
                    "position": position,
                    "kind": kind,
                    "method": method,
                    "subject": "subj01",
                    "item": item,
                    "image": f"image{item}",
                    "distractor_item": other,
                    "distractor_image": f"image{other}",
                    "repeat_of": 0 if kind == "repeat" else -1,
                    "photo": shape["photo"][item],
                    "left": own if correct == "left" else foreign,
                    "right": own if correct == "right" else foreign,
                    "correct": correct,
                }
            )
    trials = pd.DataFrame(rows)
    tokens = {slot: secrets.token_urlsafe(24) for slot in range(n_slots)}
    url = url or f"sqlite:///{folder / 'answers.sqlite'}"
    return Example(trials, tokens, pictures, url, open_answers(url, HASH, trials, tokens))


def _picture(folder: Path, item: int, name: str, side: int) -> str:
    """Draw a thing on a ground, the better the later the method; returns the picture's id."""
    rng = np.random.default_rng([item, len(name), ord(name[0])])
    ground, thing = [
        tuple(int(v) for v in np.random.default_rng([item, k]).integers(40, 216, 3))
        for k in range(2)
    ]
    image = Image.new("RGB", (side, side), ground)
    low, high = sorted(
        int(v) for v in np.random.default_rng([item, 9]).integers(side // 8, side * 7 // 8, 2)
    )
    draw = ImageDraw.Draw(image)
    (draw.ellipse if item % 2 else draw.rectangle)(
        (low, low // 2 + 4, high + 12, high + 6), fill=thing
    )
    noise = {"photo": 4, "z": 50, "c": 30, "zc": 15}[name]
    pixels = np.asarray(image, dtype=float) + rng.normal(0, noise, (side, side, 3))
    identity = secrets.token_hex(16)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{identity}.png")
    return identity


class Clock:
    """The clock of the database of answers, in place of :class:`datetime.datetime`."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self, _: tzinfo) -> datetime:
        """The time that the test has set."""
        return self.at

    def wait(self, milliseconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(milliseconds=milliseconds)


def agree(client: TestClient, path: str) -> Response:
    """Open a rater's page and press its button."""
    text = re.search(r'name="text" value="([0-9a-f]{64})"', client.get(path).text)
    assert text is not None
    return client.post(f"{path}/consent", data={"agree": "yes", "text": text[1]})


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serve an app from a thread of this process; yields its address."""
    listening = listen("127.0.0.1", 0)
    running = server(app)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(20)
        listening.close()


def raw(address: SplitResult, request: bytes) -> bytes:
    """Send bytes as they are."""
    with socket.create_connection((address.hostname, address.port), timeout=10) as sock:
        sock.sendall(request)
        found = b""
        while chunk := sock.recv(65536):
            found += chunk
        return found
