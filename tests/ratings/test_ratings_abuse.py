"""Hostile requests to the web app: refused with the right code, nothing stored, no traceback,
nothing of the disk.
"""

from __future__ import annotations

import json
import socket
import string
import time
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from phosphene.ratings.server.app import Texts, create_app
from support.ratings_example import ADMIN, agree, example, raw, served

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


@pytest.fixture
def study(tmp_path):
    made = example(tmp_path)
    yield made
    made.answers.close()


@pytest.fixture
def app(study):
    return create_app(
        study.answers, study.pictures, Texts("Alike?", "lab@example.org"), ADMIN, break_every=5
    )


@pytest.fixture
def client(app):
    return TestClient(app, follow_redirects=False)


def answered(study):
    return len(study.answers.export())


# Fuzzing

PIECES = st.one_of(
    st.sampled_from(
        [
            "r",
            "a",
            "assets",
            "answer",
            "consent",
            "trial",
            "picture",
            "0.json",
            "rate.css",
            "..",
            ".",
            "%2e%2e",
            "..%2f..",
            "%00",
            "answers.csv",
            "TOKEN",
            "OTHER",
            "ADMIN",
            "PICTURE",
            "%c0%ae",
            "",
        ]
    ),
    st.text(max_size=12).map(lambda text: quote(text, safe="")),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["left", "right"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
BODIES = st.one_of(
    st.binary(max_size=3000),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries({"position": VALUES, "choice": VALUES, "milliseconds": VALUES}).map(
        lambda value: json.dumps(value).encode()
    ),
)
KINDS = st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "",
        "multipart/form-data",
    ]
)


@pytest.fixture
def fuzzed(study, client):
    """Ask anything; only a whole, well-formed answer to trial 0 may change what is stored."""
    agree(client, f"/r/{study.tokens[0]}")
    names = {
        "TOKEN": study.tokens[0],
        "OTHER": study.tokens[1],
        "ADMIN": ADMIN,
        "PICTURE": study.shown(0).loc[5, "left"],
    }

    def ask(method, pieces, body, kind, allowed):
        path = "/" + "/".join(names.get(piece, piece) for piece in pieces)
        address = f"{client.base_url}{path}"  # whole: alone, "//r" would name a server
        reply = client.request(
            method, address, content=body, headers={"Content-Type": kind} if kind else {}
        )
        assert reply.status_code in allowed, (method, path, reply.status_code)
        assert (
            "Traceback" not in reply.text and reply.headers["x-content-type-options"] == "nosniff"
        )
        return reply

    return ask


QUICK = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(
    method=st.sampled_from(METHODS),
    pieces=st.lists(PIECES, max_size=6),
    body=st.binary(max_size=40),
    kind=KINDS,
)
def test_any_address_is_answered_calmly(study, fuzzed, method, pieces, body, kind):
    fuzzed(method, pieces, body, kind, {200, 303, 404, 405, 409, 415, 422})
    assert answered(study) == 0


@QUICK
@given(body=BODIES, kind=KINDS)
def test_any_body_is_answered_calmly(study, fuzzed, body, kind):
    before = answered(study)
    reply = fuzzed("POST", ["r", "TOKEN", "answer"], body, kind, {200, 409, 413, 415, 422})
    assert answered(study) == before + (reply.status_code == 200)
    if reply.status_code == 200:  # then it was an answer, by a reading of its own
        fields = json.loads(body)
        assert set(fields) == {"position", "choice", "milliseconds"} and fields["choice"] in (
            "left",
            "right",
        )
        assert fields["position"] == before and 0 <= fields["milliseconds"] <= 1e9


@QUICK
@given(token=st.text(string.ascii_letters + string.digits + "_-", max_size=40), body=BODIES)
def test_no_other_token_opens_anything(study, fuzzed, token, body):
    for path in ([], ["answer"], ["consent"]):
        fuzzed("POST" if path else "GET", ["r", token, *path], body, "application/json", {404})
    assert answered(study) == 0


# A real server: what clients make tidy before they send it, and how it stops


@pytest.fixture
def address(app):
    with served(app) as at:
        yield urlsplit(at)


def test_no_path_from_outside_reaches_the_disk(study, client, address, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"SECRET")
    agree(client, f"/r/{study.tokens[0]}")
    ups = [
        "../",
        "..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "....//",
        "%252e%252e%252f",
        "..%c0%af",
        "/",
        "%2f",
    ]
    for up in ups:
        for depth in (1, 2, 6):
            for end in ("secret.png", "etc/passwd", "answers.sqlite", "pictures/secret.png"):
                for start in ("/assets/", f"/r/{study.tokens[0]}/picture/", "/", f"/a/{ADMIN}/"):
                    path = (start + up * depth + end).encode()
                    reply = raw(
                        address,
                        b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                    )
                    assert reply.split()[1] == b"404", path
                    assert (
                        b"SECRET" not in reply and b"root:" not in reply and b"SQLite" not in reply
                    )


def test_damaged_requests_get_no_traceback(study, address):
    path = f"/r/{study.tokens[0]}/answer".encode()
    for request in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST " + path + b" HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        reply = raw(address, request)
        assert reply.split()[1:2] == [b"400"] and b"Traceback" not in reply


def test_a_body_that_grows_without_end_is_cut_off(study, client, address):
    agree(client, f"/r/{study.tokens[0]}")
    with socket.create_connection((address.hostname, address.port), timeout=10) as sock:
        sock.sendall(
            f"POST /r/{study.tokens[0]}/answer HTTP/1.1\r\nHost: x\r\nContent-Type: "
            "application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        reply = b""
        for _ in range(100):
            sock.sendall(b"400\r\n" + b" " * 1024 + b"\r\n")
            time.sleep(0.01)
            sock.settimeout(0.01)
            try:
                reply = sock.recv(4096)
                break
            except TimeoutError:
                pass
    assert b" 413 " in reply and answered(study) == 0


def test_replies_do_not_wait_for_acknowledgements(address):
    """A reply in two pieces is sent at once: without TCP_NODELAY each of these would take 40 ms."""
    seconds = []
    with socket.create_connection((address.hostname, address.port), timeout=10) as sock:
        for _ in range(20):
            started = time.perf_counter()
            sock.sendall(b"GET /assets/icon.svg HTTP/1.1\r\nHost: x\r\n\r\n")
            reply = b""
            while not reply.endswith(b"</svg>\n"):
                reply += sock.recv(65536)
            seconds.append(time.perf_counter() - started)
    assert sorted(seconds)[5] < 0.03
