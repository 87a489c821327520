"""Personal links: made from one secret on this machine, so that they can be printed again and
guessed by nobody.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import io
import os
import secrets
import warnings
from collections.abc import Mapping
from pathlib import Path

from phosphene.errors import PhospheneError

BYTES = 24  # of a token: 192 bits


def private(folder: Path) -> None:
    """Make a folder that nobody but its owner may look into: answers are about people."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def secret(path: Path) -> bytes:
    """Read the secret of a trial list, made when it is not there; nobody but its owner may read
    it.
    """
    private(path.parent)
    try:
        _write(path, secrets.token_hex(32).encode(), os.O_EXCL)
    except FileExistsError:
        pass
    text = path.read_text(encoding="ascii", errors="replace").strip()
    if len(text) < 64:
        raise PhospheneError(
            f"{path}: holds no secret (found {len(text)} characters); remove it for new links."
        )
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
        if path.stat().st_mode & 0o077:
            warnings.warn(
                f"{path}: others on this machine can read it, and so know all links", stacklevel=2
            )
    return text.encode()


def token(secret: bytes, name: str) -> str:
    """The secret part of a link: HMAC-SHA256 of its name, as text that fits an address."""
    digest = hmac.new(secret, name.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:BYTES]).decode()


def addresses(base_url: str, tokens: Mapping[int, str], admin: str) -> dict[str, str]:
    """Every link under its name: rater00, rater01, ..., admin."""
    base = base_url.rstrip("/")
    found = {f"rater{slot:02d}": f"{base}/r/{value}" for slot, value in sorted(tokens.items())}
    return found | {"admin": f"{base}/a/{admin}"}


def write(path: Path, found: Mapping[str, str]) -> None:
    """Write links as CSV that only its owner may read."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([("name", "link"), *found.items()])
    aside = path.with_suffix(".tmp")
    aside.unlink(missing_ok=True)
    _write(aside, stream.getvalue().encode(), os.O_EXCL)
    os.replace(aside, path)


def _write(path: Path, data: bytes, flags: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600), "wb") as file:
        file.write(data)
