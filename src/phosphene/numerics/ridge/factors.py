"""All of a ridge regression that depends on X alone: one eigendecomposition for every fold and one
for all rows.

``ZᵀZ = V diag(w) Vᵀ`` of the standardised training part ``Z`` (or ``ZZᵀ = U diag(w) Uᵀ`` when it
has fewer rows than columns) gives a basis in which ridge is diagonal: coefficients are ``basis @ (q
/ (w + alpha))``. The Gram matrix of a training part is that of all rows minus that of the rows left
out, and so are its products with targets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EPS = float(np.finfo(np.float64).eps)
CHUNK = 512  # rows that are float64 at a time


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
        mean, variance = column_moments(X)
        divide = (
            (variance > (len(X) * EPS * mean) ** 2)
            if standardize
            else torch.zeros_like(mean, dtype=torch.bool)
        )
        scale = torch.where(divide, variance.sqrt(), 1.0)
        mean = mean if center else torch.zeros_like(mean)
        x = torch.empty(X.shape, dtype=dtype, device=X.device)
        for out, part in zip(torch.split(x, CHUNK), torch.split(X, CHUNK), strict=True):
            out.copy_((part - mean).div_(scale))
        return cls(x, mean, scale, center, standardize)


@dataclass(frozen=True)
class Part:
    """Rows summed over repeats: ``matrix`` (k, m) belongs to the distinct target rows ``rows``
    (k,).
    """

    matrix: Tensor
    rows: Tensor

    @classmethod
    def of(cls, matrix: Tensor, rows: Tensor) -> Part:
        """Sum the rows of `matrix` that have the same target row."""
        distinct, inverse = torch.unique(rows, return_inverse=True)
        if len(distinct) == len(rows):
            return cls(matrix, rows)
        summed = torch.zeros(
            len(distinct), matrix.shape[1], dtype=matrix.dtype, device=matrix.device
        )
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
    basis : (p, m) from that basis to features, in dual form (n, m) to training rows; None where
        nothing needs it
    origin : (m,) the training mean of X in that basis
    shift : (m,) what the training mean of a target is multiplied with in :meth:`project`
    weights : (n_distinct,) how many training rows have each distinct target row
    rows : the rows that ``project`` multiplies out
    kept : ``rows`` are the training rows themselves; otherwise those left out, taken from the
        product over all rows
    """

    values: Tensor
    basis: Tensor | None
    origin: Tensor
    shift: Tensor
    weights: Tensor
    rows: Part
    kept: bool

    def project(
        self, y: Tensor, cross: Tensor | None, center: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Project distinct target rows (n_distinct, block).

        Returns
        -------
        q : (m, block) training targets in the eigenbasis; coefficients are
            ``basis @ (q / (w + alpha))``
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
    test : the test rows in its eigenbasis; the same as ``factor.rows`` where these are the ones
        left out
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
    """Everything about X that a cross-validated fit needs; made by ``maker.Maker``, used for any
    number of targets.

    Attributes
    ----------
    x : (k, p) features, summed over the repeats of each target row; None in dual form
    span : (n, p) rows that coefficients are made of in dual form, ``spanᵀ @ dual``, in units of the
        raw features
    mean, scale : (p,) as in :class:`Features`
    center : an intercept is fitted
    target_rows : (n,) distinct target row of every row
    final : factor of all rows
    folds : one per split
    """

    x: Part | None
    span: Tensor | None
    mean: Tensor
    scale: Tensor
    center: bool
    target_rows: NDArray[np.intp]
    final: Factor
    folds: list[Fold]

    def cross(self, y: Tensor) -> Tensor | None:
        """Products of features and targets over all rows (p, block), if any factor needs them."""
        return None if self.x is None else self.x.times(y)


def doubles(x: Tensor) -> Iterator[Tensor]:
    """Rows in float64, some at a time."""
    return (part.double() for part in torch.split(x, CHUNK))


def column_sums(x: Tensor) -> Tensor:
    """Sum rows in float64, (p,)."""
    return torch.stack([part.sum(0, dtype=torch.float64) for part in torch.split(x, CHUNK)]).sum(0)


def column_moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every column in float64, (p,) each."""
    mean = column_sums(x) / len(x)
    # mean is float64, and so is all
    squares = [(part - mean).square_().sum(0) for part in torch.split(x, CHUNK)]
    return mean, torch.stack(squares).sum(0) / len(x)
