"""What the judge can name, and the file of its weights; needs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

JUDGE_FILE = Path(__file__).with_name("judge.safetensors")
CATEGORIES = (
    "face",
    "house",
    "cat",
    "bottle",
    "scissors",
    "shoe",
    "chair",
    "scrambled",
    "car",
    "boat",
    "tree",
    "flower",
    "fish",
    "ball",
    "cup",
    "bird",
    "umbrella",
    "mushroom",
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black")
PLACES = ("beach", "meadow", "snow", "night", "sea", "desert", "city", "forest", "room")


def fingerprint() -> str:
    """Hash of the judge's weights: scores by another judge are other scores."""
    return hashlib.blake2b(JUDGE_FILE.read_bytes(), digest_size=8).hexdigest()
