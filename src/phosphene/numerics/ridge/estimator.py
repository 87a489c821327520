"""The estimator: penalties chosen by cross-validation, coefficients and predictions in blocks of
targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.numerics.ridge.factors import Decomposition, Features, Fold
from phosphene.numerics.ridge.folds import Rows, checked_labels, row_splits
from phosphene.numerics.ridge.maker import Maker
from phosphene.numerics.ridge.scores import LEAST_TEST, Scoring, checked_scoring
from phosphene.numerics.ridge.solving import Blocks, Floats, Scorer, Writer, as_kind, empty
from phosphene.numerics.ridge.targets import (
    Targets,
    as_tensor,
    checked_features,
    checked_rows,
    release,
    working_dtype,
)

ALPHAS = tuple(float(a) for a in np.logspace(0, 6, 13))
PAPER_ALPHAS = tuple(float(a) for a in np.logspace(-6, 0, 7))  # the released code's grid


class RidgeCV(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Ridge regression whose penalty is chosen by cross-validation, for thousands of targets at
    once.

    Minimises ``|y - Z b|² + alpha |b|²`` per target, as scikit-learn does. The scores of every
    penalty are exact, not approximated, and cost hardly more than those of one: see
    :func:`phosphene.numerics.ridge.scores.quadratic`.

    Parameters
    ----------
    alphas : array_like, (n_alphas,), or "paper"
        Penalties to try, positive; "paper" is the grid of the authors' released code, 1e-6 to 1.
    cv : int, splitter or iterable of (train, test)
        An int means that many contiguous folds, or with ``groups`` folds that keep each group whole
        (scikit-learn's KFold, GroupKFold: deterministic). Otherwise a scikit-learn splitter or
        explicit row numbers.
    scoring : {"r2", "neg_mean_squared_error", "correlation"}
        Score of a fold; folds count equally. A fold in which a target is constant scores 0 for R²
        and correlation.
    fit_intercept : bool
        Centre X and Y by the means of the training part.
    standardize : bool
        Divide each column of X by its standard deviation in the training part, as StandardScaler
        does. Columns that are constant there are left undivided.
    per_target : bool
        Choose a penalty for each target, or one for all by their mean score.
    target_block : int
        Targets worked on at a time; 0 chooses a block whose temporary arrays take about 64 MiB.

    Attributes
    ----------
    best_alphas_ : ndarray of float64, (t,)
    cv_scores_ : ndarray of float64, (n_alphas, t)
        Mean over folds, in the order of ``alphas``.
    coef_ : array, (p, t) or (p,)
        In units of the raw X; float32 when X and Y are float32, else float64. A tensor on the
        device of X when X is a tensor; whatever was given as ``coef`` to :meth:`fit`.
    intercept_ : array, (t,) or a number
    dual_coef_, X_fit_ : array, (n, t) or (n,), and (n, p)
        What is kept in place of ``coef_``, which is ``X_fit_.T @ dual_coef_``, when samples are not
        more than features and no ``coef`` is given; otherwise None.

    Notes
    -----
    Work is done in the precision of the data; Gram matrices and the eigendecompositions of the
    final fit are always float64, those of the folds are float32 where its error cannot matter.
    Memory beside X, Y and coefficients: a centred copy of X, about seven (p, p) matrices while a
    fold is made (n x n when n <= p), and blocks of targets. A decomposition, and a fit to targets
    on disk, keep two more for every fold.
    """

    def __init__(
        self,
        alphas: ArrayLike | str = ALPHAS,
        cv: Any = 5,
        scoring: Scoring = "r2",
        fit_intercept: bool = True,
        standardize: bool = True,
        per_target: bool = True,
        target_block: int = 0,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
        self.fit_intercept = fit_intercept
        self.standardize = standardize
        self.per_target = per_target
        self.target_block = target_block

    def decompose(
        self,
        X: ArrayLike | Tensor,
        groups: ArrayLike | None = None,
        rows: Rows | None = None,
        dtype: Any = None,
    ) -> Decomposition:
        """Do all work that depends on X alone, once for any number of targets.

        Parameters
        ----------
        X : array_like or tensor, (n, p)
        groups : array_like, (n,), optional
            Rows of one group stay in one fold.
        rows : ndarray of int, (n,), optional
            Distinct target row of every row of X, as in :class:`phosphene.numerics.ridge.Repeated`.
        dtype : torch.dtype, optional
            Precision of the work; by default float32 for float32 X, else float64.

        Returns
        -------
        Decomposition
            To be given to :meth:`fit` in place of X; it can be saved and loaded.
        """
        features = checked_features(X)
        dtype = dtype or (torch.float32 if features.dtype == torch.float32 else torch.float64)
        rows = np.arange(len(features)) if rows is None else checked_rows(rows, len(features))
        maker, splits = self._maker(features, groups, rows, dtype)
        return maker.decomposition(splits, checked_alphas(self.alphas))

    def fit(self, X: Any, Y: Any, groups: ArrayLike | None = None, coef: Any = None) -> RidgeCV:
        """Choose the penalties and fit on all rows.

        Parameters
        ----------
        X : array_like or tensor, (n, p), or Decomposition
            Features of the samples. Tensors are worked on where they are, on the CPU or a GPU.
        Y : array_like, (n, t) or (n,), or Repeated
            Targets: an array, a tensor, or anything with a ``shape`` that gives columns ``Y[:,
            start:stop]`` (memory maps, zarr and HDF5 arrays), which is read once, block by block.
        groups : array_like, (n,), optional
            Rows of one group (the repeats of an image, a run) stay in one fold. Where all rows of
            every group have equal targets, they are summed before they are multiplied: the same
            answer for less work.
        coef : array-like, (p, t), optional
            Where coefficients are written, such as a memory map or a zarr array; by default in
            memory.

        Returns
        -------
        RidgeCV
            This estimator.

        Raises
        ------
        PhospheneError
            For NaN or infinite values, shapes that do not match, impossible folds and unknown
            settings.

        Warns
        -----
        UserWarning
            When more than half of the chosen penalties are the smallest, or the largest, of the
            grid.
        """
        parts, folds, targets = self._decomposed(X, Y, groups)
        alphas = checked_alphas(self.alphas)
        shape = (len(parts.mean), targets.n_targets)
        if coef is not None and tuple(coef.shape) != shape:
            raise PhospheneError(
                f"RidgeCV: coef must be {shape} as X and Y are, found {tuple(coef.shape)}."
            )
        kind = Tensor if isinstance(X, Tensor) else np.ndarray
        dual = coef is None and parts.span is not None
        made = coef
        if coef is None:
            made = empty(parts, (len(parts.target_rows) if dual else shape[0], shape[1]), kind)
        self.intercept_ = empty(parts, shape[1:], kind)
        writer = Writer(parts, made, self.intercept_, dual)
        # Targets on disk are read once, for all folds. Others are gone through fold by fold, so
        # that one at a time is in memory; their products with X wait where coefficients will be.
        again = coef is None and targets.in_memory and parts is not X
        waiting = as_tensor(made) if again and parts.x is not None else None
        blocks = Blocks(parts, targets, self.target_block, waiting)
        self.cv_scores_ = np.zeros((len(alphas), shape[1]))
        n_folds = 0
        for some in map(_alone, folds) if again else [list(folds)]:
            scorer = Scorer(parts, some, alphas, self.scoring, overwrite=parts is not X)
            n_folds += len(some)
            for block in blocks:
                self.cv_scores_[:, block.columns] += scorer(block)
                if self.per_target and not again:
                    writer.write(block, alphas[self.cv_scores_[:, block.columns].argmax(axis=0)])
            del scorer, some  # before the next fold is made
        scores = self.cv_scores_
        ranking = scores if self.per_target else scores.mean(axis=1, keepdims=True)
        self.best_alphas_ = np.broadcast_to(alphas[ranking.argmax(axis=0)], (shape[1],)).copy()
        self.cv_scores_ /= n_folds
        for block in blocks if again or not self.per_target else []:
            writer.write(block, self.best_alphas_[block.columns])
        _warn_at_edge(alphas, self.best_alphas_)
        if targets.is_vector:
            made = made[:, 0]
            self.intercept_ = self.intercept_[0]
        self._coef: Any = None if dual else made
        self.dual_coef_: Any = made if dual else None
        self.X_fit_: Any = as_kind(kind, parts.span) if dual and parts.span is not None else None
        self.n_features_in_ = shape[0]
        return self

    @property
    def coef_(self) -> Any:
        """Coefficients (p, t) or (p,); after a fit in dual form they are made anew each time."""
        if self._coef is not None:
            return self._coef
        return as_kind(type(self.X_fit_), as_tensor(self.X_fit_).T @ as_tensor(self.dual_coef_))

    def predict(self, X: Any) -> Any:
        """Predict targets, (n, t), or (n,) after a fit to one-dimensional Y, from features (n,
        p).
        """
        blocks = [block for _, block in self.predict_blocks(X)]
        joined = (
            torch.cat(blocks, dim=1) if isinstance(X, Tensor) else np.concatenate(blocks, axis=1)
        )
        return joined[:, 0] if np.ndim(self.intercept_) == 0 else joined

    def predict_blocks(self, X: Any, size: int = 4096) -> Iterator[tuple[slice, Any]]:
        """Yield (columns, predictions (n, block)), tensors for a tensor; coefficients on disk are
        read in blocks.
        """
        check_is_fitted(self)
        features = checked_features(X)
        if features.shape[1] != self.n_features_in_:
            raise PhospheneError(
                f"X has {features.shape[1]} features, but RidgeCV is expecting "
                f"{self.n_features_in_} features as input."
            )
        intercept = as_tensor(self.intercept_).reshape(-1)
        features = features.to(torch.promote_types(features.dtype, intercept.dtype))
        coef = self._coef
        if coef is None:
            coef = self.dual_coef_
            features = features @ as_tensor(self.X_fit_).to(features).T
        coef = coef[:, None] if np.ndim(self.intercept_) == 0 else coef
        for start in range(0, coef.shape[1], size):
            columns = slice(start, min(start + size, coef.shape[1]))
            weights = as_tensor(coef[:, columns]).to(features)
            offset = intercept[columns].to(features)
            block = features @ weights + offset
            release(coef)
            yield columns, block if isinstance(X, Tensor) else block.numpy()

    def _decomposed(
        self, X: Any, Y: Any, groups: ArrayLike | None
    ) -> tuple[Decomposition, Iterable[Fold], Targets]:
        """Everything about all rows, training parts that are made when they are asked for, and
        targets.
        """
        checked_scoring(self.scoring)
        if isinstance(X, Decomposition):
            targets = Targets(Y, len(X.target_rows))
            if not np.array_equal(targets.rows, X.target_rows) or targets.values.shape[0] < len(
                X.final.weights
            ):
                raise PhospheneError(
                    "RidgeCV: Y repeats other rows than the decomposition was made for."
                )
            return X, X.folds, targets
        features = checked_features(X)
        labels = checked_labels(groups, len(features))
        targets = Targets(Y, len(features), labels)
        maker, splits = self._maker(
            features, labels, targets.rows, working_dtype(features, targets)
        )
        return *maker.started(splits, checked_alphas(self.alphas)), targets

    def _maker(
        self, features: Tensor, groups: ArrayLike | None, rows: Rows, dtype: torch.dtype
    ) -> tuple[Maker, list[tuple[Rows, Rows]]]:
        splits = row_splits(
            len(features), self.cv, groups, LEAST_TEST[checked_scoring(self.scoring)]
        )
        prepared = Features.prepare(features, self.fit_intercept, self.standardize, dtype)
        return Maker(prepared, rows, int(rows.max()) + 1), splits


def _alone(fold: Fold) -> list[Fold]:
    return [fold]


def checked_alphas(alphas: ArrayLike | str) -> Floats:
    """Turn a grid of penalties into an array."""
    if isinstance(alphas, str):
        if alphas != "paper":
            raise PhospheneError(
                f"RidgeCV: alphas must be positive numbers or 'paper', found {alphas!r}."
            )
        alphas = PAPER_ALPHAS
    grid = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    if grid.ndim != 1 or not len(grid) or not np.all(np.isfinite(grid) & (grid > 0)):
        raise PhospheneError(f"RidgeCV: alphas must be positive numbers, found {alphas!r}.")
    return grid


def _warn_at_edge(alphas: Floats, best: Floats) -> None:
    for edge, name, advice in (
        (alphas.min(), "smallest", "smaller"),
        (alphas.max(), "largest", "larger"),
    ):
        share = float(np.mean(best == edge))
        if len(alphas) > 1 and share > 0.5:
            warnings.warn(
                f"RidgeCV: {share:.0%} of the targets chose the {name} alpha of the grid, "
                f"{edge:g}; try {advice} ones.",
                UserWarning,
                stacklevel=3,
            )
