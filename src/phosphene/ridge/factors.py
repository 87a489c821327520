"""All of a ridge regression that depends on X alone: one eigendecomposition for every fold and one for all rows.

``ZᵀZ = V diag(w) Vᵀ`` of the standardised training part ``Z`` (or ``ZZᵀ = U diag(w) Uᵀ`` when it has fewer rows than
columns) gives a basis in which ridge is diagonal: coefficients are ``basis @ (q / (w + alpha))``. The Gram matrix of a
training part is that of all rows minus that of the rows left out, and so are its products with targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.ridge.folds import Rows

EPS = float(np.finfo(np.float64).eps)
_SILENT = 1e-6  # share of a column's variance below which down-dating would lose it to rounding
_SINGLE_ERROR = 1e-6  # error of a float32 eigendecomposition, relative to the largest eigenvalue (measured)
_SINGLE_ENOUGH = 1e-4  # relative error of w + alpha up to which the scores of float32 data may use one
_CHUNK = 2048  # rows that are float64 at a time


@dataclass(frozen=True)
class Features:
    """Features, centred and scaled once by all rows, so that folds only correct a small rest.

    Attributes
    ----------
    x : (n, p) ``(X - mean) / scale`` in the precision of the work
    mean, scale : (p,) float64; 0 without an intercept, 1 without standardisation
    center, standardize : what every training part does to its rows
    """

    x: Tensor
    mean: Tensor
    scale: Tensor
    center: bool
    standardize: bool

    @classmethod
    def prepare(cls, X: Tensor, center: bool, standardize: bool, dtype: torch.dtype) -> Features:
        """Centre and scale by float64 moments, in chunks of rows."""
        n = len(X)
        chunks = _chunks(X)
        mean = torch.stack([part.double().sum(0) for part in chunks]).sum(0) / n
        variance = torch.stack([(part.double() - mean).square().sum(0) for part in chunks]).sum(0) / n
        divide = (variance > (n * EPS * mean) ** 2) if standardize else torch.zeros_like(mean, dtype=torch.bool)
        scale = torch.where(divide, variance.sqrt(), 1.0)
        mean = mean if center else torch.zeros_like(mean)
        x = torch.empty(X.shape, dtype=dtype, device=X.device)
        for out, part in zip(_chunks(x), chunks, strict=True):
            out.copy_((part.double() - mean) / scale)
        return cls(x, mean, scale, center, standardize)


@dataclass(frozen=True)
class Part:
    """Rows summed over repeats: ``matrix`` (k, m) belongs to the distinct target rows ``rows`` (k,)."""

    matrix: Tensor
    rows: Tensor

    @classmethod
    def of(cls, matrix: Tensor, rows: Tensor) -> Part:
        """Sum the rows of `matrix` that have the same target row."""
        distinct, inverse = torch.unique(rows, return_inverse=True)
        if len(distinct) == len(rows):
            return cls(matrix, rows)
        summed = torch.zeros(len(distinct), matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
        return cls(summed.index_add_(0, inverse, matrix), distinct)

    def times(self, y: Tensor) -> Tensor:
        """Multiply with distinct target rows (n_distinct, block): (m, block)."""
        whole = len(self.rows) == len(y) and bool((self.rows[1:] > self.rows[:-1]).all())
        return self.matrix.T @ (y if whole else y[self.rows])


@dataclass(frozen=True)
class Factor:
    """A training part in the basis where ridge is diagonal.

    Attributes
    ----------
    values : (m,) eigenvalues w, ascending, not negative
    basis : (p, m) from that basis to features, or None where nothing needs it any more
    origin : (m,) the training mean of X in that basis
    shift : (m,) what the training mean of a target is multiplied with in :meth:`project`
    weights : (n_distinct,) how many training rows have each distinct target row
    rows : the rows that ``project`` multiplies out
    kept : ``rows`` are the training rows themselves; otherwise those left out, taken from the product over all rows
    """

    values: Tensor
    basis: Tensor | None
    origin: Tensor
    shift: Tensor
    weights: Tensor
    rows: Part
    kept: bool

    def project(self, y: Tensor, cross: Tensor | None, center: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Project distinct target rows (n_distinct, block).

        Returns
        -------
        q : (m, block) training targets in the eigenbasis; coefficients are ``basis @ (q / (w + alpha))``
        multiplied : (m, block) ``rows`` times targets
        mean : (block,) of the training targets, 0 without an intercept
        """
        multiplied = self.rows.times(y)
        mean = self.weights @ y / self.weights.sum() if center else torch.zeros_like(y[0])
        if self.kept:
            q = multiplied.clone()
        else:
            assert self.basis is not None and cross is not None
            q = self.basis.T @ cross
            q -= multiplied
        if center:
            q.addr_(self.shift, mean, alpha=-1)
        return q, multiplied, mean


