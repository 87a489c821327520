"""Which kinds of reconstruction an audit compares; needs no torch."""

from __future__ import annotations

from collections.abc import Collection

from phosphene.methods import BRAIN, CATEGORY, MEAN, MODE_FEATURES, SHUFFLED, TRUE

Condition = tuple[str, str]
"""Mode and source of pictures."""


def compared_conditions(
    mode: str, features: Collection[str], has_categories: bool
) -> list[Condition]:
    """Every kind of picture that is compared.

    Parameters
    ----------
    mode : str
        The mode that uses most features.
    features : collection of str
        What is decoded.
    has_categories : bool
        Whether the names of things in test pictures are known.
    """
    kinds = [(mode, source) for source in (BRAIN, SHUFFLED, TRUE, MEAN)]
    halves = [
        half for half, needs in MODE_FEATURES.items() if len(needs) == 1 and needs[0] in features
    ]
    kinds += [(half, BRAIN) for half in halves]
    if "c" in features:
        kinds += [("c", TRUE), *([("c", CATEGORY)] if has_categories else [])]
    return list(dict.fromkeys(kinds))
