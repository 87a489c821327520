"""Validation scores of a whole grid of penalties at nearly the price of one.

A fold's predictions are ``P (q / (w + alpha))`` plus the training mean, with P (n_test, m) the test
rows in the eigenbasis. Every score is made of four numbers per penalty and target, and none of them
needs the predictions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.numerics.ridge.factors import EPS, Fold

Scoring = Literal["r2", "neg_mean_squared_error", "correlation"]

# Relative gap of "close" eigenvalues. Rounding costs eps / gap and truncation gap² / 2: about 1e-11
# and 1e-5.
_CLOSE = {torch.float64: 1e-5, torch.float32: 3e-3}
_DENSE = 0.02  # share of close pairs above which a dense product beats a sparse one


@dataclass(frozen=True)
class Pairs:
    """M = PᵀP, (m, m), for :func:`quadratic`: ``far`` M_ij / (w_j - w_i), ``close`` M_ij of close
    pairs.
    """

    far: Tensor
    close: Tensor


def split_pairs(
    values: Tensor, products: Tensor, smallest_alpha: float, overwrite: bool = False
) -> Pairs:
    """Split `products` M (m, m) by whether two ascending eigenvalues are close; every i = j is
    close.
    """
    close = _CLOSE[values.dtype]
    end = torch.searchsorted(values, values * (1 + close) + close * smallest_alpha, right=True)
    index = torch.arange(len(values), device=values.device)
    # the same relation seen from the larger of the two
    start = torch.searchsorted(end, index, right=True)
    near = (index >= start[:, None]) & (index < end[:, None])
    if float(near.float().mean()) > _DENSE:
        alike = products * near
    else:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
            alike = (products * near).to_sparse_csr()
    gaps = (values - values[:, None]).masked_fill_(near, torch.inf)
    return Pairs(torch.divide(products, gaps, out=products if overwrite else None), alike)


def quadratic(values: Tensor, pairs: Pairs, q: Tensor, alphas: Tensor) -> Tensor:
    """``Σ_ij d_i q_i M_ij q_j d_j`` with ``d_i = 1 / (w_i + alpha)`` for every penalty, (n_alphas,
    block).

    For distinct eigenvalues ``d_i d_j`` equals ``(d_i - d_j) / (w_j - w_i)``, which leaves one
    product ``far @ q`` for all penalties. For close ones it is ``(d_i² + d_j²) / 2`` up to ``(d_i -
    d_j)² / 2``: one more, sparse, product. As only differences of d count, that of the largest
    eigenvalue is taken off first: under a large penalty all d are nearly equal, and rounding would
    eat their differences.
    """
    once = (pairs.far @ q).mul_(q)
    twice = (pairs.close @ q).mul_(q)
    largest = values[-1]
    d = 1.0 / (values + alphas[:, None])
    less = (largest - values) * d / (largest + alphas[:, None])
    return (2.0 * (less @ once)).addmm_(d * d, twice).clamp_(min=0.0)


@dataclass(frozen=True)
class Moments:
    """Four numbers of predictions ŷ and test targets y, for every penalty and target.

    ``spread`` (block,) Σ(y - mean y)²; ``dot`` (n_alphas, block) Σ ŷ (y - mean y); ``energy``
    (n_alphas, block) Σ(ŷ - mean ŷ)²; ``bias`` (n_alphas, block) mean y - mean ŷ; ``n`` test rows;
    ``constant`` (block,) targets.
    """

    spread: Tensor
    dot: Tensor
    energy: Tensor
    bias: Tensor
    n: float
    constant: Tensor


def moments(
    fold: Fold, pairs: Pairs | None, y: Tensor, cross: Tensor | None, alphas: Tensor, center: bool
) -> Moments:
    """Compute the moments of one fold for centred targets `y` (n_distinct, block)."""
    factor = fold.factor
    n = float(fold.counts.sum())
    q, multiplied, train_mean = factor.project(y, cross, center)
    d = 1.0 / (factor.values + alphas[:, None])
    held_out = y[fold.test.rows]
    sums = fold.counts @ held_out
    constant = held_out.amax(0) - held_out.amin(0) == 0
    held_out -= sums / n
    spread = fold.counts @ held_out.square()
    bias = (sums / n - train_mean) - d @ ((fold.row_mean - factor.origin)[:, None] * q)
    if pairs is None:
        centred = fold.test.matrix - fold.row_mean
        predicted = [centred @ (q * one[:, None]) for one in d]
        dot = torch.stack([(values * held_out).sum(0) for values in predicted])
        energy = torch.stack([values.square_().sum(0) for values in predicted])
        return Moments(spread, dot, energy, bias, n, constant)
    energy = quadratic(factor.values, pairs, q, alphas)
    r = multiplied if fold.test is factor.rows else fold.test.times(y)
    r = r.addr_(fold.row_mean, sums, alpha=-1)
    return Moments(spread, d @ r.mul_(q), energy, bias, n, constant)


def negative_error(m: Moments) -> Tensor:
    """Minus the mean squared error, (n_alphas, block)."""
    return -((m.spread - 2 * m.dot + m.energy).clamp(min=0) / m.n + m.bias.square())


def r_squared(m: Moments) -> Tensor:
    """1 - mean squared error / variance; 0 for a constant target."""
    score = 1.0 + negative_error(m) * m.n / torch.where(m.constant, 1.0, m.spread)
    return torch.where(m.constant, 0.0, score)


def correlation(m: Moments) -> Tensor:
    """Pearson correlation; 0 for a constant target or prediction."""
    product = (m.energy * m.spread).sqrt()
    silent = m.constant | (product <= EPS * m.spread)
    return torch.where(silent, 0.0, (m.dot / torch.where(silent, 1.0, product)).clamp(-1.0, 1.0))


SCORES: dict[str, Callable[[Moments], Tensor]] = {
    "r2": r_squared,
    "neg_mean_squared_error": negative_error,
    "correlation": correlation,
}
# test rows that a score needs
LEAST_TEST = {
    "r2": 2,
    "neg_mean_squared_error": 1,
    "correlation": 2,
}


def checked_scoring(scoring: str) -> str:
    """Refuse scorings that do not exist."""
    if scoring not in SCORES:
        raise PhospheneError(
            f"RidgeCV: scoring must be one of {', '.join(SCORES)}, found {scoring!r}."
        )
    return scoring


def summed_scores(
    folds: list[Fold],
    pairs: list[Pairs | None],
    y: Tensor,
    cross: Tensor | None,
    alphas: Tensor,
    center: bool,
    scoring: str,
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Scores summed over folds, (n_alphas, block)."""
    total = torch.zeros(len(alphas), y.shape[1], dtype=torch.float64, device=y.device)
    for fold, split in zip(folds, pairs, strict=True):
        total += SCORES[scoring](moments(fold, split, y, cross, alphas, center))
    scores: np.ndarray[tuple[int, int], np.dtype[np.float64]] = total.cpu().numpy()
    return scores
