"""What a process remembers of files, for as long as one command runs.

Notebooks and the workers of a cluster outlive a command, and files may change before the next one.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_clear: list[Callable[[], None]] = []
_command = [uuid.uuid4().hex]


def cached(function: Function) -> Function:
    """Remember the results of a function that reads files until the next command begins."""
    remembering = functools.cache(function)
    _clear.append(remembering.cache_clear)
    return remembering  # type: ignore[return-value]


def current_command() -> str:
    """Name the command that this process works for."""
    return _command[0]


def begin_command() -> None:
    """Forget what was remembered: another command begins, such as a call in a notebook."""
    join_command(uuid.uuid4().hex)


def join_command(name: str) -> None:
    """Work for a command: a worker forgets what it remembered for an earlier one."""
    if name != current_command():
        _command[0] = name
        for clear in _clear:
            clear()
