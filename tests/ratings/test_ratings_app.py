"""The web app from outside: what it answers, what it refuses, and that nothing leaks or is stored
by refusals.
"""

from __future__ import annotations

import io
import json
import signal
import socket
import time
import zlib
from urllib.parse import quote, urlsplit

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from phosphene.errors import PhospheneError
from phosphene.ratings import check_installed
from phosphene.ratings.server.app import Texts, create_app, padded
from phosphene.ratings.server.consent import agreement
from phosphene.ratings.server.serving import listen
from phosphene.ratings.server.shield import HEADERS
from support.ratings_example import ADMIN, HASH, agree, example, raw

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
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


@pytest.fixture
def link(study, client):
    """The address of rater 0, who has agreed."""
    at = f"/r/{study.tokens[0]}"
    assert agree(client, at).status_code == 303
    return at


def answered(study):
    return len(study.answers.export())


def answer(position=0, choice="left", milliseconds=640.5):
    return {"position": position, "choice": choice, "milliseconds": milliseconds}


# The protocol


def test_a_study_from_consent_to_thanks(study, client):
    at = f"/r/{study.tokens[0]}"
    assert "I agree" in client.get(at).text
    agreed = agree(client, at)
    assert (
        agreed.status_code == 303
        and client.get(f"{at}/{agreed.headers['location']}").text.count("How it works") == 1
    )
    for position, row in study.shown(0).iterrows():
        trial = client.get(f"{at}/trial/{position}.json").json()
        assert trial == {"position": position, **row[["photo", "left", "right"]].to_dict()}
        for role in ("photo", "left", "right"):
            got = client.get(f"{at}/picture/{trial[role]}")
            assert got.content.startswith((study.pictures / f"{row[role]}.png").read_bytes())
            assert got.headers["content-type"] == "image/png"
            assert got.headers["cache-control"] == "no-store, no-transform"
        reply = client.post(f"{at}/answer", json=answer(position, row["correct"], 700 + position))
        assert (reply.status_code, reply.json()) == (200, {"next": position + 1})
        assert "Welcome back" in client.get(at).text or position == 11
    page = client.get(at).text
    assert "Thank you" in page and "rater00" in page and "lab@example.org" in page
    # a page that missed the end goes there
    assert client.post(f"{at}/answer", json=answer(12)).json()["next"] == 12
    found = study.answers.export()
    assert found["hit"].all() and found["milliseconds"].tolist() == [
        700 + position for position in range(12)
    ]


def test_answers_replayed_or_out_of_order_change_nothing(study, client, link):
    assert client.post(f"{link}/answer", json=answer(1)).json() == {
        "error": "trial 1 is not the next one",
        "next": 0,
    }
    client.post(f"{link}/answer", json=answer(0, "right"))
    before = study.answers.export()
    for body in (
        answer(0, "right"),
        answer(0, "left"),
        answer(2),
        answer(11),
        answer(12),
        answer(2**31 - 1),
    ):
        reply = client.post(f"{link}/answer", json=body)
        assert (reply.status_code, reply.json()["next"]) == (409, 1)
    assert study.answers.export().equals(before)


def test_without_consent_there_is_nothing_to_see_or_answer(study, client):
    at = f"/r/{study.tokens[0]}"
    first = study.shown(0).loc[0]
    assert client.get(f"{at}/trial/0.json").json() == {
        "error": "this trial is not the next one",
        "next": 0,
    }
    assert client.get(f"{at}/picture/{first['photo']}").status_code == 404
    assert client.post(f"{at}/answer", json=answer()).status_code == 409
    for body in (
        "",
        "agree=yes",
        "agree=no&text=x",
        "agree=no",
        "agree=yes&agree=yes",
        "agree=yes&more=1",
        "agree",
        "%",
        "\0",
    ):
        assert client.post(f"{at}/consent", content=body, headers=FORM).status_code == 422
    assert answered(study) == 0 and not study.answers.rater(study.tokens[0]).consented


