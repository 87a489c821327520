"""One line of the audit: a check, what was found and expected, a verdict and a plain sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "look", "fault", "not asked"]
OK: Verdict = "ok"
LOOK: Verdict = "look"
FAULT: Verdict = "fault"
NOT_ASKED: Verdict = "not asked"


@dataclass(frozen=True)
class Line:
    """One line of the audit."""

    check: str
    found: str
    expected: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Score:
    """Identification accuracy, 0 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{percent(self.value)} ({100 * self.low:.1f} to {100 * self.high:.1f})"

    @property
    def error(self) -> float:
        """Standard error of the accuracy: a 95 % interval reaches 1.96 to either side."""
        return (self.high - self.low) / 3.92

    @property
    def above(self) -> bool:
        """Whether it is above chance."""
        return self.low > 0.5


def percent(share: float) -> str:
    """Write a share for people."""
    return f"{100 * share:.1f} %"


def not_computed(check: str, expected: str) -> Line:
    """Say that a number could not be computed (NaN), which is no good sign."""
    text = "The number could not be computed (NaN): look at the values that it is computed from."
    return Line(check, "not a number", expected, LOOK, text)


def not_asked(check: str, why: str) -> Line:
    """Say that a question has no answer here."""
    return Line(check, "–", "–", NOT_ASKED, f"Cannot be asked: {why}.")
