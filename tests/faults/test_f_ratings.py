"""What raters agree to, and what the progress page says."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace

import pandas as pd
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from phosphene.cli.app import app as command_line
from phosphene.ratings.server.app import Texts, create_app
from phosphene.ratings.server.consent import agreement, duration
from phosphene.steps.ratings.serving import texts, warn_of_gaps
from phosphene.study import Rate, Study
from support.ratings_example import ADMIN, agree, example

WHOLE = Texts(
    contact="rate@example.org",
    organiser="Prof. A, Lab of B, C University.",
    pay="Ten euros.",
    retention="Ten years, then deleted.",
    legal_basis="Your consent, Article 6(1)(a) GDPR.",
    complaints="The ethics board of C University.",
    least_age=21,
)
ANSWER = {"position": 0, "choice": "left", "milliseconds": 700}
# the tables of the first edition
OLD = """
CREATE TABLE meta (key VARCHAR(40) PRIMARY KEY, value VARCHAR(200));
CREATE TABLE raters (id INTEGER PRIMARY KEY, slot INTEGER NOT NULL UNIQUE,
  token_hash VARCHAR(64) NOT NULL, label VARCHAR(40) NOT NULL, consented_at DATETIME,
  finished_at DATETIME, opened INTEGER NOT NULL);
CREATE TABLE answers (id INTEGER PRIMARY KEY, rater_id INTEGER NOT NULL REFERENCES raters (id),
  position INTEGER NOT NULL CHECK (position >= 0), choice VARCHAR(5) NOT NULL,
  milliseconds DOUBLE NOT NULL, server_at DATETIME NOT NULL, UNIQUE (rater_id, position));
