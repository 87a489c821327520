"""What is stored of answers: each once, in order, for good; in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from phosphene.errors import PhospheneError
from phosphene.ratings.server.answers import COLUMNS, open_answers
from phosphene.ratings.server.schema import AlreadyAnswered, Invalid, NotYet
from support.postgres_server import MISSING, postgres, programs
from support.ratings_example import HASH, example


@pytest.fixture(scope="module")
def server():
    if programs() is None:
        pytest.skip(MISSING)
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def study(request, tmp_path):
    """A study of 3 raters and 12 trials each, in an empty database."""
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("server")
        with sa.create_engine(url).begin() as connection:
            connection.execute(sa.text("DROP TABLE IF EXISTS consents, answers, raters, meta"))
    made = example(tmp_path, url=url)
    yield made
    made.answers.close()


def agreed(study, slot=0):
    """A rater who has agreed to take part."""
    rater = study.answers.rater(study.tokens[slot])
    study.answers.consent(rater, "A text.")
    return study.answers.rater(study.tokens[slot])


def test_a_rater_is_known_by_token_only(study):
    rater = study.answers.rater(study.tokens[1])
    assert (rater.slot, rater.label, rater.consented, rater.answered, rater.total) == (
        1,
        "rater01",
        False,
        0,
        12,
    )
    for wrong in ("", "rater01", study.tokens[1][:-1], study.tokens[1] + "x", "\ud800", "é" * 500):
        assert study.answers.rater(wrong) is None


def test_answers_come_back_as_they_were_given(study):
    choices = random.Random(3).choices(["left", "right"], k=12)
    rater = agreed(study, 2)
    for position, choice in enumerate(choices):
        assert study.answers.next_position(rater) == position
        assert study.answers.answer(rater, position, choice, 500.5 + position) == "stored"
    found = study.answers.export()
    trials = study.shown(2)
    assert tuple(found.columns) == COLUMNS and set(found["rater"]) == {"rater02"}
    assert found["choice"].tolist() == choices
    assert found["hit"].tolist() == [
        choice == correct for choice, correct in zip(choices, trials["correct"], strict=True)
    ]
    assert found["milliseconds"].tolist() == [500.5 + position for position in range(12)]
    for column in set(trials) - {"slot", "photo", "left", "right"}:
        assert found[column].tolist() == trials[column].tolist()
    assert str(found["server_at"].dt.tz) == "UTC" and found["server_at"].is_monotonic_increasing
    assert study.answers.rater(study.tokens[2]).finished
    progress = study.answers.progress().set_index("slot")
    assert (
        progress["answered"].to_dict() == {0: 0, 1: 0, 2: 12}
        and progress.loc[2, "median_ms"] == 506.0
    )
    assert progress["finished_at"].notna().to_dict() == {0: False, 1: False, 2: True}
    assert study.answers.summary(rater) == pytest.approx(
        {"answered": 12, "minutes": 6072 / 60000, "seconds": 0.506}
    )


def test_answers_outlive_a_restart(study):
    study.answers.answer(agreed(study), 0, "right", 700)
    before = study.answers.export()
    study.answers.close()
    again = study.reopened()
    assert again.next_position(again.rater(study.tokens[0])) == 1
    assert again.export().equals(before)
    again.close()


def test_only_the_next_trial_is_answered_and_once(study):
    rater = study.answers.rater(study.tokens[0])
    with pytest.raises(NotYet):  # no consent
        study.answers.answer(rater, 0, "left", 500)
    rater = agreed(study)
    for early in (1, 5, 12, 2**31 - 1):
        with pytest.raises(NotYet):
            study.answers.answer(rater, early, "left", 500)
    study.answers.answer(rater, 0, "left", 500)
    for choice in ("left", "right"):
        with pytest.raises(AlreadyAnswered):
            study.answers.answer(rater, 0, choice, 900)
    assert study.answers.export()[["position", "choice", "milliseconds"]].to_numpy().tolist() == [
        [0, "left", 500.0]
    ]


@pytest.mark.parametrize("position", [-1, 0.0, "0", None, True, [0], 2**31, 10**400])
def test_a_position_is_a_whole_number(study, position):
    with pytest.raises(Invalid, match="position"):
        study.answers.answer(agreed(study), position, "left", 500)
    assert study.answers.export().empty


@pytest.mark.parametrize(
    "field, value",
    [
        *[
            ("choice", value)
            for value in ("", "Left", "left ", "up", None, 0, True, ["left"], {"left": 1}, "left\0")
        ],
        *[
            ("milliseconds", value)
            for value in (-1, -0.1, float("nan"), float("inf"), 1e10, 10**400, "500", None, True)
        ],
    ],
)
def test_choice_and_time_are_checked(study, field, value):
    fields = {"choice": "left", "milliseconds": 500} | {field: value}
    with pytest.raises(Invalid, match=field):
        study.answers.answer(agreed(study), 0, **fields)
    assert study.answers.export().empty


def test_many_windows_at_once_store_every_trial_once(study):
    """Two connections to one database, as of two servers; sixteen threads answer the same trials in
    any order.
    """
    agreed(study)
    two = (study.answers, study.reopened())
    stored: list[int] = []

    def window(number: int) -> None:
        answers = two[number % 2]
        chance = random.Random(number)
        for _ in range(12):
            rater = answers.rater(study.tokens[0])
            try:
                answers.answer(
                    rater, min(rater.answered + chance.choice([0, 0, 0, 1]), 11), "left", number
                )
                stored.append(number)
            except (AlreadyAnswered, NotYet):
                pass

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(window, range(16)))
    found = study.answers.export()
    assert found["position"].tolist() == list(range(12))
    # every one that was told "stored", no other
    assert sorted(stored) == sorted(found["milliseconds"].astype(int))
    two[1].close()


def test_consent_keeps_its_first_time_and_openings_are_counted(study):
    rater = study.answers.rater(study.tokens[0])
    study.answers.opened(rater)
    study.answers.opened(rater)
    study.answers.consent(rater, "A text.")
    first = study.answers.progress().loc[0, "consented_at"]
    study.answers.consent(rater, "A text.")
    row = study.answers.progress().loc[0]
    assert row["consented_at"] == first and row["opened"] == 2


def test_a_rater_may_see_what_was_shown_and_two_trials_ahead(study):
    rater = agreed(study)
    for position in range(3):
        study.answers.answer(rater, position, "left", 500)
    seen = study.shown(0).loc[:4, ["photo", "left", "right"]].to_numpy().ravel()
    assert study.answers.pictures(study.answers.rater(study.tokens[0])) == set(seen)
    assert set(study.answers.trial(rater, 3)) == {"position", "photo", "left", "right"}


def test_new_links_end_old_ones_and_keep_answers(study):
    study.answers.answer(agreed(study), 0, "left", 500)
    fresh = {slot: token[::-1] for slot, token in study.tokens.items()}
    again = open_answers(study.url, HASH, study.trials, fresh)
    assert again.rater(study.tokens[0]) is None
    assert again.rater(fresh[0]).answered == 1
    with sa.create_engine(study.url).connect() as connection:
        hashes = connection.scalars(sa.text("SELECT token_hash FROM raters ORDER BY slot")).all()
    assert hashes == [hashlib.sha256(fresh[slot].encode()).hexdigest() for slot in range(3)]
    again.close()


def test_a_database_of_another_trial_list_is_refused(study):
    with pytest.raises(PhospheneError, match="another trial list.*rate.database"):
        open_answers(study.url, "0" * 12, study.trials, study.tokens)
    assert study.reopened().rater(study.tokens[0]) is not None


def test_the_database_itself_refuses_a_second_answer(study):
    """Whoever writes past this module: the tables hold one answer per trial, and known choices
    only.
    """
    study.answers.answer(agreed(study), 0, "left", 500)
    insert = "INSERT INTO answers (rater_id, position, choice, milliseconds, server_at) VALUES "
    engine = sa.create_engine(study.url)
    for values in ("(1, 0, 'right', 1, CURRENT_TIMESTAMP)", "(1, 1, 'up', 1, CURRENT_TIMESTAMP)"):
        with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
            connection.execute(sa.text(insert + values))
    engine.dispose()


def test_sqlite_is_asked_to_be_durable(tmp_path):
    study = example(tmp_path)
    with study.answers._engine.connect() as connection:
        asked = [
            connection.scalar(sa.text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
    assert asked == ["wal", 2, 20000]  # 2: FULL, on disk at every commit
    with sqlite3.connect(tmp_path / "answers.sqlite") as plain:  # readable without phosphene
        assert plain.execute("SELECT count(*) FROM raters").fetchone() == (3,)


@pytest.mark.parametrize(
    "url, said",
    [
        ("nonsense", "rate.database: cannot be used"),
        ("sqlite://", "in memory would be lost"),
        ("oddbase://here/there", "rate.database: cannot be used"),
        ("sqlite:////no/such/folder/answers.sqlite", "cannot be opened"),
        ("postgresql+psycopg://me:secretword@127.0.0.1:1/none", "cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_used_is_said_in_one_sentence(tmp_path, url, said):
    made = example(tmp_path)
    with pytest.raises(PhospheneError, match=said) as error:
        open_answers(url, HASH, made.trials, made.tokens)
    assert "secretword" not in str(error.value) and "\n" not in str(error.value)


def test_a_trial_list_with_gaps_is_refused(tmp_path):
    made = example(tmp_path)
    holes = made.trials[made.trials["position"] != 5]
    with pytest.raises(PhospheneError, match="positions of rater slot 0"):
        open_answers(made.url, HASH, holes, made.tokens)
    with pytest.raises(PhospheneError, match=r"slots \[2\] have trials but no link"):
        open_answers(made.url, HASH, made.trials, {0: "a", 1: "b"})
