"""p-values: two methods on the same images, one value among permuted ones, many at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, rankdata, wilcoxon

from phosphene.errors import PhospheneError
from phosphene.numerics.correlation import TIE_TOLERANCE, as_floats, merge_ties
from phosphene.numerics.stats.intervals import resampled

# images up to which the null distribution is exact, as in scipy (there without ties only)
EXACT = 50


@dataclass(frozen=True)
class PairedDifference:
    """Mean of ``a - b`` over images, its 95 % interval (low, high) and its two-sided bootstrap
    p.
    """

    difference: float
    ci: tuple[float, float]
    p: float


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
        ``p`` is twice the smaller share of resamples on one side of zero, each share as ``(1 + k) /
        (1 + N)``.

    Raises
    ------
    PhospheneError
        When the shapes differ, there is no image, or a score is missing (NaN, masked or infinite).
    """
    difference, zero = _differences(a, b, "paired_bootstrap")
    draws = resampled(difference, None, n_bootstrap, np.random.default_rng(rng))
    low, high = np.quantile(draws, [0.025, 0.975])
    below = (draws <= zero).sum()
    above = (draws >= -zero).sum()
    p = min(1.0, 2.0 * (1 + min(below, above)) / (1 + n_bootstrap))
    return PairedDifference(float(difference.mean()), (float(low), float(high)), float(p))


