"""Ridge regression with many targets: exact K-fold scores of a whole grid of penalties at nearly the price of one.

Everything here is algebra on ``X`` (n, p), ``Y`` (n, t) and, for one fold, the eigendecomposition of its standardised
training part ``Z``. Penalties follow scikit-learn: minimise ``|y - Z b|² + alpha |b|²``.

One fold in three lines. ``ZᵀZ = V diag(w) Vᵀ`` (or ``ZZᵀ = U diag(w) Uᵀ`` when there are fewer rows than columns) gives
a basis in which the fit is diagonal: coefficients ``q / (w + alpha)``. ``P`` is the validation part in that basis, so
predictions are ``P (q / (w + alpha))``. :func:`squared_errors` gets their error for every alpha without forming them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GroupKFold, KFold

from phosphene.errors import PhospheneError

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Scoring = Literal["r2", "neg_mean_squared_error", "correlation"]

_EPS = float(np.finfo(np.float64).eps)
_CLOSE = 1e-5  # relative gap of "close" eigenvalues: rounding eps / gap and truncation gap² / 2 are both about 1e-11
_DENSE = 0.02  # share of close pairs above which a dense product beats a sparse one
_SILENT = 1e-6  # share of a column's variance below which down-dating would lose it to rounding
_BLOCK_BYTES = 256 * 2**20
_ALPHAS = tuple(float(a) for a in np.logspace(0, 6, 13))


class RidgeCV(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """Ridge regression whose penalty is chosen by cross-validation, for thousands of targets at once.

    Parameters
    ----------
    alphas : array_like, (n_alphas,)
        Penalties to try, positive.
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
        Targets worked on at a time; 0 chooses a block whose temporary arrays take about 256 MiB each.

    Attributes
    ----------
    best_alphas_ : ndarray of float64, (t,)
    cv_scores_ : ndarray of float64, (n_alphas, t)
        Mean over folds, in the order of ``alphas``.
    coef_ : ndarray, (p, t)
        In units of the raw X; float32 when X and Y are float32, else float64.
    intercept_ : ndarray, (t,)

    Notes
    -----
    Gram matrices, eigenvectors and products are float64 whatever the input. Memory beside X and Y: a float64 copy of X,
    about five p x p matrices (n x n when n < p), and when n >= p the float64 (p, t) product XᵀY.
    """

    def __init__(
        self,
        alphas: ArrayLike = _ALPHAS,
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

    def fit(self, X: ArrayLike, Y: ArrayLike, groups: ArrayLike | None = None) -> RidgeCV:
        """Choose the penalties and fit on all rows.

        Parameters
        ----------
        X : array_like, (n, p)
            Features of the samples.
        Y : array_like, (n, t) or (n,)
            Targets.
        groups : array_like, (n,), optional
            Rows of one group (the repeats of an image, a run) stay in one fold.

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
        features, targets = _checked_data(X, Y)
        alphas = _checked_alphas(self.alphas)
        splits = row_splits(len(features), self.cv, groups, scoring=self.scoring)
        out = np.float32 if features.dtype == targets.dtype == np.float32 else np.float64
        problem = Problem.prepare(features, targets, self.fit_intercept, self.standardize, self.target_block)
        self.cv_scores_ = cross_validate(problem, splits, alphas, self.scoring)
        ranking = self.cv_scores_ if self.per_target else self.cv_scores_.mean(axis=1, keepdims=True)
        best = np.broadcast_to(ranking.argmax(axis=0), (problem.n_targets,))
        _warn_at_edge(alphas, best)
        self.best_alphas_ = alphas[best]
        self.coef_ = solve(problem, self.best_alphas_, out)
        self.intercept_ = (problem.y_mean - problem.x_mean @ self.coef_).astype(out)
        self.n_features_in_ = features.shape[1]
        self._one_target = np.ndim(Y) == 1
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Predict targets, (n, t), or (n,) after a fit to one-dimensional Y, from features (n, p)."""
        features = np.asarray(X)
        if features.ndim != 2 or features.shape[1] != self.n_features_in_:
            raise PhospheneError(
                f"RidgeCV.predict: X must be (n, {self.n_features_in_}) as in fit, found {features.shape}."
            )
        predictions: NDArray[np.floating[Any]] = features @ self.coef_ + self.intercept_
        return predictions[:, 0] if self._one_target else predictions


@dataclass(frozen=True)
class Problem:
    """The data of one fit, centred once, with the products over all rows from which folds are down-dated.

    ``x`` (n, p) is float64; ``targets`` stays as it was and is read in centred blocks. ``gram`` (p, p) and ``cross``
    (p, t) are None when n < p, where every fold takes the kernel form.
    """

    x: Array
    x_mean: Array
    targets: NDArray[Any]
    y_mean: Array
    gram: Array | None
    cross: Array | None
    center: bool
    standardize: bool
    block: int

    @classmethod
    def prepare(
        cls, features: NDArray[Any], targets: NDArray[Any], center: bool, standardize: bool, block: int
    ) -> Problem:
        """Centre by the means of all rows (a fold then subtracts only the small rest) and form the products."""
        n, p = features.shape
        t = targets.shape[1]
        x = features.astype(np.float64)
        x_mean = x.mean(axis=0) if center else np.zeros(p)
        x -= x_mean
        y_mean = targets.mean(axis=0, dtype=np.float64) if center else np.zeros(t)
        block = block or int(np.clip(_BLOCK_BYTES // (8 * max(n, p)), 1, t))
        gram = x.T @ x if n >= p else None
        problem = cls(x, x_mean, targets, y_mean, gram, None, center, standardize, block)
        if n < p:
            return problem
        cross = np.empty((p, t))
        for columns, y in problem.target_blocks():
            cross[:, columns] = x.T @ y
        return cls(x, x_mean, targets, y_mean, gram, cross, center, standardize, block)

    @property
    def n_targets(self) -> int:
        """Number of targets t."""
        return int(self.targets.shape[1])

    def target_blocks(self) -> Iterator[tuple[slice, Array]]:
        """Yield (columns, centred float64 copy of those targets)."""
        for start in range(0, self.n_targets, self.block):
            columns = slice(start, min(start + self.block, self.n_targets))
            yield columns, self.targets[:, columns] - self.y_mean[columns]


@dataclass(frozen=True)
class Factor:
    """The standardised training part of one fold in the basis where ridge is diagonal: depends on X only.

    Attributes
    ----------
    values : (m,) eigenvalues w, ascending, not negative
    basis : (p, m) from that basis to (globally centred) features: coefficients are ``basis @ (q / (w + alpha))``
    mean : (p,) of the training rows
    train : (n_train,) row numbers
    kernel : (n_train, m) eigenvectors U of ZZᵀ, ``q = Uᵀ(Y - mean)``; None in the primal form, ``q = basisᵀ XᵀY``
    removed : row numbers by which ``cross`` is down-dated; None when the training rows are multiplied out
    """

    values: Array
    basis: Array
    mean: Array
    train: Rows
    kernel: Array | None
    removed: Rows | None

    def project(self, problem: Problem, columns: slice, y: Array) -> tuple[Array, Array]:
        """Training targets in the eigenbasis, q (m, block), and their mean (block,); ``y`` (n, block) is the block."""
        y_train = y[self.train]
        y_mean = y_train.mean(axis=0) if problem.center else np.zeros(y.shape[1])
        if self.kernel is not None:
            return self.kernel.T @ (y_train - y_mean), y_mean
        if self.removed is None or problem.cross is None:
            return self.basis.T @ ((problem.x[self.train] - self.mean).T @ (y_train - y_mean)), y_mean
        cross = problem.cross[:, columns] - problem.x[self.removed].T @ y[self.removed]
        return self.basis.T @ (cross - len(self.train) * np.outer(self.mean, y_mean)), y_mean


def decompose(problem: Problem, train: Rows) -> Factor:
    """Standardise the rows ``train`` exactly and eigendecompose them (float64), in the cheaper of the two forms."""
    x = problem.x
    n, p = len(train), x.shape[1]
    rows = x[train]
    mean = rows.mean(axis=0) if problem.center else np.zeros(p)
    variance = rows.var(axis=0)
    constant = variance <= (len(x) * _EPS * (rows.mean(axis=0) + problem.x_mean)) ** 2
    inverse = np.ones(p)
    if problem.standardize:
        np.divide(1.0, np.sqrt(variance), out=inverse, where=~constant)
    if problem.center:
        inverse[constant] = 0.0  # carries no information here; its coefficient is exactly 0
    if problem.gram is None or n < p:
        z = (rows - mean) * inverse
        values, vectors = _eigh(z @ z.T)
        return Factor(values, inverse[:, None] * (z.T @ vectors), mean, train, vectors, None)
    removed = np.setdiff1d(np.arange(len(x)), train)
    share = n * variance[~constant] / np.maximum(np.diagonal(problem.gram)[~constant], np.finfo(float).tiny)
    downdate = len(removed) < n and (share.min(initial=1.0) > _SILENT or not problem.center)
    if downdate:
        others = x[removed]
        gram = problem.gram - others.T @ others - n * np.outer(mean, mean)
    else:
        rows -= mean
        gram = rows.T @ rows
    gram *= inverse[:, None]
    gram *= inverse
    values, vectors = _eigh(gram)
    return Factor(values, inverse[:, None] * vectors, mean, train, None, removed if downdate else None)


def cross_validate(problem: Problem, splits: Sequence[tuple[Rows, Rows]], alphas: Array, scoring: Scoring) -> Array:
    """Mean score over folds, (n_alphas, t)."""
    scores = np.zeros((len(alphas), problem.n_targets))
    for train, test in splits:
        factor = decompose(problem, train)
        validation = (problem.x[test] - factor.mean) @ factor.basis
        # without predictions: one m x m x t product; with them: one n_test x m x t product for each alpha
        predict = scoring == "correlation" or len(alphas) * len(test) < len(factor.values)
        pairs = None if predict else pair_terms(factor.values, validation.T @ validation, float(alphas.min()))
        for columns, y in problem.target_blocks():
            q, y_mean = factor.project(problem, columns, y)
            held_out = y[test] - y_mean
            constant = np.ptp(held_out, axis=0) <= len(y) * _EPS * np.abs(problem.y_mean[columns] + y_mean)
            if scoring == "correlation":
                fold = prediction_correlations(factor.values, validation, q, held_out, alphas)
            elif pairs is None:
                fold = -prediction_errors(factor.values, validation, q, held_out, alphas) / len(test)
            else:
                r, total = validation.T @ held_out, (held_out**2).sum(axis=0)
                fold = -squared_errors(factor.values, pairs, q, r, total, alphas) / len(test)
            if scoring == "r2":
                fold = 1.0 + fold / np.where(constant, 1.0, held_out.var(axis=0))
            if scoring != "neg_mean_squared_error":
                fold = np.where(constant, 0.0, fold)
            scores[:, columns] += fold
    return scores / len(splits)


@dataclass(frozen=True)
class PairTerms:
    """M = PᵀP, (m, m), for :func:`squared_errors`: ``far`` M_ij / (w_j - w_i), ``close`` M_ij of close pairs."""

    far: Array
    close: Any


def pair_terms(values: Array, products: Array, smallest_alpha: float) -> PairTerms:
    """Split ``products`` M (m, m; overwritten) by whether two ascending eigenvalues are close; every i = j is close."""
    m = len(values)
    end = np.searchsorted(values, values * (1 + _CLOSE) + _CLOSE * smallest_alpha, side="right")
    start = np.searchsorted(end, np.arange(m), side="right")  # the same relation seen from the larger of the two
    data, indices = [], []
    for i in range(m):
        near = slice(start[i], end[i])
        data.append(products[i, near].copy())
        indices.append(np.arange(start[i], end[i]))
        gap = values - values[i]
        gap[near] = np.inf
        products[i] /= gap
    indptr = np.concatenate([[0], np.cumsum(end - start)])
    close = sparse.csr_array((np.concatenate(data), np.concatenate(indices), indptr), shape=(m, m))
    return PairTerms(products, close if close.nnz < _DENSE * m * m else close.toarray())


def squared_errors(values: Array, pairs: PairTerms, q: Array, r: Array, total: Array, alphas: Array) -> Array:
    """Sum of squared validation errors, (n_alphas, block), of every alpha without predictions.

    With ``d_i = 1 / (w_i + alpha)``, ``r = PᵀY`` and ``total = |Y|²`` of the validation part it is
    ``total - 2 Σ d_i q_i r_i + Σ_ij d_i q_i M_ij q_j d_j``. For distinct eigenvalues ``d_i d_j`` equals
    ``(d_i - d_j) / (w_j - w_i)``, which leaves one product ``far @ q`` for all alphas. For close ones it is
    ``(d_i² + d_j²) / 2`` up to ``(d_i - d_j)² / 2``, a relative 1e-10 at most: one more product, again for all alphas.
    """
    once = q * (pairs.far @ q - r)
    twice = q * (pairs.close @ q)
    d = 1.0 / (values + alphas[:, None])
    errors: Array = total + 2.0 * (d @ once) + (d * d) @ twice
    return np.maximum(errors, 0.0)


def prediction_errors(values: Array, validation: Array, q: Array, held_out: Array, alphas: Array) -> Array:
    """The same as :func:`squared_errors` from the predictions themselves: cheaper for few alphas or small folds."""
    return np.array([((held_out - validation @ (q / (values + a)[:, None])) ** 2).sum(axis=0) for a in alphas])


def prediction_correlations(values: Array, validation: Array, q: Array, held_out: Array, alphas: Array) -> Array:
    """Pearson correlation of predictions and validation targets, (n_alphas, block); 0 for a constant prediction."""
    measured = held_out - held_out.mean(axis=0)
    centred = validation - validation.mean(axis=0)
    norm = np.sqrt((measured**2).sum(axis=0))
    scores = []
    for alpha in alphas:
        predicted = centred @ (q / (values + alpha)[:, None])
        product = norm * np.sqrt((predicted**2).sum(axis=0))
        scores.append((predicted * measured).sum(axis=0) / np.where(product > 0, product, 1.0))
    return np.array(scores)


def solve(problem: Problem, best_alphas: Array, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """Coefficients (p, t) on all rows for one penalty per target (t,), from a single eigendecomposition."""
    factor = decompose(problem, np.arange(len(problem.x)))
    coef = np.empty((problem.x.shape[1], problem.n_targets), dtype=dtype)
    for columns, y in problem.target_blocks():
        q, _ = factor.project(problem, columns, y)
        coef[:, columns] = factor.basis @ (q / (factor.values[:, None] + best_alphas[columns]))
    return coef


def row_splits(n: int, cv: Any, groups: ArrayLike | None, scoring: Scoring = "r2") -> list[tuple[Rows, Rows]]:
    """Turn ``cv`` (see :class:`RidgeCV`) into checked (train, test) row numbers."""
    if scoring not in get_args(Scoring):
        raise PhospheneError(f"RidgeCV: scoring must be one of {', '.join(get_args(Scoring))}, found {scoring!r}.")
    labels = None if groups is None else np.asarray(groups)
    if labels is not None and labels.shape != (n,):
        raise PhospheneError(f"RidgeCV: groups must hold one label for each of the {n} rows, found {labels.shape}.")
    if isinstance(cv, (int, np.integer)):
        available, what = (n, "rows") if labels is None else (len(np.unique(labels)), "groups")
        if not 2 <= cv <= available:
            raise PhospheneError(f"RidgeCV: cv must lie between 2 and the number of {what}, {available}, found {cv}.")
        cv = KFold(cv) if labels is None else GroupKFold(cv)
    try:
        pairs: Iterable[Any] = cv.split(np.empty((n, 1)), None, labels) if hasattr(cv, "split") else cv
        splits = [(np.asarray(train), np.asarray(test)) for train, test in pairs]
    except (TypeError, ValueError) as error:
        raise PhospheneError(f"RidgeCV: cv gave no (train, test) splits of {n} rows: {error}") from error
    if not splits:
        raise PhospheneError("RidgeCV: cv gave no (train, test) splits; give at least one.")
    for number, (train, test) in enumerate(splits, start=1):
        _check_split(n, number, train, test, least_test=1 if scoring == "neg_mean_squared_error" else 2)
    return splits


def _check_split(n: int, number: int, train: Rows, test: Rows, least_test: int) -> None:
    rows = np.concatenate([train, test])
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(np.unique(rows)) != len(rows):
        raise PhospheneError(f"RidgeCV: split {number} of cv must list row numbers, each once, in train or test.")
    if len(train) < 2 or len(test) < least_test or rows.min() < 0 or rows.max() >= n:
        raise PhospheneError(
            f"RidgeCV: split {number} of cv needs 2 training and {least_test} test rows or more within 0..{n - 1}, "
            f"found {len(train)} and {len(test)}; use fewer folds."
        )


def _eigh(matrix: Array) -> tuple[Array, Array]:
    values, vectors = linalg.eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
    return np.maximum(values, 0.0), vectors


def _checked_data(X: ArrayLike, Y: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    features, targets = np.asarray(X), np.asarray(Y)
    targets = targets[:, None] if targets.ndim == 1 else targets
    if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets) or 0 in features.shape + targets.shape:
        raise PhospheneError(
            f"RidgeCV: X must be (n, p) and Y (n, t) or (n,) with the same n, found {features.shape} and {np.shape(Y)}."
        )
    for name, values in (("X", features), ("Y", targets)):
        for start in range(0, len(values), 1024):  # in blocks: no mask as large as the data
            if not np.isfinite(values[start : start + 1024]).all():
                raise PhospheneError(f"RidgeCV: {name} holds NaN or infinite values; drop or fill them before fitting.")
    return features, targets


def _checked_alphas(alphas: ArrayLike) -> Array:
    grid = np.atleast_1d(np.asarray(alphas, dtype=np.float64))
    if grid.ndim != 1 or not len(grid) or not np.all(np.isfinite(grid) & (grid > 0)):
        raise PhospheneError(f"RidgeCV: alphas must be positive numbers, found {alphas!r}.")
    return grid


def _warn_at_edge(alphas: Array, best: Rows) -> None:
    for edge, name, advice in ((alphas.min(), "smallest", "smaller"), (alphas.max(), "largest", "larger")):
        share = float(np.mean(alphas[best] == edge))
        if len(alphas) > 1 and share > 0.5:
            warnings.warn(
                f"RidgeCV: {share:.0%} of the targets chose the {name} alpha of the grid, {edge:g}; try {advice} ones.",
                UserWarning,
                stacklevel=3,
            )
