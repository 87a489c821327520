"""How decompositions are made: Gram matrices, eigendecompositions, and the cheaper of two forms for each fold."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.ridge.factors import EPS, Decomposition, Factor, Features, Fold, Part, chunks, column_sums
from phosphene.ridge.folds import Rows

_SILENT = 1e-6  # share of a column's variance below which down-dating would lose it to rounding
_SINGLE_ERROR = 1e-6  # error of a float32 eigendecomposition, relative to the largest eigenvalue (measured)
_SINGLE_ENOUGH = 1e-4  # relative error of w + alpha up to which the scores of float32 data may use one


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
    return Maker(features, target_rows, n_distinct).decomposition(splits, alphas)


class Maker:
    """Makes decompositions of some features; keeps the products over all rows, which training parts are taken from.

    Parameters
    ----------
    features, target_rows, n_distinct
        As :func:`decompose` takes them.
    keep : bool
        Keep the products of the rows left out as well, for :meth:`weighted`.
    """

    def __init__(self, features: Features, target_rows: NDArray[np.intp], n_distinct: int, keep: bool = False) -> None:
        self.features, self.n_distinct = features, n_distinct
        self.target_rows = torch.from_numpy(np.ascontiguousarray(target_rows)).to(features.x.device)
        n, p = features.x.shape
        self.gram = lower_gram(features.x) if n >= p else None
        self.sums = column_sums(features.x)
        self.weights: Tensor | None = None
        self.kept_grams: dict[bytes, Tensor] | None = {} if keep else None

    def weighted(self, weights: Tensor) -> Maker:
        """Multiply the standardised columns with `weights` (p,); products are shared, not made again."""
        other = copy(self)
        other.weights = weights
        return other

    def decomposition(self, splits: Sequence[tuple[Rows, Rows]], alphas: NDArray[np.float64]) -> Decomposition:
        """Decompose all rows and every training part."""
        features, everything = self.features, np.arange(len(self.features.x))
        final = self.factor(everything, double=True)[0]
        largest, smallest = float(final.values.max()), float(final.values.min())
        single = _SINGLE_ERROR * largest < _SINGLE_ENOUGH * (smallest + float(alphas.min()))
        double = features.x.dtype == torch.float64 or not single
        folds = [self.fold(train, test, double, len(alphas)) for train, test in splits]
        x, rows = Part.of(features.x, self.target_rows), self.target_rows.cpu().numpy()
        return Decomposition(x, features.mean, features.scale, features.center, rows, final, folds)

    def factor(self, train: Rows, double: bool) -> tuple[Factor, Tensor, Tensor | None]:
        """Decompose the rows `train`.

        Returns
        -------
        factor : Factor
        basis : (p, m), also where the factor itself does not need it
        left_out : (n - n_train, m) the other rows in that basis, if they had to be computed
        """
        left_out = np.setdiff1d(np.arange(len(self.features.x)), train)
        if self.gram is None or len(train) < len(self.gram):
            return self._kernel(train)
        if len(left_out) < len(train):
            found = self._downdated(train, left_out, double)
            if found is not None:
                return found
        return self._direct(train, double)

    def fold(self, train: Rows, test: Rows, double: bool, n_alphas: int) -> Fold:
        """Decompose a training part and take its test rows into the eigenbasis."""
        factor, basis, P = self.factor(train, double)
        test = np.sort(test)
        same = P is not None and np.array_equal(np.setdiff1d(np.arange(len(self.features.x)), train), test)
        if P is None or not same:
            P = self.features.x[self._index(test)] @ basis
        if factor.kept:  # training targets are multiplied out without the basis
            factor = replace(factor, basis=None)
        row_mean, rows = P.mean(0), self.target_rows[self._index(test)]
        if self._all_equal(test):  # so are their predictions, but a product may round every row in its own way
            P, row_mean = P[:1].repeat(len(P), 1), P[0]
        # without predictions: one m x m x t product; with them: one n_test x m x t product for each alpha
        if n_alphas * len(test) < len(factor.values):
            ones = torch.ones(len(test), dtype=P.dtype, device=P.device)
            return Fold(factor, Part(P, rows), ones, row_mean, None)
        part = factor.rows if same else Part.of(P, rows)
        P = P - row_mean
        return Fold(factor, part, self._counts(rows)[part.rows], row_mean, P.T @ P)

    def _downdated(self, train: Rows, left_out: Rows, double: bool) -> tuple[Factor, Tensor, Tensor] | None:
        """Take the rows left out from the products over all rows; None where rounding would eat a column."""
        assert self.gram is not None
        n, others = len(train), self.features.x[self._index(left_out)]
        gram = self.gram - self._gram_of(left_out, others)
        mean = (self.sums - column_sums(others)) / n
        variance = gram.diagonal() / n - mean.square()
        moments = self.features.center or self.features.standardize
        energy, whole = (variance if moments else gram.diagonal() / n), self.gram.diagonal()
        share = n * energy[whole > 0] / whole[whole > 0]
        if len(share) and float(share.min()) <= _SILENT:
            return None
        if self.features.center:
            gram.addr_(mean, mean, alpha=-n)
        basis, values = self._primal(gram, mean, variance, n, double)
        others = others @ basis
        rows = Part.of(others, self.target_rows[self._index(left_out)])
        return self._assemble(values, basis, mean, train, rows, kept=False), basis, others

    def _gram_of(self, left_out: Rows, others: Tensor) -> Tensor:
        """Gram matrix of the rows left out, remembered if it will be needed again."""
        if self.kept_grams is None:
            return lower_gram(others)
        key = left_out.tobytes()
        if key not in self.kept_grams:
            self.kept_grams[key] = lower_gram(others)
        return self.kept_grams[key]

    def _direct(self, train: Rows, double: bool) -> tuple[Factor, Tensor, None]:
        """Multiply the training rows out, exactly."""
        rows = self.features.x[self._index(train)]
        mean = column_sums(rows) / len(train)
        centred = rows.double() - mean
        variance = centred.square().mean(0)
        gram = lower_gram(centred if self.features.center else rows)
        basis, values = self._primal(gram, mean, variance, len(train), double)
        part = Part.of(rows @ basis, self.target_rows[self._index(train)])
        return self._assemble(values, basis, mean, train, part, kept=True), basis, None

    def _kernel(self, train: Rows) -> tuple[Factor, Tensor, None]:
        """Decompose the kernel of the training rows instead of their Gram matrix: fewer rows than columns."""
        rows = self.features.x[self._index(train)].double()
        mean = rows.mean(0)
        variance = (rows - mean).square().mean(0)
        inverse = self._inverse(mean, variance, len(train))
        rows -= mean if self.features.center else 0.0
        rows *= inverse
        values, vectors = eigh(lower_gram(rows.T), double=True)
        basis = (inverse[:, None] * (rows.T @ vectors)).to(self.features.x.dtype).contiguous()
        vectors = vectors.to(self.features.x.dtype).contiguous()
        part = Part.of(vectors, self.target_rows[self._index(train)])
        factor = self._assemble(values, basis, mean, train, part, kept=True)
        return replace(factor, shift=vectors.sum(0)), basis, None

    def _primal(self, gram: Tensor, mean: Tensor, variance: Tensor, n: int, double: bool) -> tuple[Tensor, Tensor]:
        """Standardise a lower Gram matrix (overwritten) and decompose it: basis (p, p), eigenvalues (p,)."""
        inverse = self._inverse(mean, variance, n)
        gram *= inverse[:, None]
        gram *= inverse
        values, vectors = eigh(gram, double)
        return vectors.mul_(inverse[:, None].to(vectors.dtype)).to(self.features.x.dtype).contiguous(), values

    def _inverse(self, mean: Tensor, variance: Tensor, n: int) -> Tensor:
        """What the columns of a training part are multiplied with, (p,): 0 for those that tell nothing.

        Without an intercept a column that is constant there stays as it was given, which undoes the scale of all rows.
        """
        features = self.features
        constant = variance <= (n * EPS * (mean + features.mean / features.scale)).square()
        inverse = torch.ones_like(variance)
        if features.standardize:
            inverse = torch.where(constant, features.scale, variance.clamp(min=0).rsqrt())
        if features.center:
            inverse = torch.where(constant, 0.0, inverse)
        return inverse if self.weights is None else inverse * self.weights

    def _assemble(self, values: Tensor, basis: Tensor, mean: Tensor, train: Rows, rows: Part, kept: bool) -> Factor:
        center, dtype = self.features.center, self.features.x.dtype
        origin = (mean.to(dtype) if center else torch.zeros_like(mean, dtype=dtype)) @ basis
        weights = self._counts(self.target_rows[self._index(train)])
        return Factor(values.to(dtype), basis, origin, len(train) * origin, weights, rows, kept)

    def _counts(self, rows: Tensor) -> Tensor:
        return torch.bincount(rows, minlength=self.n_distinct).to(self.features.x.dtype)

    def _all_equal(self, rows: Rows) -> bool:
        first = self.features.x[rows[0]]
        return all(torch.equal(self.features.x[row], first) for row in rows[1:])

    def _index(self, rows: Rows) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.features.x.device)


def lower_gram(x: Tensor) -> Tensor:
    """``xᵀx`` in float64 from (n, p) of any precision; only the lower triangle is meant, which is half the work."""
    p = x.shape[1]
    gram = torch.zeros(p, p, dtype=torch.float64, device=x.device)
    for rows in chunks(x):
        rows = rows.double()
        for start in range(0, p, 512):
            columns = slice(start, start + 512)
            gram[start:, columns].addmm_(rows[:, start:].T, rows[:, columns])
    return gram


def eigh(matrix: Tensor, double: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending and not negative, and eigenvectors, from the lower triangle."""
    values, vectors = torch.linalg.eigh(matrix if double else matrix.float(), UPLO="L")
    return values.clamp_(min=0.0), vectors
