"""A PostgreSQL server of its own in a temporary folder, for tests and benchmarks."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MISSING = (
    "no PostgreSQL server on this machine (initdb was not found); `make postgresql` installs it"
)


def programs() -> Path | None:
    """The folder that holds initdb, of the newest version that is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3])
    )
    at = found[-1] if found else shutil.which("initdb")
    return Path(at).resolve().parent if at else None


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server that listens on a socket in its own folder only; yields its SQLAlchemy URL.

    PostgreSQL refuses to run as root: it is run as `postgres` or `nobody` then.
    """
    # short: the name of a socket may have 107 bytes
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    binaries = programs()
    user = pwd.getpwuid(os.getuid()).pw_name
    prefix = []
    assert binaries is not None, MISSING
    if os.getuid() == 0:
        names = {entry.pw_name for entry in pwd.getpwall()}
        user = "postgres" if "postgres" in names else "nobody"
        shutil.chown(folder, user)
        prefix = ["runuser", "-u", user, "--"]

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            [*prefix, *map(str, command)], capture_output=True, text=True, cwd="/tmp"
        )
        assert done.returncode == 0, done.stdout + done.stderr

    data = folder / "data"
    log = folder / "log"
    control = (binaries / "pg_ctl", "-D", data, "-w", "-l", log)
    try:
        run(
            binaries / "initdb",
            "-D",
            data,
            "-U",
            user,
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        )
        run(*control, "-o", f"-c listen_addresses='' -k {folder}", "start")
        try:
            yield f"postgresql+psycopg://{user}@/postgres?host={folder}"
        finally:
            run(*control, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
