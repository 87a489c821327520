"""Comparisons of a GPU with the CPU; they are collected only where there is a CUDA device.

`PHOSPHENE_TEST_DEVICE=cpu` compares the CPU with itself, which exercises this code without a GPU.
"""

from __future__ import annotations

import os

import pytest
import torch

DEVICE = os.environ.get("PHOSPHENE_TEST_DEVICE") or ("cuda" if torch.cuda.is_available() else "")
collect_ignore_glob = [] if DEVICE else ["test_*.py"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """State that the comparisons were not run, rather than count them as skipped tests."""
    if not DEVICE:
        terminalreporter.write_line(
            "tests/gpu: not collected, no CUDA device (docs/gpu.md).", yellow=True
        )


@pytest.fixture(scope="session")
def device() -> str:
    """Device that is compared with the CPU."""
    return DEVICE