def test_a_rater_sees_no_further_than_the_trial_after_next(study, client, link):
    assert [client.get(f"{link}/trial/{k}.json").status_code for k in (0, 1, 2, 11, 12)] == [
        200,
        200,
        409,
        409,
        404,
    ]
    for odd in ("-1", "00000001", "1.0", "one", "٣", "²", "9" * 30, ""):
        assert client.get(f"{link}/trial/{quote(odd)}.json").status_code == 404
    ahead = set(study.shown(0).loc[2:, ["photo", "left", "right"]].to_numpy().ravel())
    ahead -= set(study.shown(0).loc[:1, ["photo", "left", "right"]].to_numpy().ravel())
    assert {client.get(f"{link}/picture/{name}").status_code for name in ahead} == {404}


def test_nothing_tells_method_or_answer(study, client, link):
    """What a rater's browser gets at a trial, all of it: ids that are random, the same for every
    method.
    """
    trial = study.shown(0).loc[0]
    pages = [client.get(path) for path in (link, f"{link}/trial/0.json", f"{link}/trial/1.json")]
    said = "".join(page.text + str(page.headers) for page in pages)
    for word in ("correct", "method", "distractor", "catch", "repeat", "subj01", trial["image"]):
        assert f'"{word}' not in said and f"={word}" not in said
    heads = [
        client.get(f"{link}/picture/{trial[role]}").headers for role in ("photo", "left", "right")
    ]
    assert (
        heads[0] == heads[1] == heads[2]
        and "last-modified" not in heads[0]
        and "etag" not in heads[0]
    )


@pytest.mark.parametrize("ending", ["PNG", "JPEG"])
def test_padding_changes_the_length_of_a_file_and_nothing_else(ending):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    stream = io.BytesIO()
    image.save(stream, ending)
    data = stream.getvalue()
    longer = padded(data, 20_000, "one")
    assert len(longer) == 20_000 and padded(data, len(data), "one") == data
    assert longer == padded(data, 20_000, "one") != padded(data, 20_000, "other")
    assert len(zlib.compress(longer[len(data) :])) > 20_000 - len(data)
    with Image.open(io.BytesIO(longer)) as opened, Image.open(io.BytesIO(data)) as original:
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(original))


def test_all_pictures_have_one_format(study):
    name = study.shown(0).loc[0, "photo"]
    (study.pictures / f"{name}.png").rename(study.pictures / f"{name}.jpg")
    with pytest.raises(PhospheneError, match=r"several formats \(.jpg, .png\)"):
        create_app(study.answers, study.pictures, Texts(), ADMIN, 0)


def test_consent_text_and_title_are_text(study):
    texts = Texts("<b>A & B</b>", "<i>me</i>", "First.\n\n<script>alert(1)</script>\n- one\n- two")
    page = (
        TestClient(create_app(study.answers, study.pictures, texts, ADMIN, 0))
        .get(f"/r/{study.tokens[0]}")
        .text
    )
    assert (
        "&lt;script&gt;" in page
        and "&lt;b&gt;A &amp; B" in page
        and page.count('class="given"') == 3
    )
    assert "<script" not in page and "<i>" not in page


# The progress page


def test_progress_and_csv(study, client, link):
    client.post(f"{link}/answer", json=answer(0, "right"))
    page = client.get(f"/a/{ADMIN}")
    table = client.get(f"/a/{ADMIN}/answers.csv")
    assert page.status_code == 200 and "1 of 12" in page.text and "0 of 12" in page.text
    assert table.headers["content-disposition"] == 'attachment; filename="answers.csv"'
    found = pd.read_csv(io.StringIO(table.text), parse_dates=["server_at"])
    kept = study.answers.export()
    assert (
        found.drop(columns="server_at")
        .astype(str)
        .equals(kept.drop(columns="server_at").astype(str))
    )
    for secret in [*study.tokens.values(), "token_hash"]:
        assert secret not in page.text + table.text


