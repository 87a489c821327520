"""Files: whole or not at all, known by their contents."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from phosphene.errors import PhospheneError

Entry = tuple[int, str]
"""Size in bytes and SHA-256 of a file."""

_digests: dict[
    tuple[str, int, int], str
] = {}  # (path, mtime_ns, size) -> sha256: a file is read once per process
_hashes: dict[str, str] = {}  # name of `_remembered` -> content hash, of this process
# files up to 1 MiB are read anew by every process, hashes of larger ones are kept on disk
SMALL_FILE = 1 << 20
BLOCK = 1 << 24
# Seconds: a younger file may change again without a change of its times, within their resolution
# or, through a memory map, until the system has written its pages (30 s on Linux).
SETTLED = 60.0
# What Windows and macOS leave in folders, in lower case; names with a dot in front come on top.
FOREIGN = ("thumbs.db", "desktop.ini", "__macosx")
FIRST_LINE = 2.0  # seconds of hashing before the first line of progress
NEXT_LINE = 10.0  # seconds between lines


def is_foreign(path: Path) -> bool:
    """Whether some component of a path is hidden, or a file or folder of the operating system."""
    return any(name.startswith(".") or name.lower() in FOREIGN for name in path.parts)


def exists(path: Path) -> bool:
    """Whether a file or folder of a user is there.

    Raises
    ------
    PhospheneError
        When it is a link to a file that is not here, as git-annex and DataLad leave for contents
        that were not fetched: taken as absent, it would change results without a word.
    """
    if path.exists():
        return True
    if path.is_symlink():
        raise PhospheneError(
            f"{path}: is a link to a file that is not here; get it (`datalad get {path.name}` in "
            "its folder) or remove the link"
        )
    return False


def check_file(path: Path) -> None:
    """Refuse what cannot be read like a file, and might be waited for without end.

    Raises
    ------
    PhospheneError
        When it is a folder, a device, a pipe, or a link to a file that is not here.
    FileNotFoundError
        When it is not there.
    """
    if not exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise PhospheneError(f"{path}: is {what}; expected a file")


def expand_home(path: str | Path) -> Path:
    """Replace a leading ``~`` by the user's home folder; refuse it for users without one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise PhospheneError(
            f"{path}: begins with ~, but there is no such home folder; write the whole path"
        ) from None


def list_files(folder: Path, pattern: str = "*") -> list[Path]:
    """List the files of a folder of a user, without hidden and foreign ones (:func:`is_foreign`).

    Parameters
    ----------
    folder : Path
        It need not exist; what its own path is called does not matter.
    pattern : str
        As for :meth:`pathlib.Path.glob`, such as ``"**/*.jpg"``.

    Returns
    -------
    list of Path
        Sorted; links to files are files. A link to a file that is not here is listed too: whoever
        reads it names it, where a file left out would be missed by nobody.
    """
    return sorted(
        path
        for path in folder.glob(pattern)
        if not is_foreign(path.relative_to(folder))
        if path.is_file() or (path.is_symlink() and not path.exists())
    )


def fingerprint(start: str, root: Path, paths: Iterable[Path]) -> str:
    """Hash names under `root`, sizes and whole contents of files: a copy elsewhere hashes the
    same.
    """
    files = sorted({path for path in paths if exists(path) and path.is_file()})
    digest = hashlib.blake2b(start.encode(), digest_size=16)
    for path, content in zip(files, content_hashes(files), strict=True):
        digest.update(
            f"\0{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0{content}".encode()
        )
    return digest.hexdigest()


def content_hashes(paths: Sequence[Path]) -> list[str]:
    """BLAKE2b of whole files.

    Hashes of large files are kept in the user's cache folder and taken from there while path, size,
    times of modification and of change, and inode stay the same. A line on stderr tells how far it
    is.
    """
    stats = [path.stat() for path in paths]
    names = [_hash_name(path, stat) for path, stat in zip(paths, stats, strict=True)]
    known = [_remembered(name) for name in names]
    progress = _Progress(
        sum(stat.st_size for stat, hash_ in zip(stats, known, strict=True) if not hash_)
    )
    hashes = []
    for path, stat, name, content in zip(paths, stats, names, known, strict=True):
        if not content:
            content = _hashed(path, progress)
            settled = time.time() - max(stat.st_mtime, stat.st_ctime) > SETTLED
            if settled and _hash_name(path, path.stat()) == name:
                _hashes[name] = content
                if stat.st_size > SMALL_FILE:
                    _remember(name, content)
        hashes.append(content)
    return hashes