@dataclass(frozen=True)
class Fold:
    """A training part and the rows that test it.

    Attributes
    ----------
    factor : of the training part
    test : the test rows in its eigenbasis; the same as ``factor.rows`` where these are the ones left out
    counts : (k,) how many test rows belong to each row of ``test``
    row_mean : (m,) mean of the test rows in the eigenbasis
    products : (m, m) ``PᵀP`` of the centred test rows P, or None where predictions are cheaper
    """

    factor: Factor
    test: Part
    counts: Tensor
    row_mean: Tensor
    products: Tensor | None


@dataclass(frozen=True)
class Decomposition:
    """Everything about X that a cross-validated fit needs; made by :func:`decompose`, used for any number of targets.

    Attributes
    ----------
    x : (k, p) features, summed over the repeats of each target row
    mean, scale : (p,) as in :class:`Features`
    center : an intercept is fitted
    target_rows : (n,) distinct target row of every row
    final : factor of all rows
    folds : one per split
    """

    x: Part
    mean: Tensor
    scale: Tensor
    center: bool
    target_rows: NDArray[np.intp]
    final: Factor
    folds: list[Fold]

    def cross(self, y: Tensor) -> Tensor | None:
        """Products of features and targets over all rows (p, block), if any factor needs them."""
        if self.final.kept and all(fold.factor.kept for fold in self.folds):
            return None
        return self.x.times(y)


def decompose(
    features: Features,
    splits: Sequence[tuple[Rows, Rows]],
    target_rows: NDArray[np.intp],
    n_distinct: int,
    alphas: NDArray[np.float64],
) -> Decomposition:
    """Decompose all rows and every training part.

    Parameters
    ----------
    features : Features
    splits : sequence of (train, test) row numbers
    target_rows : ndarray of int, (n,)
        Which of the `n_distinct` rows of the targets every row has; rows with the same one are summed first.
    n_distinct : int
    alphas : ndarray, (n_alphas,)
        Penalties that will be tried: they decide which forms are cheaper, and the precision that is needed.
    """
    maker = _Maker(features, torch.from_numpy(target_rows).to(features.x.device), n_distinct)
    final, _ = maker.factor(np.arange(len(features.x)), double=True)
    largest, smallest = float(final.values.max()), float(final.values.min())
    single = _SINGLE_ERROR * largest < _SINGLE_ENOUGH * (smallest + float(alphas.min()))
    double = features.x.dtype == torch.float64 or not single
    folds = [maker.fold(train, test, double, len(alphas)) for train, test in splits]
    x = Part.of(features.x, maker.target_rows)
    return Decomposition(x, features.mean, features.scale, features.center, target_rows, final, folds)


