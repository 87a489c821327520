"""Methods: which predicted features reconstructions are made from, and their baselines."""

from __future__ import annotations

# The features that a mode of reconstruction needs.
MODE_FEATURES = {"z": ("z",), "c": ("c",), "zc": ("z", "c")}
# Where the features of a reconstruction come from: predicted from the brain, predicted by a decoder
# trained on shuffled image-trial pairs, the true features, the mean of the training trials, and c
# of the names of things.
BRAIN = "brain"
SHUFFLED = "shuffled"
TRUE = "true"
MEAN = "mean"
CATEGORY = "category"
SOURCE_NAMES = {SHUFFLED: "shuffled brain", TRUE: "true features"}


def condition_name(mode: str, source: str) -> str:
    """Name a kind of reconstruction for people: "zc", "zc, shuffled brain"."""
    return mode if source == BRAIN else f"{mode}, {SOURCE_NAMES.get(source, source)}"
