"""What raters answered: the only file that touches the database (SQLite in WAL mode, or
PostgreSQL).

One database belongs to one trial list. Trials are answered in order, each once: an answer is one
INSERT that holds only while exactly `position` answers of the rater are there, so neither two
windows nor two servers can store a trial twice, and nothing ever updates an answer. A stored answer
is on disk before :meth:`Answers.answer` returns.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from phosphene.errors import PhospheneError
from phosphene.ratings.importing import COLUMNS, SIDES
from phosphene.ratings.server.consent import text_hash
from phosphene.ratings.server.database import (
    EXPECTED,
    DatabaseFile,
    create_engine,
    displayed,
    parsed_url,
)
from phosphene.ratings.server.schema import (
    ANSWERS,
    CONSENTS,
    META,
    N_ANSWERED,
    RATER,
    RATERS,
    SCHEMA,
    AlreadyAnswered,
    Invalid,
    NotYet,
    Rater,
)
from phosphene.ratings.trials.design import pictures

# milliseconds, eleven days: a page left open is an answer like any other, nonsense is not
LONGEST = 1e9


def open_answers(
    url: str | sa.URL, study_hash: str, trials: pd.DataFrame, tokens: Mapping[int, str]
) -> Answers:
    """Open the database of a trial list, and make its tables when they are not there.

    Parameters
    ----------
    url
        Of SQLAlchemy: ``sqlite:////path/answers.sqlite``, ``postgresql+psycopg://user@host/name``.
    study_hash
        Of the trial list; a database that belongs to another one is refused.
    trials
        One row per trial that a rater slot sees (columns of ``design.plan``).
    tokens
        The secret part of the link of every slot. Other tokens than last time replace those: old
        links end.
    """
    if gaps := sorted(set(trials["slot"]) ^ set(tokens)):
        raise PhospheneError(
            f"trial list: rater slots {gaps[:5]} have trials but no link, or a link but no "
            "trials; make both anew"
        )
    address = parsed_url(url)
    shown = displayed(address)
    try:
        engine = create_engine(address)
    except (ArgumentError, ImportError) as error:
        raise PhospheneError(
            f"rate.database: cannot be used as a database address ({error}); {EXPECTED}"
        ) from None
    try:
        SCHEMA.create_all(engine)
        with engine.begin() as connection:
            found = connection.scalar(sa.select(META.c.value).where(META.c.key == "study_hash"))
            if found is None:
                connection.execute(META.insert().values(key="study_hash", value=study_hash))
                found = study_hash
            if found == study_hash:
                _enrol(connection, tokens)
        file = DatabaseFile.of(engine)
    except SQLAlchemyError as error:
        engine.dispose()
        cause = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise PhospheneError(
            f"{shown}: the database of answers cannot be opened ({cause}); check rate.database"
        ) from None
    if found != study_hash:
        engine.dispose()
        raise PhospheneError(
            f"{shown}: holds the answers to another trial list ({found}, this one is "
            f"{study_hash}); "
            "set rate.database to a new database, or bring back the settings that list was made "
            "with"
        )
    return Answers(engine, file, trials, tokens)


def _enrol(connection: sa.Connection, tokens: Mapping[int, str]) -> None:
    """Give every slot its rater, and every rater the link of today."""
    known = {row.slot: row.token_hash for row in connection.execute(sa.select(RATERS))}
    for slot, token in tokens.items():
        slot = int(slot)
        digest = _digest(token).hex()
        if slot not in known:
            values = {"slot": slot, "token_hash": digest, "label": f"rater{slot:02d}", "opened": 0}
            connection.execute(RATERS.insert().values(values))
        elif known[slot] != digest:
            connection.execute(
                RATERS.update().where(RATERS.c.slot == slot).values(token_hash=digest)
            )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


class Answers:
    """The answers to one trial list; made by :func:`open_answers`, safe to use from many
    threads.
    """

    def __init__(
        self,
        engine: sa.Engine,
        file: DatabaseFile | None,
        trials: pd.DataFrame,
        tokens: Mapping[int, str],
    ) -> None:
        self._engine = engine
        self._file = file
        self._trials = trials.sort_values(["slot", "position"]).reset_index(drop=True)
        self._slots = tuple((_digest(token), int(slot)) for slot, token in tokens.items())
        columns = ["position", "photo", "left", "right"]
        self._shown = {
            int(slot): rows[columns].astype({"position": int}).to_dict("records")
            for slot, rows in self._trials.groupby("slot")
        }
        for slot, rows in self._shown.items():
            if [row["position"] for row in rows] != list(range(len(rows))):
                raise PhospheneError(
                    f"trial list: the positions of rater slot {slot} are not 0, 1, 2, ...; make "
                    "it anew"
                )
        # SQLite writes one at a time and waits by sleeping: queueing here is fair and quicker
        self._queue = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with self._queue, self._engine.begin() as connection:
            yield connection
            if self._file is not None:
                self._file.check()

    # Raters

    def rater(self, token: str) -> Rater | None:
        """Whose link this is, or None; takes as long for a wrong token as for a right one."""
        digest = _digest(token)
        slot = None
        for known, number in self._slots:
            if hmac.compare_digest(known, digest):
                slot = number
        return None if slot is None else self._known(slot)

    def _known(self, slot: int) -> Rater:
        with self._engine.connect() as connection:
            row = connection.execute(RATER.where(RATERS.c.slot == slot)).one()
        consented = row.consented_at is not None
        total = len(self._shown[slot])
        return Rater(row.id, slot, row.label, consented, row.agreed_to or "", row.answered, total)

    def opened(self, rater: Rater) -> None:
        """Count that the page was opened."""
        with self._writing() as connection:
            more = RATERS.update().where(RATERS.c.id == rater.id).values(opened=RATERS.c.opened + 1)
            connection.execute(more)

    def consent(self, rater: Rater, text: str) -> None:
        """Note that the rater agreed to a text, and when; the time of the first consent stays."""
        now = datetime.now(UTC)
        row = {
            "rater_id": rater.id,
            "consented_at": now,
            "sha256": text_hash(text),
            "text": text,
        }
        with self._writing() as connection:
            first = RATERS.update().where(RATERS.c.id == rater.id, RATERS.c.consented_at.is_(None))
            connection.execute(first.values(consented_at=now))
            connection.execute(CONSENTS.insert().values(row))

    def next_position(self, rater: Rater) -> int:
        """The first trial without an answer, which is the number of answers."""
        return self._known(rater.slot).answered

    # Trials

    def trial(self, rater: Rater, position: int) -> dict[str, Any]:
        """What a rater may know of a trial: `position` and the picture ids `photo`, `left`,
        `right`.
        """
        return dict(self._shown[rater.slot][position])

    def pictures(self, rater: Rater) -> set[str]:
        """The picture ids a rater may load: of trials they saw, of the next one and of the one
        after it.
        """
        shown = self._shown[rater.slot][: rater.answered + 2]
        return {trial[role] for trial in shown for role in ("photo", "left", "right")}

    @property
    def picture_files(self) -> dict[str, str]:
        """The file (name without ending) of every picture id of the trial list."""
        table = pictures(self._trials)
        return dict(zip(table["id"], table["file"], strict=True))

    def answer(self, rater: Rater, position: object, choice: object, milliseconds: object) -> str:
        """Store an answer; returns "stored" when it is on disk.

        Raises
        ------
        Invalid
            `position` is no whole number from 0, `choice` neither "left" nor "right", or
            `milliseconds` (response time as the browser measured it) no finite number from 0.
        AlreadyAnswered, NotYet
            The trial is not the rater's next one, or consent is missing; nothing was stored.
        """
        position, choice, milliseconds = _checked(position, choice, milliseconds)
        now = datetime.now(UTC)
        theirs = RATERS.c.id == rater.id
        total = len(self._shown[rater.slot])
        row = sa.select(
            RATERS.c.id,
            sa.literal(position),
            sa.literal(choice),
            sa.literal(milliseconds, sa.Double),
            sa.literal(now, sa.DateTime(timezone=True)),
        )
        may = (
            theirs,
            RATERS.c.consented_at.is_not(None),
            N_ANSWERED == position,
            sa.literal(position) < total,
        )
        names = ["rater_id", "position", "choice", "milliseconds", "server_at"]
        try:
            with self._writing() as connection:
                insert = ANSWERS.insert().from_select(names, row.where(*may))
                counted = connection.execute(insert, execution_options={"preserve_rowcount": True})
                stored = counted.rowcount == 1
                if stored and position == total - 1:
                    connection.execute(RATERS.update().where(theirs).values(finished_at=now))
        except IntegrityError:  # another window or server was quicker by a moment
            stored = False
        if stored:
            return "stored"
        if position < self.next_position(rater):
            raise AlreadyAnswered(f"trial {position} has its answer")
        raise NotYet(f"trial {position} is not the next one")

    # Tables

    def progress(self) -> pd.DataFrame:
        """How far everyone is: rater, slot, opened, consented_at, answered, total, median_ms,
        last_at, finished_at.
        """
        raters = self._read(sa.select(RATERS).order_by(RATERS.c.slot)).rename(
            columns={"label": "rater"}
        )
        grouped = self._read(sa.select(ANSWERS)).groupby("rater_id")
        done = {
            "answered": ("position", "size"),
            "median_ms": ("milliseconds", "median"),
            "last_at": ("server_at", "max"),
        }
        found = raters.join(grouped.agg(**done), on="id")
        found["answered"] = found["answered"].fillna(0).astype(int)
        found["total"] = found["slot"].map(self._trials.groupby("slot").size())
        names = "rater slot opened consented_at answered total median_ms last_at finished_at"
        return found[names.split()]

    def summary(self, rater: Rater) -> dict[str, float]:
        """What a rater is told at the end: `answered`, `minutes` spent on pictures, `seconds` of a
        usual answer.
        """
        own = self._read(sa.select(ANSWERS).where(ANSWERS.c.rater_id == rater.id))["milliseconds"]
        if own.empty:
            return {"answered": 0, "minutes": 0.0, "seconds": 0.0}
        return {"answered": len(own), "minutes": own.sum() / 60_000, "seconds": own.median() / 1000}

    def export(self) -> pd.DataFrame:
        """Every answer beside its trial, one row each in the order of slots and positions; columns
        `COLUMNS`.

        `rater` is the label, never the token; `hit` whether the choice was correct; `server_at`
        UTC; `elapsed` the milliseconds on the server since the answer before, or since consent.
        """
        columns = (RATERS.c.label.label("rater"), RATERS.c.slot, RATERS.c.consented_at, ANSWERS)
        joined = sa.select(*columns).join_from(ANSWERS, RATERS)
        answers = self._read(joined).sort_values(["slot", "position"])
        before = answers.groupby("slot")["server_at"].shift().fillna(answers["consented_at"])
        elapsed = (answers["server_at"] - before) / pd.Timedelta(milliseconds=1)
        # a clock that was set back between two answers gives no negative time
        answers["elapsed"] = elapsed.clip(lower=0)
        answers = answers.drop(columns=["id", "rater_id", "consented_at"])
        found = answers.merge(
            self._trials, on=["slot", "position"], how="left", validate="one_to_one"
        )
        found["hit"] = (found["choice"] == found["correct"]).astype(bool)
        return found.sort_values(["slot", "position"])[list(COLUMNS)].reset_index(drop=True)

    def _read(self, query: sa.Select[Any]) -> pd.DataFrame:
        with self._engine.connect() as connection:
            result = connection.execute(query)
            found = pd.DataFrame(result.all(), columns=list(result.keys()))
        for column in [name for name in found if str(name).endswith("_at")]:
            # SQLite forgets that times are UTC
            found[column] = pd.to_datetime(found[column], utc=True)
        types = {"slot": int, "position": int, "milliseconds": float}
        return found.astype({name: kind for name, kind in types.items() if name in found})


def _checked(position: object, choice: object, milliseconds: object) -> tuple[int, str, float]:
    """The fields of an answer, if they are ones."""
    if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position < 2**31:
        raise Invalid("position must be a whole number from 0")
    if not isinstance(choice, str) or choice not in SIDES:
        raise Invalid("choice must be left or right")
    if not isinstance(milliseconds, int | float) or isinstance(milliseconds, bool):
        raise Invalid("milliseconds must be a number")
    if not 0 <= milliseconds <= LONGEST:  # nor is NaN
        raise Invalid(f"milliseconds must lie between 0 and {LONGEST:.0f}")
    return position, choice, float(milliseconds)
