"""The judge: an independent classifier of drawn scenes, and its weights."""

from phosphene.models.judge.network import (
    CATEGORIES,
    COLOURS,
    JUDGE_FILE,
    PLACES,
    Judge,
    fingerprint,
    judge_labels,
    load_judge,
)

__all__ = [
    "CATEGORIES",
    "COLOURS",
    "JUDGE_FILE",
    "PLACES",
    "Judge",
    "fingerprint",
    "judge_labels",
    "load_judge",
]
