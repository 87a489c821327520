"""The estimator: penalties chosen by cross-validation, coefficients and predictions in blocks of targets."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.ridge.factors import CHUNK, Decomposition, Features, doubles
from phosphene.ridge.folds import Rows, row_splits
from phosphene.ridge.maker import decompose
from phosphene.ridge.scores import LEAST_TEST, Scoring, checked_scoring, mean_scores, split_pairs
from phosphene.ridge.targets import Targets, as_tensor, block_size, checked_features, checked_rows, working_dtype

Floats = NDArray[np.float64]
ALPHAS = tuple(float(a) for a in np.logspace(0, 6, 13))
PAPER_ALPHAS = tuple(float(a) for a in np.logspace(-6, 0, 7))  # the released code's grid


class RidgeCV(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Ridge regression whose penalty is chosen by cross-validation, for thousands of targets at once.

    Minimises ``|y - Z b|² + alpha |b|²`` per target, as scikit-learn does. The scores of every penalty are exact, not
    approximated, and cost hardly more than those of one: see :func:`phosphene.ridge.scores.quadratic`.

    Parameters
    ----------
    alphas : array_like, (n_alphas,), or "paper"
        Penalties to try, positive; "paper" is the grid of the authors' released code, 1e-6 to 1.
    cv : int, splitter or iterable of (train, test)
        An int means that many contiguous folds, or with ``groups`` folds that keep each group whole (scikit-learn's
        KFold, GroupKFold: deterministic). Otherwise a scikit-learn splitter or explicit row numbers.
    scoring : {"r2", "neg_mean_squared_error", "correlation"}
        Score of a fold; folds count equally. A fold in which a target is constant scores 0 for R² and correlation.
    fit_intercept : bool
        Centre X and Y by the means of the training part.
    standardize : bool
        Divide each column of X by its standard deviation in the training part, as StandardScaler does. Columns that
        are constant there are left undivided.
    per_target : bool
        Choose a penalty for each target, or one for all by their mean score.
    target_block : int
        Targets worked on at a time; 0 chooses a block whose temporary arrays take about 256 MiB.

    Attributes
    ----------
    best_alphas_ : ndarray of float64, (t,)
    cv_scores_ : ndarray of float64, (n_alphas, t)
        Mean over folds, in the order of ``alphas``.
    coef_ : array, (p, t) or (p,)
        In units of the raw X; float32 when X and Y are float32, else float64. A tensor on the device of X when X is
        a tensor; whatever was given as ``coef`` to :meth:`fit`.
    intercept_ : array, (t,) or a number
    dual_coef_, X_fit_ : array, (n, t) or (n,), and (n, p)
        What is kept in place of ``coef_``, which is ``X_fit_.T @ dual_coef_``, when samples are not more than
        features and no ``coef`` is given; otherwise None.

    Notes
    -----
    Work is done in the precision of the data; Gram matrices and the eigendecompositions of the final fit are always
    float64, those of the folds are float32 where its error cannot matter. Memory beside X: a centred copy of X, about
    2 (p, p) matrices for each fold (n x n when n < p) and five while they are made, and blocks of targets.
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

    def decompose(self, X: ArrayLike | Tensor, groups: ArrayLike | None = None, rows: Rows | None = None,
                  dtype: Any = None) -> Decomposition:  # fmt: skip
        """Do all work that depends on X alone, once for any number of targets.

        Parameters
        ----------
        X : array_like or tensor, (n, p)
        groups : array_like, (n,), optional
            Rows of one group stay in one fold.
        rows : ndarray of int, (n,), optional
            Distinct target row of every row of X, as in :class:`phosphene.ridge.Repeated`.
        dtype : torch.dtype, optional
            Precision of the work; by default float32 for float32 X, else float64.

        Returns
        -------
        Decomposition
            To be given to :meth:`fit` in place of X; it can be saved and loaded.
        """
        features = checked_features(X)
        n = len(features)
        dtype = dtype or (torch.float32 if features.dtype == torch.float32 else torch.float64)
        splits = row_splits(n, self.cv, groups, LEAST_TEST[checked_scoring(self.scoring)])
        rows = np.arange(n) if rows is None else checked_rows(rows, n)
        prepared = Features.prepare(features, self.fit_intercept, self.standardize, dtype)
        return decompose(prepared, splits, rows, int(rows.max()) + 1, checked_alphas(self.alphas))

    def fit(self, X: Any, Y: Any, groups: ArrayLike | None = None, coef: Any = None) -> RidgeCV:
        """Choose the penalties and fit on all rows.

        Parameters
        ----------
        X : array_like or tensor, (n, p), or Decomposition
            Features of the samples. Tensors are worked on where they are, on the CPU or a GPU.
        Y : array_like, (n, t) or (n,), or Repeated
            Targets: an array, a tensor, or anything with a ``shape`` that gives columns ``Y[:, start:stop]`` (memory
            maps, zarr and HDF5 arrays), which is read once, block by block.
        groups : array_like, (n,), optional
            Rows of one group (the repeats of an image, a run) stay in one fold. Where all rows of every group have
            equal targets, they are summed before they are multiplied: the same answer for less work.
        coef : array-like, (p, t), optional
            Where coefficients are written, such as a memory map or a zarr array; by default in memory.

        Returns
        -------
        RidgeCV
            This estimator.

        Raises
        ------
        PhospheneError
            For NaN or infinite values, shapes that do not match, impossible folds and unknown settings.

        Warns
        -----
        UserWarning
            When more than half of the chosen penalties are the smallest, or the largest, of the grid.
        """
        parts, targets = self._decomposed(X, Y, groups)
        alphas = checked_alphas(self.alphas)
        size = self.target_block or block_size(len(parts.target_rows), len(parts.mean), parts.mean.itemsize)
        scorer = Scorer(parts, alphas, checked_scoring(self.scoring), overwrite=parts is not X)
        shape = (len(parts.mean), targets.n_targets)
        if coef is not None and tuple(coef.shape) != shape:
            raise PhospheneError(f"RidgeCV: coef must be {shape} as X and Y are, found {tuple(coef.shape)}.")
        kind = Tensor if isinstance(X, Tensor) else np.ndarray
        dual = coef is None and parts.span is not None
        made = _empty(parts, (len(parts.target_rows) if dual else shape[0], shape[1]), kind) if coef is None else coef
        self.intercept_ = _empty(parts, shape[1:], kind)
        writer = Writer(parts, made, self.intercept_, dual)
        self.cv_scores_ = np.empty((len(alphas), shape[1]))
        for columns in targets.blocks(size):
            block = Block.read(parts, targets, columns)
            self.cv_scores_[:, columns] = scorer(block)
            if self.per_target:
                writer.write(block, alphas[self.cv_scores_[:, columns].argmax(axis=0)])
        ranking = self.cv_scores_ if self.per_target else self.cv_scores_.mean(axis=1, keepdims=True)
        self.best_alphas_ = np.broadcast_to(alphas[ranking.argmax(axis=0)], (shape[1],)).copy()
        if not self.per_target:
            for columns in targets.blocks(size):
                writer.write(Block.read(parts, targets, columns), self.best_alphas_[columns])
        _warn_at_edge(alphas, self.best_alphas_)
        if targets.is_vector:
            made, self.intercept_ = made[:, 0], self.intercept_[0]
        self._coef: Any = None if dual else made
        self.dual_coef_: Any = made if dual else None
        self.X_fit_: Any = _as(kind, parts.span) if dual and parts.span is not None else None
        self.n_features_in_ = shape[0]
        return self

    @property
    def coef_(self) -> Any:
        """Coefficients (p, t) or (p,); after a fit in dual form they are made anew each time."""
        if self._coef is not None:
            return self._coef
        return _as(type(self.X_fit_), as_tensor(self.X_fit_).T @ as_tensor(self.dual_coef_))

    def predict(self, X: Any) -> Any:
        """Predict targets, (n, t), or (n,) after a fit to one-dimensional Y, from features (n, p)."""
        blocks = [block for _, block in self.predict_blocks(X)]
        joined = torch.cat(blocks, dim=1) if isinstance(X, Tensor) else np.concatenate(blocks, axis=1)
        return joined[:, 0] if np.ndim(self.intercept_) == 0 else joined

    def predict_blocks(self, X: Any, size: int = 4096) -> Iterator[tuple[slice, Any]]:
        """Yield (columns, predictions (n, block)), tensors for a tensor; coefficients on disk are read in blocks."""
        check_is_fitted(self)
        features = checked_features(X)
        if features.shape[1] != self.n_features_in_:
            raise PhospheneError(
                f"X has {features.shape[1]} features, but RidgeCV is expecting {self.n_features_in_} features as input."
            )
        intercept = as_tensor(self.intercept_).reshape(-1)
        features = features.to(torch.promote_types(features.dtype, intercept.dtype))
        coef = self._coef
        if coef is None:
            coef, features = self.dual_coef_, features @ as_tensor(self.X_fit_).to(features).T
        coef = coef[:, None] if np.ndim(self.intercept_) == 0 else coef
        for start in range(0, coef.shape[1], size):
            columns = slice(start, min(start + size, coef.shape[1]))
            weights, offset = as_tensor(coef[:, columns]).to(features), intercept[columns].to(features)
            block = features @ weights + offset
            yield columns, block if isinstance(X, Tensor) else block.numpy()

    def _decomposed(self, X: Any, Y: Any, groups: ArrayLike | None) -> tuple[Decomposition, Targets]:
        if isinstance(X, Decomposition):
            targets = Targets(Y, len(X.target_rows))
            if not np.array_equal(targets.rows, X.target_rows) or targets.values.shape[0] < len(X.final.weights):
                raise PhospheneError("RidgeCV: Y repeats other rows than the decomposition was made for.")
            return X, targets
        features = checked_features(X)
        labels = None if groups is None else np.asarray(groups)
        targets = Targets(Y, len(features), labels if labels is not None and labels.shape == (len(features),) else None)
        return self.decompose(features, labels, targets.rows, working_dtype(features, targets)), targets


@dataclass(frozen=True)
class Block:
    """Some targets: distinct rows (n_distinct, block), centred, their means, and their products with the features."""

    columns: slice
    y: Tensor
    mean: Tensor
    cross: Tensor | None

    @classmethod
    def read(cls, parts: Decomposition, targets: Targets, columns: slice) -> Block:
        """Read and centre `columns` of the targets."""
        y = targets.block(columns, parts.final.values.dtype, parts.final.values.device)
        weights = parts.final.weights
        y = y[: len(weights)]
        mean = weights @ y / weights.sum() if parts.center else torch.zeros_like(y[0])
        y = y - mean
        return cls(columns, y, mean, parts.cross(y))

    def some(self, index: NDArray[np.intp]) -> Block:
        """Only the targets `index` of this block."""
        i = torch.from_numpy(index).to(self.y.device)
        return Block(self.columns, self.y[:, i], self.mean[i], None if self.cross is None else self.cross[:, i])


class Scorer:
    """Mean validation scores of blocks of targets for one decomposition; `overwrite` spends its ``products``."""

    def __init__(self, parts: Decomposition, alphas: Floats, scoring: str, overwrite: bool = True) -> None:
        self.parts, self.scoring = parts, scoring
        self.alphas = as_tensor(alphas).to(parts.final.values)
        least = float(alphas.min())
        self.pairs = [
            None if fold.products is None else split_pairs(fold.factor.values, fold.products, least, overwrite)
            for fold in parts.folds
        ]

    def __call__(self, block: Block) -> Floats:
        folds, center = self.parts.folds, self.parts.center
        return mean_scores(folds, self.pairs, block.y, block.cross, self.alphas, center, self.scoring)


class Writer:
    """Solves for blocks of targets on all rows and puts coefficients (p, t) and intercepts (t,) where they go.

    With `dual` these are coefficients of the rows ``parts.span``, (n, t).
    """

    def __init__(self, parts: Decomposition, coef: Any, intercept: Any, dual: bool = False) -> None:
        self.parts, self.coef, self.intercept = parts, coef, intercept
        self.span, self.mean = parts.span, parts.mean
        if dual and parts.span is not None:
            self.span, self.mean = None, torch.cat([(rows * parts.mean).sum(1) for rows in doubles(parts.span)])

    def write(self, block: Block, alphas: Floats, columns: Any = None) -> None:
        """Solve for one block of targets, with one penalty for each; `columns` in place of the block's own."""
        final = self.parts.final
        columns = block.columns if columns is None else columns
        q, _, rest = final.project(block.y, block.cross, self.parts.center)
        q /= final.values[:, None] + as_tensor(alphas).to(q)
        assert final.basis is not None
        solved = final.basis @ q
        if self.span is not None:
            solved = self.span.T @ solved
        elif self.parts.span is None:
            solved /= self.parts.scale.to(q)[:, None]
        origin = block.mean + rest - final.origin @ q
        weighted = zip(torch.split(self.mean, CHUNK), doubles(solved), strict=True)
        intercept = (origin - sum(mean @ rows for mean, rows in weighted)).to(q.dtype)
        for target, values, key in ((self.coef, solved, (slice(None), columns)), (self.intercept, intercept, columns)):
            target[key] = values if isinstance(target, Tensor) else values.cpu().numpy()