class _Maker:
    """Makes factors and folds; keeps the products over all rows from which training parts are down-dated."""

    def __init__(self, features: Features, target_rows: Tensor, n_distinct: int) -> None:
        self.features, self.target_rows, self.n_distinct = features, target_rows, n_distinct
        n, p = features.x.shape
        self.gram = lower_gram(features.x) if n >= p else None
        self.sums = _column_sums(features.x)

    def factor(self, train: Rows, double: bool) -> tuple[Factor, Tensor]:
        """Decompose the rows `train`; also the basis, which the factor itself may not need."""
        left_out = np.setdiff1d(np.arange(len(self.features.x)), train)
        if self.gram is None or len(train) < len(self.gram):
            return self._kernel(train, double)
        if len(left_out) < len(train):
            found = self._downdated(train, left_out, double)
            if found is not None:
                return found
        return self._direct(train, double)

    def fold(self, train: Rows, test: Rows, double: bool, n_alphas: int) -> Fold:
        """Decompose a training part and take its test rows into the eigenbasis."""
        factor, basis = self.factor(train, double)
        P = self.features.x[self._index(test)] @ basis
        row_mean = P.mean(0)
        rows = self.target_rows[self._index(test)]
        # without predictions: one m x m x t product; with them: one n_test x m x t product for each alpha
        if n_alphas * len(test) < len(factor.values):
            ones = torch.ones(len(test), dtype=P.dtype, device=P.device)
            return Fold(_without_basis(factor), Part(P, rows), ones, row_mean, None)
        centred = P - row_mean
        left_out = np.setdiff1d(np.arange(len(self.features.x)), train)
        same = not factor.kept and np.array_equal(left_out, np.sort(test))
        part = factor.rows if same else Part.of(P, rows)
        counts = self._counts(rows)[part.rows]
        return Fold(_without_basis(factor), part, counts, row_mean, centred.T @ centred)

    def _downdated(self, train: Rows, left_out: Rows, double: bool) -> tuple[Factor, Tensor] | None:
        """Take the rows left out from the products over all rows; None where rounding would eat a column."""
        assert self.gram is not None
        n, others = len(train), self.features.x[self._index(left_out)]
        gram = self.gram - lower_gram(others)
        mean = (self.sums - _column_sums(others)) / n
        variance = gram.diagonal() / n - mean.square()
        energy, whole = (variance if self.features.center else gram.diagonal() / n), self.gram.diagonal()
        share = n * energy[whole > 0] / whole[whole > 0]
        if len(share) and float(share.min()) <= _SILENT:
            return None
        if self.features.center:
            gram.addr_(mean, mean, alpha=-n)
        basis, values = self._primal(gram, mean, variance, n, double)
        rows = Part.of(others @ basis, self.target_rows[self._index(left_out)])
        return self._assemble(values, basis, mean, train, rows, kept=False), basis

    def _direct(self, train: Rows, double: bool) -> tuple[Factor, Tensor]:
        """Multiply the training rows out, exactly."""
        rows = self.features.x[self._index(train)]
        mean = _column_sums(rows) / len(train)
        centred = rows.double() - mean
        variance = centred.square().mean(0)
        gram = lower_gram(centred if self.features.center else rows)
        basis, values = self._primal(gram, mean, variance, len(train), double)
        part = Part.of(rows @ basis, self.target_rows[self._index(train)])
        return self._assemble(values, basis, mean, train, part, kept=True), basis

    def _kernel(self, train: Rows, double: bool) -> tuple[Factor, Tensor]:
        """Decompose the kernel of the training rows instead of their Gram matrix: fewer rows than columns."""
        rows = self.features.x[self._index(train)].double()
        mean = rows.mean(0)
        variance = (rows - mean).square().mean(0)
        inverse = self._inverse(mean, variance, len(train))
        rows -= mean if self.features.center else 0.0
        rows *= inverse
        values, vectors = eigh(lower_gram(rows.T), double=True)
        basis = (inverse[:, None] * (rows.T @ vectors)).to(self.features.x.dtype)
        vectors = vectors.to(self.features.x.dtype)
        part = Part.of(vectors, self.target_rows[self._index(train)])
        factor = self._assemble(values, basis, mean, train, part, kept=True)
        return replace(factor, shift=vectors.sum(0)), basis

    def _primal(self, gram: Tensor, mean: Tensor, variance: Tensor, n: int, double: bool) -> tuple[Tensor, Tensor]:
        """Standardise a lower Gram matrix (overwritten) and decompose it: basis (p, p), eigenvalues (p,)."""
        inverse = self._inverse(mean, variance, n)
        gram *= inverse[:, None]
        gram *= inverse
        values, vectors = eigh(gram, double)
        return vectors.mul_(inverse[:, None].to(vectors.dtype)).to(self.features.x.dtype), values

    def _inverse(self, mean: Tensor, variance: Tensor, n: int) -> Tensor:
        """What the columns of a training part are multiplied with, (p,): 0 for those that tell nothing."""
        features = self.features
        constant = variance <= (n * EPS * (mean + features.mean / features.scale)).square()
        inverse = torch.ones_like(variance)
        if features.standardize:
            inverse = torch.where(constant, inverse, variance.clamp(min=0).rsqrt())
        return torch.where(constant, 0.0, inverse) if features.center else inverse

    def _assemble(self, values: Tensor, basis: Tensor, mean: Tensor, train: Rows, rows: Part, kept: bool) -> Factor:
        center, dtype = self.features.center, self.features.x.dtype
        origin = (mean.to(dtype) if center else torch.zeros_like(mean, dtype=dtype)) @ basis
        weights = self._counts(self.target_rows[self._index(train)])
        return Factor(values.to(dtype), basis, origin, len(train) * origin, weights, rows, kept)

    def _counts(self, rows: Tensor) -> Tensor:
        return torch.bincount(rows, minlength=self.n_distinct).to(self.features.x.dtype)

    def _index(self, rows: Rows) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.features.x.device)


def _without_basis(factor: Factor) -> Factor:
    """Drop the basis where training targets are multiplied out without it."""
    return replace(factor, basis=None) if factor.kept else factor


def lower_gram(x: Tensor) -> Tensor:
    """``xᵀx`` in float64 from (n, p) of any precision; only the lower triangle is meant, which is half the work."""
    p = x.shape[1]
    gram = torch.zeros(p, p, dtype=torch.float64, device=x.device)
    for rows in _chunks(x):
        rows = rows.double()
        for start in range(0, p, 512):
            columns = slice(start, start + 512)
            gram[start:, columns].addmm_(rows[:, start:].T, rows[:, columns])
    return gram


def eigh(matrix: Tensor, double: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending and not negative, and eigenvectors, from the lower triangle."""
    values, vectors = torch.linalg.eigh(matrix if double else matrix.float(), UPLO="L")
    return values.clamp_(min=0.0), vectors


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    return torch.split(x, _CHUNK)


def _column_sums(x: Tensor) -> Tensor:
    return torch.stack([part.double().sum(0) for part in _chunks(x)]).sum(0)
