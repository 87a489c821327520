"""Banded ridge: several feature spaces at once, each with a penalty of its own (Nunez-Elizalde et
al. 2019).

Penalties ``alpha / mix_b`` of the spaces b are searched as Dupré la Tour et al. (2022) do:
candidate mixes, each a set of shares that sum to one, and for every mix the whole grid of alphas.
Every target takes the pair that scores best.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.numerics.ridge.estimator import ALPHAS, checked_alphas
from phosphene.numerics.ridge.factors import Features
from phosphene.numerics.ridge.folds import checked_labels, row_splits
from phosphene.numerics.ridge.maker import Maker
from phosphene.numerics.ridge.scores import LEAST_TEST, Scoring, checked_scoring
from phosphene.numerics.ridge.solving import Block, Blocks, Floats, Scorer, Writer
from phosphene.numerics.ridge.targets import Targets, checked_features, working_dtype

Spaces = Mapping[str, Any]


class BandedRidgeCV(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Ridge regression on several feature spaces, with a penalty for each space chosen for each
    target.

    Minimises ``|y - Σ_b Z_b β_b|² + alpha Σ_b |β_b|² / mix_b`` over β, and chooses alpha and mix by
    cross-validation.

    Parameters
    ----------
    alphas : array_like, (n_alphas,), or "paper"
        As in :class:`phosphene.RidgeCV`.
    mixes : int or array_like, (n_mixes, n_spaces)
        Shares of the spaces to try. An int asks for that many: all equal first, then each space
        alone, then drawn from Dirichlet distributions, in turn of even shares and of few large
        ones. Repeats are dropped.
    cv, scoring, fit_intercept, standardize, target_block
        As in :class:`phosphene.RidgeCV`.
    seed : int
        Of the drawn mixes.

    Attributes
    ----------
    spaces_ : dict of str to slice
        Rows of ``coef_`` of each space.
    mixes_ : ndarray, (n_mixes, n_spaces)
    best_mixes_ : ndarray, (t, n_spaces)
    best_alphas_, best_scores_ : ndarray, (t,)
    coef_ : ndarray, (p, t)
        In units of the raw features.
    intercept_ : ndarray, (t,)
    """

    def __init__(
        self,
        alphas: ArrayLike | str = ALPHAS,
        mixes: int | ArrayLike = 30,
        cv: Any = 5,
        scoring: Scoring = "r2",
        fit_intercept: bool = True,
        standardize: bool = True,
        seed: int = 0,
        target_block: int = 0,
    ) -> None:
        self.alphas = alphas
        self.mixes = mixes
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.seed = seed
        self.target_block = target_block

    def fit(self, spaces: Spaces, Y: Any, groups: ArrayLike | None = None) -> BandedRidgeCV:
        """Choose a mix and a penalty for every target and fit on all rows.

        Parameters
        ----------
        spaces : mapping of str to array_like, (n, p_b)
            The feature spaces.
        Y, groups
            As in :meth:`phosphene.RidgeCV.fit`; targets on disk are read once per mix.
        """
        X = self._joined(spaces)
        labels = checked_labels(groups, len(X))
        splits = row_splits(len(X), self.cv, labels, LEAST_TEST[checked_scoring(self.scoring)])
        targets = Targets(Y, len(X), labels)
        alphas = checked_alphas(self.alphas)
        self.mixes_ = self._drawn()
        dtype = working_dtype(X, targets)
        features = Features.prepare(X, self.fit_intercept, self.standardize, dtype)
        maker = Maker(features, targets.rows, int(targets.rows.max()) + 1, keep=True)
        t = targets.n_targets
        self.best_scores_ = np.full(t, -np.inf)
        self.best_alphas_ = np.ones(t)
        self.best_mixes_ = np.zeros((t, len(self.spaces_)))
        self.coef_ = np.zeros((X.shape[1], t), np.float32 if dtype == torch.float32 else np.float64)
        self.intercept_ = np.zeros(t, self.coef_.dtype)
        for mix in self.mixes_:
            weights = np.repeat(
                np.sqrt(mix), [rows.stop - rows.start for rows in self.spaces_.values()]
            )
            parts = maker.weighted(torch.from_numpy(weights).to(X.device)).decomposition(
                splits, alphas
            )
            scorer = Scorer(parts, parts.folds, alphas, self.scoring)
            writer = Writer(parts, self.coef_, self.intercept_)
            for block in Blocks(parts, targets, self.target_block):
                self._improve(mix, alphas, block, scorer(block) / len(splits), writer)
        return self

    def _improve(
        self, mix: Floats, alphas: Floats, block: Block, scores: Floats, writer: Writer
    ) -> None:
        """Take this mix for the targets that it suits better than any before."""
        better = np.flatnonzero(scores.max(axis=0) > self.best_scores_[block.columns])
        if not len(better):
            return
        best = alphas[scores.argmax(axis=0)[better]]
        index = np.arange(block.columns.start, block.columns.stop)[better]
        self.best_scores_[index] = scores.max(axis=0)[better]
        self.best_alphas_[index] = best
        self.best_mixes_[index] = mix
        writer.write(block.some(better), best, index)

    def predict(self, spaces: Spaces) -> NDArray[Any]:
        """Predict targets (n, t) from the spaces of :meth:`fit`."""
        parts = self.predict_spaces(spaces)
        return np.asarray(sum(parts.values()) + self.intercept_)

    def predict_spaces(self, spaces: Spaces) -> dict[str, NDArray[Any]]:
        """Give what every space adds to the prediction, (n, t) each; with ``intercept_`` they sum
        to it.
        """
        self.check_spaces(spaces)
        features = {name: checked_features(X).cpu().numpy() for name, X in spaces.items()}
        return {name: features[name] @ self.coef_[rows] for name, rows in self.spaces_.items()}

    def check_spaces(self, spaces: Spaces) -> None:
        """Refuse spaces that are not those of :meth:`fit`."""
        if list(spaces) != list(self.spaces_):
            raise PhospheneError(
                f"BandedRidgeCV: found spaces {', '.join(spaces)}, expected "
                f"{', '.join(self.spaces_)} as in fit."
            )
        for name, rows in self.spaces_.items():
            if np.ndim(spaces[name]) != 2 or np.shape(spaces[name])[1] != rows.stop - rows.start:
                raise PhospheneError(
                    f"BandedRidgeCV: space {name} must be (n, {rows.stop - rows.start}) as in fit, "
                    f"found {np.shape(spaces[name])}."
                )

    def _joined(self, spaces: Spaces) -> Tensor:
        """Check the spaces and put them side by side, (n, p)."""
        if not isinstance(spaces, Mapping) or not spaces:
            raise PhospheneError(
                "BandedRidgeCV: spaces must be a dict of names and arrays (n, p), at least one."
            )
        parts = {name: checked_features(X) for name, X in spaces.items()}
        lengths = {name: len(X) for name, X in parts.items()}
        if len(set(lengths.values())) > 1:
            raise PhospheneError(
                f"BandedRidgeCV: all spaces must have the same rows, found {lengths}."
            )
        ends = np.cumsum([X.shape[1] for X in parts.values()]).tolist()
        self.spaces_ = {
            n: slice(end - X.shape[1], end) for (n, X), end in zip(parts.items(), ends, strict=True)
        }
        return torch.cat(list(parts.values()), dim=1)

    def _drawn(self) -> Floats:
        """Candidate mixes (n_mixes, n_spaces), each summing to one."""
        b = len(self.spaces_)
        if isinstance(self.mixes, (int, np.integer)):
            if self.mixes < 1:
                raise PhospheneError(f"BandedRidgeCV: mixes must be 1 or more, found {self.mixes}.")
            random = np.random.default_rng(self.seed)
            drawn = [random.dirichlet(np.full(b, 1.0 if k % 2 else 0.1)) for k in range(self.mixes)]
            return distinct(np.array([np.full(b, 1 / b), *np.eye(b), *drawn])[: self.mixes])
        mixes = np.atleast_2d(np.asarray(self.mixes, dtype=np.float64))
        if (
            mixes.shape[1:] != (b,)
            or not np.isfinite(mixes).all()
            or mixes.min() < 0
            or not mixes.sum(axis=1).all()
        ):
            raise PhospheneError(
                f"BandedRidgeCV: mixes must be (n, {b}) shares, not negative, found {mixes.shape}."
            )
        return distinct(mixes / mixes.sum(axis=1, keepdims=True))


def distinct(mixes: Floats) -> Floats:
    """Drop mixes that were there before: a space that is left alone has one, however many were
    asked for.
    """
    first = np.unique(mixes.round(12), axis=0, return_index=True)[1]
    return np.asarray(mixes[np.sort(first)])
