"""Security of the human study: slow clients, implausible times, and files that open everything."""

from __future__ import annotations

import re
import socket
import stat
import time
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from typer.testing import CliRunner

from phosphene.cli.app import app as command_line
from phosphene.errors import PhospheneError
from phosphene.pipeline.recipe import Recipe
from phosphene.pipeline.store import Store
from phosphene.ratings.analysis import exclusions, kept
from phosphene.ratings.power import crossing, simulate
from phosphene.ratings.server import serving
from phosphene.ratings.server.answers import open_answers
from phosphene.ratings.server.app import Texts, create_app
from phosphene.steps.ratings import Ratings
from support.ratings_example import ADMIN, HASH, Clock, agree, example, raw, served

HALF = b"GET /assets/icon.svg HTTP/1.1\r\nHost: x\r\nX-Slow: "
WHOLE = b"GET /assets/icon.svg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
RULES = {"least_catch": 0.8, "least_seconds": 0.3, "most_fast": 0.1}


@pytest.fixture
def study(tmp_path):
    made = example(tmp_path)
    yield made
    made.answers.close()


@pytest.fixture
def app(study):
    return create_app(study.answers, study.pictures, Texts(), ADMIN, 5)


def seconds_until_closed(sock: socket.socket, drip: bytes = b"") -> float:
    started = time.monotonic()
    sock.settimeout(0.1)
    while time.monotonic() - started < 8:
        try:
            if drip:
                sock.sendall(drip)
            if not sock.recv(4096):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - started


# A6


def test_a6_heads_that_never_end_are_cut_off(app, monkeypatch):
    monkeypatch.setattr(serving, "HEAD_SECONDS", 0.6)
    with served(app) as at:
        address = urlsplit(at)
        place = (address.hostname, address.port)
        half_sent = [socket.create_connection(place, timeout=5) for _ in range(50)]
        for sock in half_sent[:25]:
            sock.sendall(HALF)
        dripping = socket.create_connection(place, timeout=5)
        dripping.sendall(HALF)
        assert 0.3 < seconds_until_closed(dripping, b"a") < 3
        assert all(seconds_until_closed(sock) < 3 for sock in half_sent)
        assert b" 200 " in raw(address, WHOLE)
        kept_open = socket.create_connection(place, timeout=5)
        kept_open.sendall(WHOLE.replace(b"close", b"keep-alive"))
        time.sleep(1.2)  # an idle connection has no head that could be late
        kept_open.recv(65536)
        kept_open.sendall(WHOLE)
        assert b" 200 " in kept_open.recv(65536)
        for sock in (*half_sent, dripping, kept_open):
            sock.close()
    assert serving.HEAD_SECONDS == 0.6


def test_a6_clients_that_read_nothing_are_cut_off(monkeypatch):
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 0.5)
    finished = []

    async def large(request):
        return Response(b"x" * 60_000_000)

    async def note(scope, receive, send):
        await Starlette(routes=[Route("/large", large)])(scope, receive, send)
        finished.append(scope["path"])

    with served(note) as at:
        address = urlsplit(at)
        with socket.create_connection((address.hostname, address.port), timeout=5) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            time.sleep(1.5)
            assert finished == ["/large"]  # it no longer waits for the client


def test_a6_new_connections_displace_those_that_send_nothing(app, monkeypatch):
    monkeypatch.setattr(serving, "MOST_CONNECTIONS", 10)
    with served(app) as at:
        address = urlsplit(at)
        place = (address.hostname, address.port)
        half_sent = [socket.create_connection(place, timeout=5) for _ in range(40)]
        for sock in half_sent:
            sock.sendall(HALF)
        assert b" 200 " in raw(address, WHOLE)
        assert seconds_until_closed(half_sent[0]) < 2
        for sock in half_sent:
            sock.close()


def test_a6_too_many_connections_get_503(app, monkeypatch):
    monkeypatch.setattr(serving, "MOST_REQUESTS", 6)
    with served(app) as at:
        address = urlsplit(at)
        place = (address.hostname, address.port)
        others = [socket.create_connection(place, timeout=5) for _ in range(6)]
        time.sleep(0.2)
        assert b" 503 " in raw(address, WHOLE)
        for sock in others:
            sock.close()
        time.sleep(0.2)
        assert b" 200 " in raw(address, WHOLE)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "127.0.0.1", "::1"])
def test_a6_a_server_for_the_network_warns(tmp_path, monkeypatch, recwarn, host):
    (tmp_path / "study.toml").write_text('name = "s"\n[data]\nroot = "data"\n')
    monkeypatch.setattr("phosphene.steps.ratings.serve", lambda *_: None)
    done = CliRunner().invoke(
        command_line, ["rate", "serve", str(tmp_path / "study.toml"), "--host", host]
    )
    assert done.exit_code == 0, done.output
    texts = [str(warning.message) for warning in recwarn]
    expected = [] if host in ("127.0.0.1", "::1") else [f"--host {host}: everyone on the network"]
    assert [text[: len(f"--host {host}: everyone on the network")] for text in texts] == expected


