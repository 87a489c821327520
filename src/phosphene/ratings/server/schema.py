"""Tables of the database of answers, and what a rater and a refusal are."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

SCHEMA = sa.MetaData()
META = sa.Table(
    "meta",
    SCHEMA,
    sa.Column("key", sa.String(40), primary_key=True),
    sa.Column("value", sa.String(200)),
)
RATERS = sa.Table(
    "raters",
    SCHEMA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("slot", sa.Integer, nullable=False, unique=True),
    sa.Column("token_hash", sa.String(64), nullable=False),
    sa.Column("label", sa.String(40), nullable=False),
    sa.Column("consented_at", sa.DateTime(timezone=True)),
    sa.Column("finished_at", sa.DateTime(timezone=True)),
    sa.Column("opened", sa.Integer, nullable=False, default=0),
)
ANSWERS = sa.Table(
    "answers",
    SCHEMA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("rater_id", sa.ForeignKey("raters.id"), nullable=False),
    sa.Column("position", sa.Integer, sa.CheckConstraint("position >= 0"), nullable=False),
    sa.Column(
        "choice", sa.String(5), sa.CheckConstraint("choice IN ('left', 'right')"), nullable=False
    ),
    sa.Column("milliseconds", sa.Double, sa.CheckConstraint("milliseconds >= 0"), nullable=False),
    sa.Column("server_at", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("rater_id", "position"),
)
CONSENTS = sa.Table(
    "consents",
    SCHEMA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("rater_id", sa.ForeignKey("raters.id"), nullable=False, index=True),
    sa.Column("consented_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
N_ANSWERED = (
    sa.select(sa.func.count())
    .where(ANSWERS.c.rater_id == RATERS.c.id)
    .correlate(RATERS)
    .scalar_subquery()
)
AGREED_TO = (
    sa.select(CONSENTS.c.sha256)
    .where(CONSENTS.c.rater_id == RATERS.c.id)
    .order_by(CONSENTS.c.id.desc())
    .limit(1)
    .correlate(RATERS)
    .scalar_subquery()
)
RATER = sa.select(RATERS, N_ANSWERED.label("answered"), AGREED_TO.label("agreed_to"))


class Refused(Exception):
    """An answer that is not stored."""


class AlreadyAnswered(Refused):
    """The trial has its answer; it stays."""


class NotYet(Refused):
    """Trials before this one, or consent, are missing."""


class Invalid(Refused):
    """No answer at all: a field is of the wrong kind."""


class DatabaseReplaced(Exception):
    """The file of the database is no longer the one that the server opened."""


@dataclass(frozen=True)
class Rater:
    """A rater as the database knew them when asked; `answered` trials of `total`, which is also the
    next position. `agreed_to` is the hash of the last text they agreed to, "" if it is not known.
    """

    id: int
    slot: int
    label: str
    consented: bool
    agreed_to: str
    answered: int
    total: int

    @property
    def finished(self) -> bool:
        """Whether nothing is left to answer."""
        return self.answered >= self.total
