"""Ridge regression with many targets: exact K-fold scores of a whole grid of penalties at nearly the price of one.

``estimator`` RidgeCV · ``banded`` a penalty for every feature space · ``factors`` what depends on X alone, ``maker``
how it is made · ``scores`` what a penalty is worth · ``targets`` blocks of targets from memory or disk · ``folds``
which rows are held out · ``saving`` decompositions on disk. Arrays in, arrays out; tensors stay on their device.
"""

from phosphene.ridge.banded import BandedRidgeCV, unique_variance
from phosphene.ridge.estimator import PAPER_ALPHAS, RidgeCV
from phosphene.ridge.factors import Decomposition
from phosphene.ridge.saving import load, save
from phosphene.ridge.targets import Repeated

__all__ = [
    "PAPER_ALPHAS", "BandedRidgeCV", "Decomposition", "Repeated", "RidgeCV", "load", "save", "unique_variance",
]  # fmt: skip
