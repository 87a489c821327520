"""The only source of randomness: random numbers that belong to a seed and keys."""

from __future__ import annotations

import hashlib
import json
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def rng(seed: int, *keys: str | int) -> np.random.Generator:
    """Make the random generator of a seed and keys.

    It is the same whatever was drawn before, in any process, on any machine.

    Parameters
    ----------
    seed : int
    *keys : str or int
        What the numbers are for, such as a subject, an image and a sample. Text and whole numbers
        are told apart: "1" is not 1.

    Examples
    --------
    >>> int(rng(0, "subj01", 3, 1).integers(100))
    60
    """
    import numpy as np

    named = [key if isinstance(key, str) else operator.index(key) for key in (seed, *keys)]
    digest = hashlib.blake2b(json.dumps(named).encode(), digest_size=16).digest()
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(int.from_bytes(digest, "big")))
    )
