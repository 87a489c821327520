"""How decompositions are made: Gram matrices, eigendecompositions, and the cheaper of two forms of
each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.numerics.ridge.factors import (
    CHUNK,
    EPS,
    Decomposition,
    Factor,
    Features,
    Fold,
    Part,
    column_moments,
    column_sums,
    doubles,
)
from phosphene.numerics.ridge.folds import Rows

Splits = Sequence[tuple[Rows, Rows]]
Taken = Callable[[Rows], Tensor]  # any rows (k,) in the eigenbasis of a training part, (k, m)

_SILENT = 1e-6  # share of a column's variance below which down-dating would lose it to rounding
# error of a float32 eigendecomposition, relative to the largest eigenvalue (measured)
_SINGLE_ERROR = 1e-6
# relative error of w + alpha up to which the scores of float32 data may use one
_SINGLE_ENOUGH = 1e-4


class Maker:
    """Makes decompositions of some features; keeps the products over all rows, which training parts
    are taken from.

    Parameters
    ----------
    features : Features
    target_rows : ndarray of int, (n,)
        Which of the `n_distinct` rows of the targets every row has; rows with the same one are
        summed first.
    n_distinct : int
    keep : bool
        Keep the products of the rows left out as well, for :meth:`weighted`.
    """

    def __init__(
        self, features: Features, target_rows: NDArray[np.intp], n_distinct: int, keep: bool = False
    ) -> None:
        self.features = features
        self.n_distinct = n_distinct
        self.target_rows = torch.from_numpy(np.ascontiguousarray(target_rows)).to(features.x.device)
        n, p = features.x.shape
        self.gram = lower_gram(doubles(features.x), p) if n > p else None
        self.kernel: Tensor | None = None
        self.sums = column_sums(features.x)
        self.weights: Tensor | None = None
        self.kept_grams: dict[bytes, Tensor] | None = {} if keep else None

    def weighted(self, weights: Tensor) -> Maker:
        """Multiply the standardised columns with `weights` (p,); products are shared, not made
        again.
        """
        other = copy(self)
        other.weights = weights
        other.kernel = None
        return other

    def decomposition(self, splits: Splits, alphas: NDArray[np.float64]) -> Decomposition:
        """Decompose all rows and every training part; `splits` and `alphas` as :meth:`started`
        takes them.
        """
        parts, folds = self.started(splits, alphas)
        return replace(parts, folds=list(folds))

    def started(
        self, splits: Splits, alphas: NDArray[np.float64]
    ) -> tuple[Decomposition, Iterator[Fold]]:
        """Decompose all rows now and training parts one by one, when they are asked for.

        Parameters
        ----------
        splits : sequence of (train, test) row numbers
        alphas : ndarray, (n_alphas,)
            Penalties that will be tried: they decide which forms are cheaper, and the precision
            that is needed.
        """
        features = self.features
        (n, p) = self.features.x.shape
        everything = np.arange(n)
        rows = self.target_rows.cpu().numpy()
        final = self.factor(everything, double=True)[0]
        # the direction that centring takes, which no target has either
        lost = int(features.center and 1 < n <= p)
        largest = float(final.values[-1])
        smallest = float(final.values[lost])
        single = _SINGLE_ERROR * largest < _SINGLE_ENOUGH * (smallest + float(alphas.min()))
        double = features.x.dtype == torch.float64 or not single
        x = None
        span = None
        if self.gram is None:
            scaling = self._scaling(self._index(everything)).square() / features.scale
            span = features.x if bool((scaling == 1).all()) else features.x * scaling.to(features.x)
        else:
            x = Part.of(features.x, self.target_rows)
        parts = Decomposition(
            x, span, features.mean, features.scale, features.center, rows, final, []
        )
        return parts, (self.fold(train, test, double, len(alphas)) for train, test in splits)

    def factor(self, train: Rows, double: bool) -> tuple[Factor, Taken]:
        """Decompose the rows `train`; the function takes any rows into the eigenbasis."""
        if self.gram is None or len(train) < len(self.gram):
            return self._dual(train, double)
        left_out = self._others(train)
        if len(left_out) < len(train):
            found = self._downdated(train, left_out, double)
            if found is not None:
                return found
        return self._direct(train, double)

    def fold(self, train: Rows, test: Rows, double: bool, n_alphas: int) -> Fold:
        """Decompose a training part and take its test rows into the eigenbasis."""
        factor, taken = self.factor(train, double)
        test = np.sort(test)
        P = taken(test)
        if factor.kept:  # training targets are multiplied out without the basis
            factor = replace(factor, basis=None)
        row_mean = P.mean(0)
        rows = self.target_rows[self._index(test)]
        # so are their predictions, but a product may round every row in its own way
        if self._all_equal(test):
            P, row_mean = P[:1].repeat(len(P), 1), P[0]
        # without predictions: one m x m x t product; with them: one n_test x m x t product for each
        # alpha
        if n_alphas * len(test) < len(factor.values):
            ones = torch.ones(len(test), dtype=P.dtype, device=P.device)
            return Fold(factor, Part(P, rows), ones, row_mean, None)
        same = not factor.kept and np.array_equal(self._others(train), test)
        part = factor.rows if same else Part.of(P, rows)
        P = P - row_mean
        return Fold(factor, part, self._counts(rows)[part.rows], row_mean, P.T @ P)

    def _downdated(self, train: Rows, left_out: Rows, double: bool) -> tuple[Factor, Taken] | None:
        """Take the rows left out from the products over all rows; None where rounding would eat a
        column.
        """
        assert self.gram is not None
        n = len(train)
        others = self.features.x[self._index(left_out)]
        gram = self.gram - self._gram_of(left_out, others) if len(left_out) else self.gram.clone()
        mean = (self.sums - column_sums(others)) / n
        variance = gram.diagonal() / n - mean.square()
        own = self.features.center or self.features.standardize
        energy = variance if own else gram.diagonal() / n
        whole = self.gram.diagonal()
        share = n * energy[whole > 0] / whole[whole > 0]
        if len(share) and float(share.min()) <= _SILENT:
            return None
        if self.features.center:
            gram.addr_(mean, mean, alpha=-n)
        basis, values = self._primal(gram, mean, variance, n, double)
        others = others @ basis
        rows = Part.of(others, self.target_rows[self._index(left_out)])

        def taken(some: Rows) -> Tensor:
            return others if np.array_equal(some, left_out) else self._projected(some, basis)

        return self._assemble(
            values, basis, self._origin(mean, basis), train, rows, kept=False
        ), taken

    def _gram_of(self, left_out: Rows, others: Tensor) -> Tensor:
        """Gram matrix of the rows left out, remembered if it will be needed again."""
        found = (self.kept_grams or {}).get(left_out.tobytes())
        if found is None:
            found = lower_gram(doubles(others), others.shape[1])
            if self.kept_grams is not None:
                self.kept_grams[left_out.tobytes()] = found
        return found

    def _direct(self, train: Rows, double: bool) -> tuple[Factor, Taken]:
        """Multiply the training rows out, exactly."""
        rows = self.features.x[self._index(train)]
        mean, variance = column_moments(rows)
        shift = mean if self.features.center else 0.0
        gram = lower_gram((part - shift for part in doubles(rows)), len(mean))
        basis, values = self._primal(gram, mean, variance, len(train), double)
        part = Part.of(rows @ basis, self.target_rows[self._index(train)])
        factor = self._assemble(values, basis, self._origin(mean, basis), train, part, kept=True)
        return factor, partial(self._projected, basis=basis)

    def _dual(self, train: Rows, double: bool) -> tuple[Factor, Taken]:
        """Decompose the kernel of the training rows instead of their Gram matrix: fewer rows than
        columns.
        """
        dtype = self.features.x.dtype
        index = self._index(train)
        kernel = self._products(index)
        among = kernel[index[:, None], index]
        if self.features.center:
            mean = among.mean(0)
            among -= mean
            mean = mean - mean.mean()
            among -= mean[:, None]
        else:
            mean = torch.zeros_like(among[0])
        values, vectors = eigh(among, double)
        vectors = vectors.to(dtype).contiguous()
        part = Part.of(vectors, self.target_rows[index])
        factor = self._assemble(values, vectors, mean.to(dtype) @ vectors, train, part, kept=True)

        def taken(some: Rows) -> Tensor:
            # times the centred rows of the training part
            across = kernel[self._index(some)][:, index]
            across -= across.mean(1, keepdim=True) if self.features.center else 0.0
            return across.to(dtype) @ vectors

        return replace(factor, shift=vectors.sum(0)), taken

    def _products(self, train: Tensor) -> Tensor:
        """``Z Zᵀ`` of all rows, columns scaled as in a training part; made once where that is the
        same for all.
        """
        if self.kernel is not None:
            return self.kernel
        x = self.features.x
        columns = zip(
            torch.split(x, CHUNK, dim=1), torch.split(self._scaling(train), CHUNK), strict=True
        )
        kernel = mirrored(lower_gram(((part.double() * w).T for part, w in columns), len(x)))
        if not self.features.standardize:
            self.kernel = kernel
        return kernel

    def _scaling(self, train: Tensor) -> Tensor:
        """What the columns are multiplied with for a kernel, (p,); it need not name those that
        centring removes.
        """
        if self.features.standardize:
            return self._inverse(*column_moments(self.features.x[train]), len(train))
        return torch.ones_like(self.sums) if self.weights is None else self.weights

    def _primal(
        self, gram: Tensor, mean: Tensor, variance: Tensor, n: int, double: bool
    ) -> tuple[Tensor, Tensor]:
        """Standardise a lower Gram matrix (overwritten) and decompose it: basis (p, p), eigenvalues
        (p,).
        """
        inverse = self._inverse(mean, variance, n)
        gram *= inverse[:, None]
        gram *= inverse
        values, vectors = eigh(gram, double)
        return vectors.mul_(inverse[:, None].to(vectors.dtype)).to(
            self.features.x.dtype
        ).contiguous(), values

    def _inverse(self, mean: Tensor, variance: Tensor, n: int) -> Tensor:
        """What the columns of a training part are multiplied with, (p,): 0 for those that tell
        nothing.

        Without an intercept a column that is constant there stays as it was given, which undoes the
        scale of all rows.
        """
        features = self.features
        constant = variance <= (n * EPS * (mean + features.mean / features.scale)).square()
        inverse = torch.ones_like(variance)
        if features.standardize:
            inverse = torch.where(constant, features.scale, variance.clamp(min=0).rsqrt())
        if features.center:
            inverse = torch.where(constant, 0.0, inverse)
        return inverse if self.weights is None else inverse * self.weights

    def _assemble(
        self,
        values: Tensor,
        basis: Tensor | None,
        origin: Tensor,
        train: Rows,
        rows: Part,
        kept: bool,
    ) -> Factor:
        weights = self._counts(self.target_rows[self._index(train)])
        return Factor(
            values.to(origin.dtype), basis, origin, len(train) * origin, weights, rows, kept
        )

    def _origin(self, mean: Tensor, basis: Tensor) -> Tensor:
        return (mean if self.features.center else torch.zeros_like(mean)).to(basis.dtype) @ basis

    def _projected(self, some: Rows, basis: Tensor) -> Tensor:
        return self.features.x[self._index(some)] @ basis

    def _others(self, train: Rows) -> Rows:
        return np.setdiff1d(np.arange(len(self.features.x)), train)

    def _counts(self, rows: Tensor) -> Tensor:
        return torch.bincount(rows, minlength=self.n_distinct).to(self.features.x.dtype)

    def _all_equal(self, rows: Rows) -> bool:
        first = self.features.x[rows[0]]
        return all(torch.equal(self.features.x[row], first) for row in rows[1:])

    def _index(self, rows: Rows) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self.features.x.device)


def lower_gram(blocks: Iterable[Tensor], p: int) -> Tensor:
    """``xᵀx`` (p, p) of float64 blocks of rows (k, p); only the lower triangle is meant, which is
    half the work.
    """
    gram: Tensor | None = None
    for rows in blocks:
        gram = torch.zeros(p, p, dtype=torch.float64, device=rows.device) if gram is None else gram
        for start in range(0, p, 512):
            columns = slice(start, start + 512)
            gram[start:, columns].addmm_(rows[:, start:].T, rows[:, columns])
    assert gram is not None
    return gram


def mirrored(lower: Tensor) -> Tensor:
    """Make a matrix symmetric that has its lower triangle only, in place."""
    for start in range(0, len(lower), 512):
        end = start + 512
        lower[start:end, end:] = lower[end:, start:end].T
        corner = lower[start:end, start:end]
        corner += corner.tril(-1).T - corner.triu(1)
    return lower


def eigh(matrix: Tensor, double: bool) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending and not negative, and eigenvectors, from the lower triangle of a
    matrix (overwritten).

    What does not converge in single precision is tried in double precision on the CPU.
    """
    turned = (
        matrix if double else matrix.float()
    ).T  # LAPACK stores columns: it can put the vectors where these are
    values = turned.new_empty(len(turned))
    vectors = turned
    try:
        torch.linalg.eigh(turned, UPLO="U", out=(values, vectors))
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        if double:
            raise PhospheneError(
                "RidgeCV: the eigendecomposition of X does not converge; look for columns of "
                "extreme size, or set standardize=True."
            ) from error
        values, vectors = eigh(matrix.double().cpu(), double=True)
        values = values.to(turned)
        vectors = vectors.to(turned)
    return values.clamp_(min=0.0), vectors
