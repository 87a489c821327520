"""What a user reads when a command fails: one sentence, whatever went wrong."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable
from pathlib import Path

from phosphene import __version__
from phosphene.disk import free_space
from phosphene.errors import PhospheneError

OUT_OF_MEMORY = "out of memory; use a smaller --batch or fewer --jobs"


def sentence(error: BaseException) -> str:
    """Say in one sentence what went wrong and what to do.

    Parameters
    ----------
    error : BaseException
        One that a user can mend is said as it is; anything else is a fault of phosphene, which the
        sentence asks to report.
    """
    if isinstance(error, PhospheneError):
        return printable(str(error))
    # torch's own error is a RuntimeError of this name; torch may not be loaded
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OUT_OF_MEMORY
    if isinstance(error, OSError):
        return printable(_of_system(error))
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    place = f" in {Path(frame[0].filename).name}, line {frame[0].lineno}" if frame else ""
    text = " ".join(str(error).split())[:300]
    return printable(
        f"{type(error).__name__}{place}: {text}. This is a fault of phosphene {__version__}: "
        "please report it, with what the same command prints with -v."
    )


def printable(text: str) -> str:
    """Replace control characters, such as those in names of files, by what Python shows of them."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _of_system(error: OSError) -> str:
    """An error of the operating system: which file, and what to do."""
    if not error.filename or error.errno is None:
        return str(error)
    path = Path(os.fsdecode(error.filename))
    remedy = _REMEDIES.get(error.errno)
    return f"{path}: {remedy(path) if remedy else error.strerror}"


def _full(path: Path) -> str:
    free = free_space(path) / 1e9
    return (
        f"its disk is full ({free:.1f} GB free); make room, or put results elsewhere with --root; "
        "finished parts are kept"
    )


def _forbidden(path: Path) -> str:
    if path.exists() and not os.access(path, os.R_OK):
        return "you may not read it; ask its owner"
    return (
        "you may not write here; use --root with a folder of your own (copy the results there to "
        "keep what is done)"
    )


_REMEDIES: dict[int, Callable[[Path], str]] = {
    errno.ENOSPC: _full,
    errno.EDQUOT: lambda path: (
        "your quota on its disk is used up; make room, or put results elsewhere with --root; "
        "finished parts are kept"
    ),
    errno.EACCES: _forbidden,
    errno.EPERM: _forbidden,
    errno.EROFS: _forbidden,
    errno.ENAMETOOLONG: lambda path: "is too long a name; use shorter names, or a folder higher up",
    errno.EMFILE: lambda path: "too many files are open; raise the limit (ulimit -n)",
    errno.EIO: lambda path: "its disk cannot be read; copy the file again from where it came",
    errno.ENOENT: lambda path: "is not there",
    errno.EISDIR: lambda path: "is a folder, expected a file",
    errno.ENOTDIR: lambda path: "a part of this path is a file, expected folders",
}
