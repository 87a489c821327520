"""The table of faults names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", TABLE)
LINE = re.compile(r"^\| ([A-F]\d+) \|.*\| (closed|partly: .+|open: .+) \|$", re.MULTILINE)
LAST = {"A": 12, "B": 11, "C": 12, "D": 15, "E": 7, "F": 11}


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_every_test_that_the_table_names_is_there(file: str, test: str) -> None:
    assert re.search(rf"^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_row_has_a_line() -> None:
    rows = [f"{section}{k}" for section, last in LAST.items() for k in range(1, last + 1)]
    assert sorted(name for name, _ in LINE.findall(TABLE)) == sorted(rows)