def _hashed(path: Path, progress: _Progress) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress.add(len(block), path)
    return digest.hexdigest()


def _hash_name(path: Path, stat: os.stat_result) -> str:
    """Name under which the hash of a file in this state is kept."""
    state = (
        os.path.abspath(path),
        stat.st_size,
        stat.st_mtime_ns,
        stat.st_ctime_ns,
        stat.st_ino,
        stat.st_dev,
    )
    return hashlib.blake2b(
        "\0".join(map(str, state)).encode(errors="surrogateescape"), digest_size=16
    ).hexdigest()


def _remembered(name: str) -> str:
    if name not in _hashes:
        path = cache_folder() / "hashes" / name
        try:
            if path.stat().st_uid != os.geteuid():  # what others wrote is not believed
                return ""
            text = path.read_text()
        except (OSError, ValueError):
            return ""
        if not re.fullmatch("[0-9a-f]{32}", text):
            return ""
        _hashes[name] = text
    return _hashes[name]


def _remember(name: str, content: str) -> None:
    """Keep a hash on disk; where that is impossible the file is read again next time."""
    target = cache_folder() / "hashes" / name
    aside = target.with_name(f"{socket.gethostname()}+{os.getpid()}+{uuid.uuid4().hex}")
    with contextlib.suppress(OSError):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.write_text(content)
        os.replace(aside, target)


@lru_cache(maxsize=1)
def _temporary_cache() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="phosphene-"))
    warnings.warn(
        f"this user has no home folder, so the cache is in {folder}; name one for later runs by "
        "XDG_CACHE_HOME",
        stacklevel=3,
    )
    return folder


def cache_folder() -> Path:
    """``phosphene`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; a temporary folder for users without a
    home.
    """
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        folder = _temporary_cache()
    return folder / "phosphene"


class _Progress:
    """Lines on stderr while files are hashed."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.next_line = time.monotonic() + FIRST_LINE

    def add(self, n_bytes: int, path: Path) -> None:
        self.done += n_bytes
        if time.monotonic() >= self.next_line:
            text = (
                f"hashing inputs once: {self.done / 1e9:.1f} of {self.total / 1e9:.1f} GB, "
                f"{path.name}"
            )
            print(text, file=sys.stderr, flush=True)
            self.next_line = time.monotonic() + NEXT_LINE


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


def suspicious(path: str, finished: int, size: int, sha256: str) -> bool:
    """Whether a file is not as it was written; it is read only if it is younger than `finished`
    (time in ns).
    """
    try:
        stat = os.stat(path)  # thousands of files: without the cost of a Path for each
    except FileNotFoundError:
        return True
    changed = stat.st_size != size
    return changed or (stat.st_mtime_ns > finished and bool(fault(Path(path), size, sha256)))


def move(source: Path, target: Path) -> None:
    """Move over `target`; its folder may vanish meanwhile, when another process finishes the same
    artefact.
    """
    for attempt in range(5):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(source, target)
            return
        except FileNotFoundError:
            if attempt == 4:
                raise


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    n_bytes = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a study that is running moves files
                n_bytes += os.lstat(os.path.join(place, name)).st_size
    return n_bytes


def free_space(path: Path) -> int:
    """Bytes free on the disk where a file or folder is or will be."""
    path = path.absolute()
    return shutil.disk_usage(next(place for place in (path, *path.parents) if place.exists())).free


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what processes of this machine that no longer live left half-written."""
    for file in folder.glob(f"{socket.gethostname()}+*"):
        try:
            os.kill(int(file.name.split("+")[1]), 0)
        except ProcessLookupError:
            remove(file)
        except PermissionError:
            pass  # alive, another user's
