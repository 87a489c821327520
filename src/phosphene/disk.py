"""Files: whole or not at all, known by their contents."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Entry = tuple[int, str]
"""Size in bytes and SHA-256 of a file."""

_digests: dict[tuple[str, int, int], str] = {}  # (path, mtime_ns, size) -> sha256: a file is read once per process
SMALL_FILE, END = 1 << 20, 1 << 16  # fingerprint(): files up to 1 MiB are read whole, of others 64 KiB at both ends


def fingerprint(start: str, root: Path, paths: Iterable[Path]) -> str:
    """Hash names under `root`, sizes and contents (of large files, both ends): a copy elsewhere hashes the same."""
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for path in sorted(path for path in paths if path.is_file()):
        size = path.stat().st_size
        digest.update(f"\0{path.relative_to(root).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= SMALL_FILE:
                digest.update(file.read())
            else:
                digest.update(file.read(END))
                file.seek(-END, 2)
                digest.update(file.read())
    return digest.hexdigest()


def scalar(value: Any) -> Any:
    """NumPy scalars in a recipe as plain numbers."""
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        return value.item()
    raise TypeError(f"a recipe holds JSON values only, found {value!r}")


def to_json(value: Any, indent: int | None = None) -> bytes:
    """JSON as bytes."""
    return (json.dumps(value, indent=indent, default=scalar) + "\n").encode()


def parsed(data: bytes) -> Any:
    """JSON, or None when it is damaged."""
    try:
        return json.loads(data)
    except ValueError:
        return None


def entry(path: Path) -> Entry:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def fault(path: Path, size: int, sha256: str) -> str:
    """What is wrong with a file, "" when nothing is."""
    try:
        stat = path.stat()
        if stat.st_size != size:
            return f"has {stat.st_size} bytes where {size} were written"
        key = (str(path), stat.st_mtime_ns, stat.st_size)
        if key not in _digests:
            _digests[key] = entry(path)[1]
    except FileNotFoundError:
        return "is missing"
    return "" if _digests[key] == sha256 else "has changed since it was written"


def move(source: Path, target: Path) -> None:
    """Move over `target`; its folder may vanish meanwhile, when another process finishes the same artefact."""
    for attempt in range(5):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(source, target)
            return
        except FileNotFoundError:
            if attempt == 4:
                raise


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that no longer live left half-written."""
    for file in folder.glob(f"{socket.gethostname()}+*"):
        try:
            os.kill(int(file.name.split("+")[1]), 0)
        except ProcessLookupError:
            if file.is_dir():
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)
        except PermissionError:
            pass  # alive, another user's
