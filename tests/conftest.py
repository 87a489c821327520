"""What several test modules need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from support.environment import ENVIRONMENT
from support.haxby_data import full
from support.laion_data import root
from support.own_data import folder

__all__ = ["folder", "full", "root"]  # fixtures of several test modules


@pytest.fixture
def start_python() -> Callable[..., subprocess.Popen[str]]:
    """Start a Python process on a piece of code; its arguments follow."""

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)

    return start


@pytest.fixture
def replace_everywhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType, str, Any], None]:
    """Replace a function of the package in its own module and in all that imported it."""

    def replace(home: ModuleType, name: str, value: Any) -> None:
        original = getattr(home, name)
        for module in [m for n, m in sys.modules.items() if n.partition(".")[0] == "phosphene"]:
            if vars(module).get(name) is original:
                monkeypatch.setattr(module, name, value)

    return replace
