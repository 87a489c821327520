"""How many raters one laptop serves: 200 at once against a real server process on loopback, and a
`kill -9` midway.

Every simulated rater opens the page, agrees, and for each trial asks for it, loads its three
pictures and answers, on one connection that stays open, as a browser does. What the database holds
at the end is compared with what was clicked: nothing may be lost, doubled or changed. Three runs,
each on an empty database: as fast as they can (nobody thinks), at a human pace, and with the server
killed and started again midway. Server and simulated raters share the machine. Beside it, the floor
of the disk: one-row commits of bare sqlite3 under the same settings.

Prints JSON; `--database postgresql+psycopg://.../bench...` measures PostgreSQL (its tables there
are dropped).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import secrets
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from common import machine_facts
from PIL import Image

from phosphene.ratings.server.answers import Answers, open_answers
from phosphene.ratings.server.app import create_app
from phosphene.ratings.server.consent import Texts, agreement
from phosphene.ratings.server.serving import serve

ADMIN = "admin"
HASH = "bench"
PICTURES = 60  # 64 x 64 pixels of noise, 12 kB: the largest a PNG of the demo can be


@dataclass
class Study:
    """What the server and the raters of one run know."""

    folder: Path
    url: str
    port: int
    tokens: dict[int, str]
    n_trials: int
    clicked: dict[tuple[int, int], str] = field(default_factory=dict)
    acknowledged: dict[tuple[int, int], str] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"page": [], "trial": [], "picture": [], "answer": []}
    )
    statuses: Counter[int] = field(default_factory=Counter)
    reconnections: int = 0

    def answers(self) -> Answers:
        """The database, read past the server."""
        return open_answers(
            self.url, HASH, pd.read_parquet(self.folder / "trials.parquet"), self.tokens
        )


def make(folder: Path, url: str, n_raters: int, n_trials: int) -> Study:
    """Pictures, trial list and links."""
    rng = np.random.default_rng(0)
    names = [secrets.token_hex(16) for _ in range(PICTURES)]
    (folder / "pictures").mkdir(parents=True)
    for name in names:
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
            folder / "pictures" / f"{name}.png"
        )
    frame = pd.DataFrame(
        {
            "slot": np.repeat(np.arange(n_raters), n_trials),
            "position": np.tile(np.arange(n_trials), n_raters),
        }
    )
    frame = frame.assign(
        kind="trial",
        method="z",
        subject="subj01",
        image="image",
        distractor_image="other",
        correct="left",
    )
    frame = frame.assign(item=0, distractor_item=1, repeat_of=-1)
    for role in ("photo", "left", "right"):
        frame[role] = rng.choice(names, len(frame))
    frame.to_parquet(folder / "trials.parquet")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tokens = {
        slot: hashlib.sha256(f"{folder.name}/{slot}".encode()).hexdigest()[:32]
        for slot in range(n_raters)
    }
    (folder / "tokens.json").write_text(json.dumps(tokens))
    study = Study(folder, url or f"sqlite:///{folder / 'answers.sqlite'}", port, tokens, n_trials)
    if url:
        _empty(url)
    return study


def _empty(url: str) -> None:
    if "bench" not in (sa.make_url(url).database or ""):
        raise SystemExit(
            "--database: tables are dropped; give a database that has 'bench' in its name"
        )
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS consents, answers, raters, meta"))
    engine.dispose()


def run_server(folder: Path, url: str, port: int) -> None:
    """The server process."""
    tokens = {
        int(slot): token for slot, token in json.loads((folder / "tokens.json").read_text()).items()
    }
    answers = open_answers(url, HASH, pd.read_parquet(folder / "trials.parquet"), tokens)
    serve(create_app(answers, folder / "pictures", Texts(), ADMIN, 0), "127.0.0.1", port)


def start(study: Study) -> subprocess.Popen[bytes]:
    """Start the server and wait until it takes connections."""
    command = [sys.executable, __file__, "--serve", str(study.folder), study.url, str(study.port)]
    process = subprocess.Popen(command)
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", study.port), timeout=1).close()
            return process
        except OSError:
            if process.poll() is not None:
                raise SystemExit("the server did not start") from None
            time.sleep(0.1)
    raise SystemExit("the server did not start within a minute")


class Rater:
    """One browser: one connection, requests one after another; comes back when the server is
    gone.
    """

    def __init__(self, study: Study, slot: int) -> None:
        self.study = study
        self.slot = slot
        self.chance = random.Random(slot)
        self.path = f"/r/{study.tokens[slot]}"
        self.streams = None

    async def once(
        self, kind: str, method: str, path: str, body: bytes, content: str
    ) -> tuple[int, bytes]:
        """One request on the connection that is open."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.study.port)
        reader, writer = self.streams
        head = f"{method} {self.path}{path} HTTP/1.1\r\nHost: bench\r\n"
        if method == "POST":
            head += f"Content-Type: {content}\r\nContent-Length: {len(body)}\r\n"
        started = time.perf_counter()
        writer.write(head.encode() + b"\r\n" + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        length = next(int(line[16:]) for line in lines if line.startswith("content-length: "))
        found = await reader.readexactly(length)
        self.study.seconds[kind].append(time.perf_counter() - started)
        status = int(lines[0].split()[1])
        self.study.statuses[status] += 1
        return status, found

    async def ask(
        self, kind: str, method: str, path: str, body: bytes = b"", content: str = ""
    ) -> tuple[int, bytes]:
        """A request, again and again until there is a reply: as the page does."""
        while True:
            try:
                return await self.once(kind, method, path, body, content)
            except (OSError, asyncio.IncompleteReadError):
                self.study.reconnections += 1
                if self.streams is not None:
                    self.streams[1].close()
                self.streams = None
                await asyncio.sleep(self.chance.uniform(0.1, 0.5))

    async def work(self, think: float) -> None:
        """All trials, thinking between half and one and a half times `think` seconds."""
        await asyncio.sleep(self.chance.uniform(0, think))
        await self.ask("page", "GET", "")
        text = agreement(Texts(), self.study.n_trials).sha256
        body = f"agree=yes&text={text}".encode()
        await self.ask("page", "POST", "/consent", body, "application/x-www-form-urlencoded")
        await self.ask("page", "GET", "")
        for position in range(self.study.n_trials):
            status, found = await self.ask("trial", "GET", f"/trial/{position}.json")
            assert status == 200, (status, found)
            trial = json.loads(found)
            for role in ("photo", "left", "right"):
                status, _ = await self.ask("picture", "GET", f"/picture/{trial[role]}")
                assert status == 200, status
            await asyncio.sleep(think * self.chance.uniform(0.5, 1.5))
            choice = self.study.clicked[self.slot, position] = self.chance.choice(["left", "right"])
            fields = {
                "position": position,
                "choice": choice,
                "milliseconds": 1000 * self.chance.random(),
            }
            status, found = await self.ask(
                "answer", "POST", "/answer", json.dumps(fields).encode(), "application/json"
            )
            # 409: stored before the server was killed, but the reply never came
            assert status in (200, 409) and json.loads(found)["next"] == position + 1, (
                status,
                found,
            )
            self.study.acknowledged[self.slot, position] = choice
        self.streams[1].close()


async def everyone(study: Study, think: float, killed: list[Any]) -> None:
    """All raters at once; `killed` holds the process to kill midway, if any, and afterwards what
    was found.
    """
    raters = [asyncio.create_task(Rater(study, slot).work(think)) for slot in study.tokens]
    if killed:
        while len(study.acknowledged) < 0.4 * len(study.tokens) * study.n_trials:
            await asyncio.sleep(0.005)
        killed[0].kill()
        killed[0].wait()
        # what the kernel still delivers of replies sent before the kill is read first: those are
        # acknowledged too
        await asyncio.sleep(1)
        kept = await asyncio.to_thread(_stored, study)
        lost = [key for key, choice in study.acknowledged.items() if kept.get(key) != choice]
        found = [len(study.acknowledged), len(kept), len(lost)]
        killed[:] = [await asyncio.to_thread(start, study), *found]
    await asyncio.gather(*raters)


def _stored(study: Study) -> dict[tuple[int, int], str]:
    answers = study.answers()
    found = answers.export()
    answers.close()
    assert not found.duplicated(["slot", "position"]).any()
    return dict(
        zip(zip(found["slot"], found["position"], strict=True), found["choice"], strict=True)
    )


def run(study: Study, think: float, kill: bool) -> dict[str, Any]:
    """One run; returns its figures."""
    process = start(study)
    killed: list[Any] = [process] if kill else []
    started = time.perf_counter()
    asyncio.run(everyone(study, think, killed))
    wall = time.perf_counter() - started
    process = killed[0] if kill else process
    status = Path(f"/proc/{process.pid}/status").read_text()
    peak = next(
        int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")
    )
    process.terminate()
    process.wait()
    stored = _stored(study)
    clicked = study.clicked
    found: dict[str, Any] = {
        "clicked": len(clicked),
        "lost": len(set(clicked) - set(stored)),
        "never clicked": len(set(stored) - set(clicked)),
        "changed": sum(stored.get(key) != choice for key, choice in clicked.items()),
        "seconds": round(wall, 1),
        "answers per second": round(len(clicked) / wall, 1),
        "replies": dict(study.statuses),
        "requests per second": round(sum(study.statuses.values()) / wall, 1),
        "server peak MiB": round(peak, 1),
        "milliseconds": {kind: _quantiles(seconds) for kind, seconds in study.seconds.items()},
    }
    if kill:
        found |= dict(
            zip(
                ["acknowledged at the kill", "stored at the kill", "of these lost"],
                killed[1:],
                strict=True,
            )
        )
        found["reconnections"] = study.reconnections
    return found


def _quantiles(seconds: list[float]) -> dict[str, float]:
    return {
        name: round(1000 * float(np.quantile(seconds, q)), 1)
        for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


def bare_commits(folder: Path, n: int = 500) -> float:
    """One-row commits per second of sqlite3 alone, in WAL mode with synchronous=FULL, on the same
    disk.
    """
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    for statement in (
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "CREATE TABLE a (x INTEGER)",
    ):
        connection.execute(statement)
    started = time.perf_counter()
    for number in range(n):
        connection.execute("INSERT INTO a VALUES (?)", (number,))
    return round(n / (time.perf_counter() - started), 1)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        return run_server(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raters", type=int, default=200)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument(
        "--think",
        type=float,
        default=2.0,
        help="seconds that a rater looks, on average, in the second run",
    )
    parser.add_argument(
        "--database", default="", help="SQLAlchemy URL; by default SQLite in a temporary folder"
    )
    given = parser.parse_args()
    runs = {
        "as fast as they can": (0.0, False),
        "at a human pace": (given.think, False),
        "killed midway": (0.0, True),
    }
    found: dict[str, Any] = {"raters": given.raters, "trials": given.trials, "think": given.think}
    with tempfile.TemporaryDirectory(prefix="bench-ratings-") as name:
        found["database"] = sa.make_url(given.database or "sqlite://").get_backend_name()
        found["bare sqlite3 commits per second"] = bare_commits(Path(name))
        for number, (title, (think, kill)) in enumerate(runs.items()):
            study = make(Path(name) / str(number), given.database, given.raters, given.trials)
            found[title] = run(study, think, kill)
            print(f"{title}: {json.dumps(found[title])}", file=sys.stderr)
    found["machine"] = machine_facts("starlette", "uvicorn", "sqlalchemy")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