def test_the_progress_page_has_its_own_key(study, client, link):
    for wrong in ("", "x", study.tokens[0], ADMIN[:-1], ADMIN + "x", quote("é\u2028"), "%ff%fe"):
        assert client.get(f"/a/{wrong}").status_code == 404
        assert client.get(f"/a/{wrong}/answers.csv").status_code == 404
    assert client.get(f"/r/{ADMIN}").status_code == 404
    assert client.get(f"/a/{ADMIN}/answers").status_code == 404


# Refusals


def test_unknown_links_all_look_the_same(study, client):
    texts = {
        client.get(f"/r/{token}").text
        for token in ("x" * 32, "rater00", study.tokens[0].swapcase(), "é")
    }
    assert len(texts) == 1 and "Nothing here" in texts.pop()
    wrong = "x" * 32
    for path in ("answer", "consent"):
        assert client.post(f"/r/{wrong}/{path}", json=answer()).status_code == 404
    assert client.get(f"/r/{wrong}/trial/0.json").status_code == 404


def test_wrong_bodies_are_refused_with_the_right_code(study, client, link):
    sent = {"Content-Type": "application/json"}
    whole = json.dumps(answer()).encode()
    cases = [
        (415, whole, {}),
        (415, whole, FORM),
        (415, whole, {"Content-Type": "text/plain"}),
        (413, whole + b" " * 2048, sent),
        (413, b"x" * 5_000_000, sent),
        (422, b"", sent),
        (422, b"{", sent),
        (422, b"[" * 2000, sent),
        (422, b"\xff\xfe", sent),
        (422, b"[]", sent),
        (422, b"{}", sent),
        (422, whole[:-1] + b', "slot": 1}', sent),
        (422, whole.replace(b"left", b"LEFT"), sent),
        (422, whole.replace(b"640.5", b"NaN"), sent),
        (422, whole.replace(b"640.5", b"1e999"), sent),
        (422, whole.replace(b"640.5", b"-1"), sent),
        (422, whole.replace(b": 0", b": 0.0"), sent),
        (422, whole.replace(b": 0", b": true"), sent),
        (422, whole.replace(b": 0", b": " + b"9" * 1900), sent),
        (422, whole.replace(b"640.5", b"9" * 1900), sent),
        (422, whole.replace(b'"left"', b'"\\ud800"'), sent),
    ]
    for status, body, headers in cases:
        reply = client.post(f"{link}/answer", content=body, headers=headers)
        assert (reply.status_code, set(reply.json())) == (status, {"error"}), body[:80]
    assert answered(study) == 0
    fine = client.post(
        f"{link}/answer", content=whole, headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert fine.status_code == 200


def test_every_response_carries_the_headers(study, client, link):
    paths = [
        "/",
        link,
        f"{link}/trial/0.json",
        f"{link}/trial/5.json",
        "/assets/rate.css",
        f"/a/{ADMIN}",
        "/a/x",
        "/r//",
    ]
    replies = [client.request(method, path) for path in paths for method in METHODS]
    replies += [
        client.post(
            f"{link}/answer", content=b"x" * 3000, headers={"Content-Type": "application/json"}
        )
    ]
    assert {reply.status_code for reply in replies} == {200, 404, 405, 409, 413}
    for reply in replies:
        for name, value in HEADERS.items():
            assert reply.headers[name] == value, (reply.url, name)
        assert "set-cookie" not in reply.headers and "server" not in reply.headers
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_pages_need_no_inline_script_or_style(study, client, link):
    pages = [
        client.get(path).text for path in (link, f"/r/{study.tokens[1]}", f"/a/{ADMIN}", "/nothing")
    ]
    for page in pages:
        assert "style=" not in page and "<style" not in page and " on" + "click" not in page
        assert page.count("<script") == page.count("<script src=")
        assert "http://" not in page and "https://" not in page


def test_nothing_else_is_there(client):
    for path in (
        "/",
        "/openapi.json",
        "/docs",
        "/r",
        "/r/",
        "/a/",
        "/assets/",
        "/assets/base.html",
        "/assets/consent.html",
        "/assets/rate.js/",
        "/static/rate.css",
        "/favicon.ico",
        "/robots.txt",
        "/answers.sqlite",
    ):
        assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "error, status",
    [(OperationalError("SELECT", {}, Exception("gone")), 503), (KeyError("x"), 500)],
)
def test_an_error_inside_stays_inside(study, client, link, monkeypatch, caplog, error, status):
    def broken(*_):
        raise error

    monkeypatch.setattr(study.answers, "rater", broken)
    reply = client.get(link)
    assert reply.status_code == status and set(reply.json()) == {"error"}
    assert reply.headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    for leak in ("Traceback", "SELECT", "KeyError", ".py", study.tokens[0]):
        assert leak not in reply.text
    assert (
        "a request failed" in caplog.text
        and study.tokens[0] not in caplog.text
        and "Traceback" not in caplog.text
    )


