"""The database of answers: its address, its connections, and whether its file is still there."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from phosphene.errors import PhospheneError
from phosphene.ratings.server.schema import DatabaseReplaced

EXPECTED = (
    "expected a SQLAlchemy URL such as sqlite:////path/answers.sqlite or "
    "postgresql+psycopg://user@host/name"
)
PRAGMAS = ("busy_timeout=20000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


def parsed_url(url: str | sa.URL) -> sa.URL:
    """Parse a database address; a refusal repeats nothing of it, since it may hold a password."""
    if isinstance(url, sa.URL):
        return url
    is_sqlite = url.startswith("sqlite")
    if not is_sqlite and url.partition("?")[0].count("@") > 1:
        raise PhospheneError(
            "rate.database: has more than one '@'; write an '@' in a user name or password as %40"
        )
    try:
        return sa.make_url(url)
    except (ArgumentError, ValueError):
        raise PhospheneError(
            f"rate.database: cannot be used as a database address (not a URL); {EXPECTED}"
        ) from None


def displayed(url: sa.URL) -> str:
    """Format a database address for messages: without its password and its options."""
    return url.set(query={}).render_as_string(hide_password=True)


def create_engine(url: sa.URL) -> sa.Engine:
    """Open a database; a new SQLite file can be read by its owner only."""
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        if url.database in (None, "", ":memory:"):
            raise ArgumentError("answers in memory would be lost")
        _make_private(str(url.database))
    # a statement's values never enter an error message, and so never a log; a lost connection is
    # found before use
    engine = sa.create_engine(
        url, hide_parameters=True, pool_pre_ping=not sqlite, pool_size=10, max_overflow=30
    )
    if sqlite:

        @sa.event.listens_for(engine, "connect")
        def _careful(connection: Any, _: Any) -> None:
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")

    return engine


def _make_private(name: str) -> None:
    if name.startswith("file:"):
        return
    path = Path(name)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            warnings.warn(
                f"{path}: others on this machine may read or change the answers; `chmod 600` it",
                stacklevel=2,
            )
    except OSError:
        pass  # SQLite gives the reason when it opens the file


@dataclass(frozen=True)
class DatabaseFile:
    """The file that a SQLite connection has open, as it was when the server started."""

    path: Path
    identity: tuple[int, int]
    has_log: bool

    @classmethod
    def of(cls, engine: sa.Engine) -> DatabaseFile | None:
        """The file of an engine, None for a database server."""
        if engine.dialect.name != "sqlite":
            return None
        with engine.connect() as connection:
            databases = connection.execute(sa.text("PRAGMA database_list"))
            path = next(Path(row.file) for row in databases if row.name == "main")
            mode = connection.scalar(sa.text("PRAGMA journal_mode"))
        return cls(path, _identity(path), mode == "wal")

    def check(self) -> None:
        """Raise unless the file and its write-ahead log are still in place.

        SQLite goes on writing to a deleted file without an error. Call it within a transaction that
        has written, when the log exists.
        """
        log = self.path.with_name(f"{self.path.name}-wal")
        try:
            is_same = _identity(self.path) == self.identity
        except OSError:
            is_same = False
        if not is_same or (self.has_log and not log.exists()):
            raise DatabaseReplaced(
                f"{self.path}: the database was deleted or replaced while the server was running; "
                "no answer is stored until you put it back and start the server again"
            )


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
