"""Fit a model to a block of voxels: mix and penalty by cross-validation, scores on test images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from phosphene.encoding.design import Design, Floats, Rows
from phosphene.numerics import correlation, ridge
from phosphene.numerics.ridge import Decomposition, RidgeCV


@dataclass(frozen=True)
class Voxels:
    """Responses of a block of voxels that have data in every session.

    Attributes
    ----------
    train : ndarray of float32, (n_train_images, v)
        Averaged over trials, centred on all training trials, rows weighted as :class:`Design`.
    test : ndarray of float64, (n_test_images, v)
        Averaged over trials; the mean of the training trials taken off.
    covered : ndarray of bool, (n_voxels of the block,)
    """

    train: Rows
    test: Floats
    covered: NDArray[np.bool_]

    def spread(self, values: Floats) -> Floats:
        """Put values of the covered voxels, (..., v), at their places among all of the block; NaN
        elsewhere.
        """
        whole = np.full((*values.shape[:-1], len(self.covered)), np.nan)
        whole[..., self.covered] = values
        return whole


@dataclass
class _Best:
    """The best mix so far for every voxel, by cross-validation: what it predicts, space by
    space.
    """

    score: Floats
    alpha: Floats
    mix: Floats
    parts: Floats  # (n_spaces, n_test, v)

    @classmethod
    def none(cls, n_spaces: int, n_test: int, v: int) -> _Best:
        return cls(
            np.full(v, -np.inf),
            np.ones(v),
            np.zeros((n_spaces, v)),
            np.zeros((n_spaces, n_test, v)),
        )

    def improve(self, score: Floats, alpha: Floats, mix: Floats, parts: Floats) -> None:
        better = score > self.score
        self.score[better] = score[better]
        self.alpha[better] = alpha[better]
        self.mix[:, better] = mix[:, None]
        self.parts[:, :, better] = parts[:, :, better]


def fit_block(
    known: Design,
    voxels: Voxels,
    shares: Floats,
    ridge_cv: RidgeCV,
    decomposed: Callable[[int], Decomposition],
) -> dict[str, Floats]:
    """Choose mix and penalty for every voxel of a block, predict its responses to the test pictures
    and score them.

    Parameters
    ----------
    known : Design
    voxels : Voxels
    shares : ndarray, (n_mixes, n_spaces)
        As :func:`phosphene.encoding.models.mixes` gives them.
    ridge_cv : RidgeCV
        Its settings.
    decomposed : callable
        Gives the decomposition of mix k of ``known.train``.

    Returns
    -------
    dict of str to ndarray
        r, r2, alpha, prediction, and for several spaces mix, unique, product, without: the arrays
        of :class:`phosphene.steps.encode.models.Encode`, without voxels that are not covered.
    """
    b = shares.shape[1]
    (n_test, v) = voxels.test.shape
    best = _Best.none(b, n_test, v)
    without = [_Best.none(b, n_test, v) for _ in range(b if b > 1 else 0)]
    for index, mix in enumerate(shares):
        fitted = clone(ridge_cv).fit(decomposed(index), voxels.train)
        coef = fitted.coef_
        test = known.mixed(mix, known.test)
        parts = np.zeros((b, n_test, v))
        for space, rows in known.parts(mix).items():
            parts[space] = test[:, rows] @ coef[rows]
        found = fitted.cv_scores_.max(axis=0), fitted.best_alphas_, mix, parts
        best.improve(*found)
        for space, left_out in enumerate(without):
            if mix[space] == 0:
                left_out.improve(*found)
    prediction = best.parts.sum(axis=0)
    r = correlation.correlation(voxels.test, prediction)
    r2 = correlation.r2(voxels.test, prediction)
    results = {"r": r, "r2": r2, "alpha": best.alpha, "prediction": prediction}
    if b > 1:
        rest = np.array([left_out.parts.sum(axis=0) for left_out in without])
        lost = [r2 - correlation.r2(voxels.test, predicted) for predicted in rest]
        product = ridge.product_measure(voxels.test, best.parts)
        results |= {"mix": best.mix, "unique": np.array(lost), "product": product, "without": rest}
    return results