def test_a_missing_picture_is_found_before_raters_come(study):
    name = study.shown(1).loc[3, "left"]
    (study.pictures / f"{name}.png").unlink()
    with pytest.raises(PhospheneError, match=f"1 of the .* missing, such as {name}"):
        create_app(study.answers, study.pictures, Texts(), ADMIN, 0)


# How it runs and stops

SERVER = """
import sys
from pathlib import Path
import pandas as pd
from phosphene.ratings.server.answers import open_answers
from phosphene.ratings.server.app import Texts, create_app
from phosphene.ratings.server.serving import serve
table, pictures, url, study_hash, admin, *tokens = sys.argv[1:]
answers = open_answers(url, study_hash, pd.read_parquet(table), dict(enumerate(tokens)))
app = create_app(answers, pictures, Texts(), admin, 5)
serve(app, "127.0.0.1", 0, lambda address: print(address, flush=True))
print("stopped", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_server_stops_when_asked_and_says_nothing_secret(study, tmp_path, start_python, how):
    table = tmp_path / "trials.parquet"
    study.trials.to_parquet(table)
    tokens = list(study.tokens.values())
    process = start_python(SERVER, table, study.pictures, study.url, HASH, ADMIN, *tokens)
    address = urlsplit(process.stdout.readline().strip())
    head = f"GET /r/{tokens[0]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert b" 200 " in raw(address, head) and b" 404 " in raw(
        address, head.replace(b"/r/", b"/r/x")
    )
    with socket.create_connection((address.hostname, address.port), timeout=10) as sock:
        half = (
            f"POST /r/{tokens[0]}/consent HTTP/1.1\r\nHost: x\r\nContent-Type: "
            f"{FORM['Content-Type']}\r\n"
        )
        text = agreement(Texts(), 12).sha256
        sock.sendall(f"{half}Content-Length: 79\r\n\r\ntext={text}&agree".encode())
        time.sleep(0.3)
        process.send_signal(how)
        time.sleep(0.3)
        sock.sendall(b"=yes")  # under way when the signal came: finished, not cut off
        assert b" 303 " in sock.recv(4096)
    said = "".join(process.communicate(timeout=20))
    assert "Traceback" not in said and not any(secret in said for secret in [*tokens, ADMIN])
    assert study.answers.rater(tokens[0]).consented
    assert process.returncode == (0 if how == signal.SIGINT else -signal.SIGTERM)


def test_a_port_that_is_taken_is_said_in_one_sentence():
    with (
        listen("127.0.0.1", 0) as taken,
        pytest.raises(PhospheneError, match="cannot be listened on"),
    ):
        listen("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(PhospheneError, match="cannot be listened on"):
        listen("127.0.0.1", 70000)


def test_a_missing_package_is_said_in_one_sentence():
    check_installed()
    with pytest.raises(
        PhospheneError, match=r"needs no_such_thing, not found.*phosphene\[ratings\]"
    ):
        check_installed(("starlette", "no_such_thing"))
