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
N_ANSWERED = (
    sa.select(sa.func.count())
    .where(ANSWERS.c.rater_id == RATERS.c.id)
    .correlate(RATERS)
    .scalar_subquery()
)
RATER = sa.select(RATERS, N_ANSWERED.label("answered"))


class Refused(Exception):
    """An answer that is not stored."""


class AlreadyAnswered(Refused):
    """The trial has its answer; it stays."""


class NotYet(Refused):
    """Trials before this one, or consent, are missing."""


class Invalid(Refused):
    """No answer at all: a field is of the wrong kind."""


@dataclass(frozen=True)
class Rater:
    """A rater as the database knew them when asked; `answered` trials of `total`, which is also the
    next position.
    """

    id: int
    slot: int
    label: str
    consented: bool
    answered: int
    total: int

    @property
    def finished(self) -> bool:
        """Whether nothing is left to answer."""
        return self.answered >= self.total
