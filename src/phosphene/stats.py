"""Small statistics: bootstrap over images, permutation p, and corrections for many tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from phosphene.errors import PhospheneError

Statistic = Callable[[NDArray[np.float64]], float]


@dataclass(frozen=True)
class PairedDifference:
    """Mean of ``a - b`` over images, its 95 % interval (low, high) and its two-sided bootstrap p."""

    difference: float
    ci: tuple[float, float]
    p: float


def bootstrap_ci(
    values: ArrayLike,
    statistic: Statistic | None = None,
    *,
    n_bootstrap: int = 2000,
    level: float = 0.95,
    rng: np.random.Generator | int = 0,
) -> tuple[float, float]:
    """Percentile confidence interval by resampling images.

    Parameters
    ----------
    values : array_like, (n_images, ...)
        One row per image; rows are resampled whole, with replacement.
    statistic : callable, optional
        Maps a resampled array to one number; the mean when not given.
    n_bootstrap : int
        Number of resamples.
    level : float
        Coverage, between 0 and 1.
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    (float, float)
        Low and high end.

    Raises
    ------
    PhospheneError
        When there is no image, ``n_bootstrap`` is below 1 or ``level`` lies outside (0, 1).
    """
    if not 0 < level < 1:
        raise PhospheneError(f"bootstrap_ci: level must lie between 0 and 1, found {level}.")
    draws = _resample(_rows(values), statistic, n_bootstrap, np.random.default_rng(rng))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, n_bootstrap: int = 2000, rng: np.random.Generator | int = 0
) -> PairedDifference:
    """Compare two methods on the same images by resampling the images.

    Parameters
    ----------
    a, b : array_like, (n_images,)
        One score per image and method, in the same order.
    n_bootstrap : int
        Number of resamples.
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    PairedDifference
        ``p`` is twice the smaller share of resamples on one side of zero, each share as ``(1 + k) / (1 + N)``.

    Raises
    ------
    PhospheneError
        When the shapes differ or there is no image.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise PhospheneError(f"paired_bootstrap: a and b need one score per image each, found {x.shape} and {y.shape}.")
    draws = _resample(_rows(x - y), None, n_bootstrap, np.random.default_rng(rng))
    low, high = np.quantile(draws, [0.025, 0.975])
    below, above = (draws <= 0).sum(), (draws >= 0).sum()
    p = min(1.0, 2.0 * (1 + min(below, above)) / (1 + n_bootstrap))
    return PairedDifference(float((x - y).mean()), (float(low), float(high)), float(p))


def permutation_p(observed: ArrayLike, null: ArrayLike) -> NDArray[np.float64]:
    """One-sided p of an observed value among permuted ones, ``(1 + #{null >= observed}) / (1 + N)``.

    Parameters
    ----------
    observed : array_like, (...)
        For example one value per voxel; NaN gives p NaN.
    null : array_like, (n_permutations, ...)
        The same statistic under permutations.

    Returns
    -------
    ndarray of float64, (...)
        Never 0 (Phipson & Smyth 2010).

    Raises
    ------
    PhospheneError
        When the shapes do not match.
    """
    value, draws = np.asarray(observed, dtype=np.float64), np.asarray(null, dtype=np.float64)
    if draws.shape[1:] != value.shape or draws.ndim == 0 or len(draws) == 0:
        raise PhospheneError(f"permutation_p: null must be (n_permutations, *{value.shape}), found {draws.shape}.")
    p = (1 + (draws >= value).sum(axis=0)) / (1 + len(draws))
    return np.asarray(np.where(np.isnan(value), np.nan, p), dtype=np.float64)


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction: p-values adjusted for the family-wise error, NaN kept and not counted."""
    return _adjust(p, _holm)


def fdr_bh(p: ArrayLike) -> NDArray[np.float64]:
    """Benjamini-Hochberg q-values (false discovery rate), NaN kept and not counted."""
    return _adjust(p, false_discovery_control)


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _adjust(p: ArrayLike, method: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=np.float64)
    known = ~np.isnan(values)
    if np.any((values[known] < 0) | (values[known] > 1)):
        raise PhospheneError("p-values must lie between 0 and 1; check what was handed in.")
    adjusted = np.full(values.shape, np.nan)
    if known.any():
        adjusted[known] = method(values[known])
    return adjusted


def _rows(values: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim == 0 or len(rows) == 0:
        raise PhospheneError("A bootstrap needs at least one image, found none.")
    return rows


def _resample(
    rows: NDArray[np.float64], statistic: Statistic | None, n_bootstrap: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    if n_bootstrap < 1:
        raise PhospheneError(f"n_bootstrap must be 1 or more, found {n_bootstrap}.")
    n = len(rows)
    compute = np.mean if statistic is None else statistic
    return np.array([compute(rows[generator.integers(0, n, n)]) for _ in range(n_bootstrap)], dtype=np.float64)
