"""Ridge regression with many targets: exact K-fold scores of a whole grid of penalties at nearly
the price of one.

``estimator`` RidgeCV · ``banded`` a penalty for every feature space, ``variance`` what each of them
explains · ``factors`` what depends on X alone, ``maker`` how it is made · ``scores`` what a penalty
is worth · ``targets`` blocks of targets from memory or disk · ``folds`` which rows are held out ·
``saving`` decompositions on disk. Arrays in, arrays out; tensors stay on their device.
"""

from phosphene.numerics.ridge.banded import BandedRidgeCV
from phosphene.numerics.ridge.estimator import PAPER_ALPHAS, RidgeCV
from phosphene.numerics.ridge.factors import Decomposition
from phosphene.numerics.ridge.saving import load, save
from phosphene.numerics.ridge.targets import Repeated
from phosphene.numerics.ridge.variance import leave_one_out, product_measure, variance_by_space

__all__ = [
    "PAPER_ALPHAS",
    "BandedRidgeCV",
    "Decomposition",
    "Repeated",
    "RidgeCV",
    "leave_one_out",
    "load",
    "product_measure",
    "save",
    "variance_by_space",
]