def _empty(parts: Decomposition, shape: tuple[int, ...], kind: type) -> Any:
    """An array of the precision of the work: a tensor on its device, or NumPy."""
    like = parts.final.values
    return _as(kind, torch.empty(shape, dtype=like.dtype, device=like.device if kind is Tensor else "cpu"))


def _as(kind: type, values: Tensor) -> Any:
    return values if kind is Tensor else values.cpu().numpy()


def checked_alphas(alphas: ArrayLike | str) -> Floats:
    """Turn a grid of penalties into an array."""
    if isinstance(alphas, str):
        if alphas != "paper":
            raise PhospheneError(f"RidgeCV: alphas must be positive numbers or 'paper', found {alphas!r}.")
        alphas = PAPER_ALPHAS
    grid = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    if grid.ndim != 1 or not len(grid) or not np.all(np.isfinite(grid) & (grid > 0)):
        raise PhospheneError(f"RidgeCV: alphas must be positive numbers, found {alphas!r}.")
    return grid


def _warn_at_edge(alphas: Floats, best: Floats) -> None:
    for edge, name, advice in ((alphas.min(), "smallest", "smaller"), (alphas.max(), "largest", "larger")):
        share = float(np.mean(best == edge))
        if len(alphas) > 1 and share > 0.5:
            warnings.warn(
                f"RidgeCV: {share:.0%} of the targets chose the {name} alpha of the grid, {edge:g}; try {advice} ones.",
                UserWarning,
                stacklevel=3,
            )