INSERT INTO meta VALUES ('study_hash', '3f9c2a77d01b');
INSERT INTO raters VALUES (1, 0, 'old', 'rater00', '2026-01-01 10:00:00.000000', NULL, 1);
INSERT INTO answers VALUES (1, 1, 0, 'left', 700, '2026-01-01 10:00:02.000000');
"""


@pytest.fixture
def study(tmp_path):
    made = example(tmp_path)
    yield made
    made.answers.close()


def client(study, texts):
    app = create_app(study.answers, study.pictures, texts, ADMIN, 0)
    return TestClient(app, follow_redirects=False)


def consents(study):
    with sqlite3.connect(study.url.removeprefix("sqlite:///")) as plain:
        return plain.execute("SELECT rater_id, sha256, text FROM consents ORDER BY id").fetchall()


def test_f6_the_text_that_a_rater_agreed_to_is_stored(study):
    path = f"/r/{study.tokens[0]}"
    page = client(study, WHOLE).get(path).text
    agree(client(study, WHOLE), path)
    ((rater, digest, text),) = consents(study)
    assert rater == 1 and digest == hashlib.sha256(text.encode()).hexdigest()
    for words in (
        "There are 12 such choices; they take about 1 minute,",
        WHOLE.organiser,
        "Questions: rate@example.org",
        "at least 21 years old",
        WHOLE.pay,
        WHOLE.retention,
        WHOLE.legal_basis,
        WHOLE.complaints,
        "Risks",
        "Not your name",
    ):
        assert words in text and words in page
    assert "rater00" in page and "{{" not in text


def test_f6_a_changed_text_is_shown_and_agreed_to_again(study):
    path = f"/r/{study.tokens[0]}"
    before = client(study, WHOLE)
    agree(before, path)
    assert before.post(f"{path}/answer", json=ANSWER).status_code == 200
    after = client(study, replace(WHOLE, retention="For ever."))
    page = after.get(path).text
    assert "has changed since you agreed" in page and "Your\n    1 answers are kept" in page
    for reply in (
        after.get(f"{path}/trial/1.json"),
        after.post(f"{path}/answer", json=ANSWER | {"position": 1}),
    ):
        assert reply.status_code == 409 and reply.json()["next"] == 1
    # the button of a page that was opened before the change agrees to nothing
    old = {"agree": "yes", "text": agreement(WHOLE, 12).sha256}
    assert after.post(f"{path}/consent", data=old).status_code == 303
    assert len(consents(study)) == 1 and "I agree" in after.get(path).text
    agree(after, path)
    assert "Welcome back" in after.get(path).text
    assert after.post(f"{path}/answer", json=ANSWER | {"position": 1}).status_code == 200
    assert [("For ever." in text) for _, _, text in consents(study)] == [False, True]


def test_f6_a_database_of_the_first_edition_opens(tmp_path):
    with sqlite3.connect(tmp_path / "answers.sqlite") as plain:
        plain.executescript(OLD)
    (tmp_path / "answers.sqlite").chmod(0o600)
    study = example(tmp_path)
    rater = study.answers.rater(study.tokens[0])
    assert (rater.consented, rater.agreed_to, rater.answered) == (True, "", 1)
    table = study.answers.export()
    assert table["elapsed"].tolist() == [2000.0] and table["choice"].tolist() == ["left"]
    path = f"/r/{study.tokens[0]}"
    asked = client(study, WHOLE)
    assert "I agree" in asked.get(path).text
    agree(asked, path)
    assert "Welcome back" in asked.get(path).text
    study.answers.close()


def test_f6_empty_paragraphs_are_left_out_and_warned_of(tmp_path):
    text = agreement(Texts(), 12).text
    assert not [word for word in ("Payment", "Complaints", "Legal basis") if word in text]
    with pytest.warns(UserWarning) as warned:
        warn_of_gaps(Rate(organiser="Lab", pay="Nothing.", contact="me"))
    assert [str(one.message) for one in warned] == [
        "rate.retention, rate.legal_basis, rate.complaints: empty, so raters are not told how long "
        "answers are kept, on which legal basis, where to complain; fill in these settings, or "
        "give a text of your own (rate.consent)"
    ]
    with pytest.warns(UserWarning, match="^rate.contact: empty, so raters are not told whom"):
        warn_of_gaps(Rate(consent="own.txt"))
    study = Study.from_dict({"rate": {"pay": "Ten euros.", "least_age": 16}}, folder=tmp_path)
    assert texts(study) == Texts(pay="Ten euros.", least_age=16)


def test_f6_a_text_of_ones_own_is_stored_whole(study):
    own = Texts(consent="First.\r\n\r\nSecond\nline.", contact="me")
    assert agreement(own, 300).text.split("\n\n")[1:] == [
        "First.",
        "Second\nline.",
        "Questions? me",
    ]


@pytest.mark.parametrize(
    "trials, words",
    [(1, "1 minute"), (18, "1 minute"), (40, "3 minutes"), (75, "5 minutes"), (320, "21 minutes")],
)
def test_f6_the_duration_follows_from_the_trials(trials, words):
    assert duration(trials) == words


@pytest.mark.parametrize("answered, shown", [(0, 0), (5, 14), (35, 97), (36, 100)])
def test_f11_progress_is_rounded(study, answered, shown):
    page = client(study, Texts())
    left = answered
    for slot in range(3):
        path = f"/r/{study.tokens[slot]}"
        agree(page, path)
        for position in range(min(left, 12)):
            page.post(f"{path}/answer", json=ANSWER | {"position": position})
        left -= min(left, 12)
    assert f"<dt>done</dt><dd>{shown}<i> %</i></dd>" in page.get(f"/a/{ADMIN}").text


def test_f10_a_reason_is_printed_once(tmp_path, monkeypatch):
    (tmp_path / "study.toml").write_text('name = "s"\n[data]\nroot = "data"\n')
    absent = pd.DataFrame(
        [("accuracy", "nobody is left"), ("compare", "nobody is left"), ("odds", "too few raters")],
        columns=["table", "reason"],
    )

    class Made:
        path = tmp_path

        def table(self, name):
            return absent if name == "absent" else pd.DataFrame()

    monkeypatch.setattr("phosphene.steps.ratings.answers_given", lambda *_: pd.DataFrame())
    monkeypatch.setattr("phosphene.steps.ratings.keep", lambda *_: None)
    monkeypatch.setattr("phosphene.pipeline.graph.make", lambda *_: [Made()])
    monkeypatch.setattr("phosphene.cli.rating_tables.scores", lambda _: [])
    done = CliRunner().invoke(command_line, ["rate", "score", str(tmp_path / "study.toml")])
    assert done.exit_code == 0, done.output
    assert [line for line in done.output.splitlines() if line.startswith("Left out")] == [
        "Left out: accuracy, compare: nobody is left",
        "Left out: odds: too few raters",
    ]
