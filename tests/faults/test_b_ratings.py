"""Answers that would be lost: a database that is deleted or replaced, folders with odd names."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from phosphene.ratings.server.answers import open_answers
from phosphene.ratings.server.app import Texts, create_app
from support.ratings_example import ADMIN, HASH, agree, example

ANSWER = {"position": 0, "choice": "left", "milliseconds": 700}


@pytest.fixture
def study(tmp_path):
    made = example(tmp_path)
    yield made
    made.answers.close()


def remove(path):
    path.unlink()


def replace_by_a_copy(path):
    shutil.copy(path, path.with_suffix(".copy"))
    path.with_suffix(".copy").replace(path)


def remove_the_log(path):
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("lose", [remove, replace_by_a_copy, remove_the_log])
def test_b9_a_database_that_is_gone_stores_nothing(study, tmp_path, caplog, lose):
    client = TestClient(create_app(study.answers, study.pictures, Texts(), ADMIN, 0))
    path = f"/r/{study.tokens[0]}"
    agree(client, path)
    lose(tmp_path / "answers.sqlite")
    for reply in (client.post(f"{path}/answer", json=ANSWER), client.get(path)):
        assert reply.status_code == 503 and set(reply.json()) == {"error"}
        assert str(tmp_path) not in reply.text
    assert f"{tmp_path / 'answers.sqlite'}: the database was deleted or replaced" in caplog.text
    assert study.answers.export().empty


def test_b9_a_database_that_comes_back_is_used_again(study, tmp_path):
    client = TestClient(create_app(study.answers, study.pictures, Texts(), ADMIN, 0))
    path = f"/r/{study.tokens[0]}"
    agree(client, path)
    (tmp_path / "answers.sqlite").rename(tmp_path / "elsewhere")
    assert client.post(f"{path}/answer", json=ANSWER).status_code == 503
    (tmp_path / "elsewhere").rename(tmp_path / "answers.sqlite")
    assert client.post(f"{path}/answer", json=ANSWER).status_code == 200
    again = study.reopened()
    assert len(again.export()) == 1
    again.close()


@pytest.mark.parametrize("name", ["lab?", "a#b", "50%25", "x?mode=memory", "é @ :"])
def test_b9_folders_of_any_name_keep_their_database(tmp_path, name):
    made = example(tmp_path / "trials")
    folder = tmp_path / name
    folder.mkdir()
    url = sa.URL.create("sqlite", database=str(folder / "answers.sqlite"))
    open_answers(url, HASH, made.trials, made.tokens).close()
    assert [path.name for path in folder.iterdir()] == ["answers.sqlite"]
    with sqlite3.connect(folder / "answers.sqlite") as plain:
        assert plain.execute("SELECT count(*) FROM raters").fetchone() == (3,)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "trials"])