def signed_rank(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided Wilcoxon signed-rank p for two methods on the same images.

    Parameters
    ----------
    a, b : array_like, (n_images,)
        One score per image and method, in the same order.

    Returns
    -------
    float
        Exact for up to 50 images, with ties and zeros too, else by the normal approximation; 1
        where all differences are zero. Zero differences are ranked and half of their ranks given to
        either side (``zsplit`` of scipy), because images on which two methods are equal are
        evidence for their equality. Differences that rounding alone keeps apart are ties: p is the
        same for scores in other units.

    Raises
    ------
    PhospheneError
        When the shapes differ, there is no image, or a score is missing.

    Examples
    --------
    >>> signed_rank([0.9, 0.8, 0.7, 0.9, 0.8, 0.9], [0.5, 0.6, 0.6, 0.4, 0.7, 0.8])
    0.03125
    """
    difference, zero = _differences(a, b, "signed_rank")
    size = merge_ties(np.abs(difference), zero / TIE_TOLERANCE)
    size[size <= zero] = 0.0
    if not size.any():
        return 1.0
    merged = np.copysign(size, difference)
    if len(size) > EXACT:
        return float(wilcoxon(merged, zero_method="zsplit", method="asymptotic").pvalue)
    return _exact_signed_rank(merged)


def _exact_signed_rank(difference: NDArray[np.float64]) -> float:
    """Null distribution over all signs, one rank after the other; twice a shared rank is a whole
    number.
    """
    twice_ranks = np.rint(2 * rankdata(np.abs(difference))).astype(np.int64)
    # ranks of zeros go half to either side, whatever the signs
    signed = twice_ranks[difference != 0]
    probability = np.zeros(signed.sum() + 1)
    probability[0] = 1.0
    for rank in signed:
        probability = (
            probability + np.roll(probability, rank)
        ) / 2  # the end is still zero, so nothing wraps around
    positive = twice_ranks[difference > 0].sum()
    return float(min(1.0, 2 * min(probability[positive:].sum(), probability[: positive + 1].sum())))


def compare_methods(
    scores: Mapping[str, ArrayLike], *, n_bootstrap: int = 2000, rng: np.random.Generator | int = 0
) -> pd.DataFrame:
    """Compare every pair of methods on the same images.

    Parameters
    ----------
    scores : mapping from name to array_like (n_images,)
        One score per image and method, in the same order.
    n_bootstrap : int
        Number of resamples of the images.
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    DataFrame
        One row per pair: ``a, b, difference`` (mean of a - b), ``ci_low, ci_high, p_bootstrap``
        (:func:`paired_bootstrap`), ``p_signed_rank`` (:func:`signed_rank`) and, corrected over all
        pairs, ``p_holm`` and ``q_fdr`` of ``p_signed_rank``.

    Raises
    ------
    PhospheneError
        When there are fewer than two methods, their numbers of images differ, or a score is
        missing.

    Notes
    -----
    Images are taken as independent. Shares of won comparisons share their distractors, which here
    are taken for granted: the comparison is about these images as distractors.
    """
    if len(scores) < 2:
        raise PhospheneError(
            f"compare_methods: at least two methods are needed, found {list(scores)}."
        )
    generator = np.random.default_rng(rng)
    rows = []
    for one, other in combinations(scores, 2):
        # names them in its error
        _differences(scores[one], scores[other], f"compare_methods: {one} and {other}")
        found = paired_bootstrap(scores[one], scores[other], n_bootstrap=n_bootstrap, rng=generator)
        p = signed_rank(scores[one], scores[other])
        rows.append((one, other, found.difference, *found.ci, found.p, p))
    names = ["a", "b", "difference", "ci_low", "ci_high", "p_bootstrap", "p_signed_rank"]
    table = pd.DataFrame(rows, columns=names)
    return table.assign(p_holm=holm(table["p_signed_rank"]), q_fdr=fdr_bh(table["p_signed_rank"]))


def _differences(a: ArrayLike, b: ArrayLike, name: str) -> tuple[NDArray[np.float64], float]:
    """Differences a - b (n_images,), and the size below which one of them is rounding."""
    x = as_floats(a)
    y = as_floats(b)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise PhospheneError(
            f"{name}: one score per image each is needed, found {x.shape} and {y.shape}."
        )
    missing = int((~np.isfinite(x) | ~np.isfinite(y)).sum())
    if missing:
        raise PhospheneError(
            f"{name}: {missing} of {len(x)} images lack a score in one of the two; leave them out "
            "of both, or count "
            "them as failures, before comparing."
        )
    return x - y, TIE_TOLERANCE * float(np.abs([x, y]).max())


def permutation_p(observed: ArrayLike, null: ArrayLike) -> NDArray[np.float64]:
    """One-sided p of an observed value among permuted ones, ``(1 + #{null >= observed}) / (1 +
    N)``.

    Parameters
    ----------
    observed : array_like, (...)
        For example one value per voxel.
    null : array_like, (n_permutations, ...)
        The same statistic under permutations; values that differ from `observed` by rounding alone
        count as equal.

    Returns
    -------
    ndarray of float64, (...)
        Never 0 (Phipson & Smyth 2010). NaN where the observed value or one of the permuted values
        is NaN.

    Raises
    ------
    PhospheneError
        When the shapes do not match.
    """
    value = as_floats(observed)
    draws = as_floats(null)
    if draws.shape[1:] != value.shape or draws.ndim == 0 or len(draws) == 0:
        raise PhospheneError(
            f"permutation_p: null must be (n_permutations, *{value.shape}), found {draws.shape}."
        )
    reached = value - TIE_TOLERANCE * np.abs(value)
    p = (1 + (draws >= reached).sum(axis=0)) / (1 + len(draws))
    return np.asarray(
        np.where(np.isnan(value) | np.isnan(draws).any(axis=0), np.nan, p), dtype=np.float64
    )


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction: p-values adjusted for the family-wise error, NaN kept and not
    counted.
    """
    return _adjust(p, _holm)


def fdr_bh(p: ArrayLike) -> NDArray[np.float64]:
    """Benjamini-Hochberg q-values (false discovery rate), NaN kept and not counted."""
    return _adjust(p, false_discovery_control)


def fdr_by(p: ArrayLike) -> NDArray[np.float64]:
    """Benjamini-Yekutieli q-values (false discovery rate under any dependence, as between
    neighbouring voxels), NaN kept and not counted.
    """
    return _adjust(p, partial(false_discovery_control, method="by"))


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _adjust(
    p: ArrayLike, method: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    values = as_floats(p)
    known = ~np.isnan(values)
    if np.any((values[known] < 0) | (values[known] > 1)):
        raise PhospheneError("p-values must lie between 0 and 1; check what was handed in.")
    adjusted = np.full(values.shape, np.nan)
    if known.any():
        adjusted[known] = method(values[known])
    return adjusted