# A10


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2@word@127.0.0.1:1/none",
        "postgresql+psycopg://me:p@hunter2:x@127.0.0.1/none",
        "postgresql+psycopg://me:secret@127.0.0.1:hunter2/none",
        "oddbase://me:hunter2@here/none",
        "postgresql+psycopg://me@127.0.0.1:1/none?password=hunter2&sslpassword=hunter2",
        "hunter2",
    ],
)
def test_a10_a_password_in_a_bad_address_is_not_printed(study, url):
    with pytest.raises(PhospheneError, match="rate.database") as error:
        open_answers(url, HASH, study.trials, study.tokens)
    assert "hunter2" not in str(error.value) and "\n" not in str(error.value)
    assert error.value.__context__ is None or error.value.__suppress_context__


def test_a10_a_database_of_ones_own_is_private(study, tmp_path):
    path = tmp_path / "answers.sqlite"
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("answers.sqlite*")} == {
        0o600
    }
    study.answers.close()
    path.chmod(0o644)
    with pytest.warns(UserWarning, match="others on this machine may read or change the answers"):
        study.reopened().close()


def test_a10_the_answer_key_is_private(tmp_path):
    assert Ratings.private
    artefact = Store(tmp_path).artefact(Recipe("ratings", "s", 1, {}, {}), Ratings.private)
    for index in artefact.missing(1):
        with artefact.part(index) as part:
            part.table("trials", pd.DataFrame({"correct": ["left"]}))
            part.file("pictures/a.png", b"x")
    artefact.finish()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3 and {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


# A12


def test_a12_times_longer_than_the_session_are_implausible(study, app, monkeypatch):
    """A robot's answers, claimed to have taken 1.5 s each, come 50 ms after one another."""
    clock = Clock()
    monkeypatch.setattr("phosphene.ratings.server.answers.datetime", clock)
    client = TestClient(app, follow_redirects=False)
    for slot, wait in ((0, 50), (1, 1900)):
        path = f"/r/{study.tokens[slot]}"
        agree(client, path)
        for position, row in study.shown(slot).iterrows():
            clock.wait(wait)
            fields = {"position": position, "choice": row["correct"], "milliseconds": 1500}
            assert client.post(f"{path}/answer", json=fields).status_code == 200
    answers = study.answers.export()
    assert answers.groupby("rater")["elapsed"].unique().map(list).tolist() == [[50.0], [1900.0]]
    table = exclusions(answers, **RULES).set_index("rater")
    assert table["excluded"].tolist() == [True, False]
    assert table["implausible"].tolist() == [1.0, 0.0]
    assert table.loc["rater00", "reason"] == (
        "12 of 12 answers under 0.3 s or claiming more time than passed on the server (12), more "
        "than 10 %"
    )
    assert set(kept(answers, table.reset_index())["rater"]) == {"rater01"}


def test_a12_clocks_of_low_resolution_and_lost_times_are_plausible():
    trials = crossing(3, 25, ["z", "c"])
    answers = simulate(trials, 0.8, np.random.default_rng(0))
    coarse = answers.assign(milliseconds=answers["elapsed"] + 99)
    assert exclusions(coarse, **RULES)["implausible"].eq(0).all()
    table = exclusions(answers.drop(columns="elapsed"), **RULES)
    assert table["implausible"].isna().all() and not table["excluded"].any()
    # one step of the server's clock excludes nobody
    answers.loc[3, "elapsed"] = 0.0
    table = exclusions(answers, **RULES)
    assert table["implausible"].iloc[0] == pytest.approx(1 / 50) and not table["excluded"].any()


def test_a10_links_are_printed_only_on_request(monkeypatch, tmp_path):
    (tmp_path / "study.toml").write_text('name = "s"\n[data]\nroot = "data"\n')
    links = {"rater00": "http://x/r/key", "admin": "http://x/a/key"}
    monkeypatch.setattr("phosphene.steps.ratings.serve", lambda *words: words[-1](links))
    monkeypatch.setattr("phosphene.steps.ratings.links_file", lambda _: tmp_path / "links.csv")
    monkeypatch.setattr("phosphene.steps.ratings.admin_file", lambda _: tmp_path / "admin.csv")

    def serve(*words):
        command = ["rate", "serve", str(tmp_path / "study.toml"), *words]
        return CliRunner().invoke(command_line, command).output

    for words in ((), ("--json",)):
        assert "key" not in serve(*words)
        assert str(tmp_path / "links.csv") in serve(*words)
        assert str(tmp_path / "admin.csv") in serve(*words)
    for words in (("--show-links",), ("--json", "--show-links")):
        assert re.findall("http://x/./key", serve(*words)) == list(links.values())
