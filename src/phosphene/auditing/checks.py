"""The arithmetic of the audit: overlap, collapse, rescaling, folds that share repeats, clusters
held out.

Arrays in, arrays out. What the numbers mean, and from where on they are a fault, is said in
:mod:`phosphene.auditing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
ROWS = 512  # candidates that are in memory at a time
FitPredict = Callable[[NDArray[np.intp], NDArray[np.intp]], Doubles]


class RowsOf(Protocol):
    """Anything with a shape (n, d) that gives rows: arrays, memory maps, zarr arrays."""

    shape: tuple[int, ...]

    def __getitem__(self, key: Any, /) -> Any:
        """Return ``self[start:stop]`` as an array."""
        ...


# Overlap of test and training pictures


class Nearest(NamedTuple):
    """The candidate that is most similar to each query: its row, and the Pearson correlation (NaN:
    none is defined).
    """

    row: Ints
    r: Doubles


def similarities(queries: ArrayLike, candidates: RowsOf) -> NDArray[np.float32]:
    """Pearson correlation of every query (n, d) with every candidate (m, d): (n, m), NaN where a
    row is constant.

    Candidates are read once, `ROWS` at a time: beside the result it takes the queries and one block
    in float32.
    """
    ours = _standardised(np.asarray(queries))
    found = np.empty((len(ours), candidates.shape[0]), np.float32)
    for start in range(0, candidates.shape[0], ROWS):
        found[:, start : start + ROWS] = (
            ours @ _standardised(np.asarray(candidates[start : start + ROWS])).T
        )
    return np.clip(found, -1, 1, out=found)


def nearest(r: ArrayLike, exclude: ArrayLike | None = None) -> Nearest:
    """Best candidate of every query in similarities (n, m).

    Parameters
    ----------
    r : array_like, (n, m)
    exclude : array_like of int, (n,), optional
        For each query the candidate that does not count: itself, when queries are some of the
        candidates.
    """
    similarity = np.array(r, np.float64)
    similarity[np.isnan(similarity)] = -np.inf
    if exclude is not None:
        similarity[np.arange(len(similarity)), np.asarray(exclude)] = -np.inf
    index = similarity.argmax(axis=1)
    best = similarity[np.arange(len(similarity)), index]
    return Nearest(index.astype(np.int64), np.where(np.isfinite(best), best, np.nan))


def share_beyond(values: ArrayLike, reference: ArrayLike, percentile: float) -> float:
    """Share of `values` above a percentile of `reference`; NaN is left out of both."""
    some, others = (np.asarray(v, np.float64) for v in (values, reference))
    return float(np.mean(some[~np.isnan(some)] > np.nanpercentile(others, percentile)))


def _standardised(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Rows with mean 0 and length 1; constant ones become NaN."""
    values = rows.astype(np.float64)
    peak = np.abs(values).max(axis=1, keepdims=True)
    values -= values.mean(axis=1, keepdims=True)
    length = np.sqrt((values * values).sum(axis=1, keepdims=True))
    # constant up to the rounding of the mean
    length[length <= 1e-10 * peak * np.sqrt(values.shape[1])] = np.nan
    with np.errstate(invalid="ignore"):
        return np.asarray(values / np.where(length > 0, length, np.nan), np.float32)


def same_contents(
    first: Iterable[NDArray[Any]], second: Iterable[NDArray[Any]]
) -> list[tuple[int, int]]:
    """Places (i, j) of pictures of both sets that are equal to the last pixel, whatever they are
    called.
    """
    known: dict[str, list[int]] = {}
    for i, picture in enumerate(first):
        known.setdefault(_digest(picture), []).append(i)
    return [(i, j) for j, picture in enumerate(second) for i in known.get(_digest(picture), ())]


def _digest(picture: NDArray[Any]) -> str:
    about = f"{picture.shape}{picture.dtype}".encode()
    return hashlib.blake2b(
        about + np.ascontiguousarray(picture).tobytes(), digest_size=16
    ).hexdigest()


# Collapse


def effective_dimension(rows: ArrayLike) -> float:
    """Participation ratio of rows (n, d): (sum of variances)² / sum of squared variances over
    principal components.

    1 when all rows lie on a line, n - 1 at most; 0 when all are equal. From the dot products of
    rows, so that d may be large.
    """
    values = np.asarray(rows, np.float64)
    values = values - values.mean(axis=0)
    scale = np.abs(values).max(initial=0)
    if scale == 0:
        return 0.0
    products = (values / scale) @ (values / scale).T
    return float(np.trace(products) ** 2 / (products**2).sum())


def spread(predicted: ArrayLike, true_sd: ArrayLike) -> float:
    """Median over features of the standard deviation of predictions (n, d), divided by that of true
    features (d,).
    """
    sd = np.asarray(predicted, np.float64).std(axis=0)
    known = np.asarray(true_sd, np.float64)
    varies = known > 0
    return float(np.median(sd[varies] / known[varies])) if varies.any() else float("nan")


def moments(rows: RowsOf, chosen: NDArray[np.intp]) -> tuple[Doubles, Doubles]:
    """Mean and standard deviation (d,) of some rows, which are read in blocks; the s.d. of constant
    features is 0.
    """
    total = np.zeros(rows.shape[1])
    squares = np.zeros(rows.shape[1])
    shift = None
    for start in range(0, rows.shape[0], ROWS):
        some = chosen[(chosen >= start) & (chosen < start + ROWS)] - start
        if len(some):
            block = np.asarray(rows[start : start + ROWS])[some].astype(np.float64)
            shift = block[0] if shift is None else shift  # sums of small numbers: nothing cancels
            total += (block - shift).sum(axis=0)
            squares += ((block - shift) ** 2).sum(axis=0)
    assert shift is not None
    mean = total / len(chosen)
    variance = np.maximum(squares / len(chosen) - mean**2, 0)
    sd = np.sqrt(variance)
    return shift + mean, np.where(sd > 1e-6 * np.abs(shift + mean), sd, 0.0)


# Penalties and folds


def share_at_edges(alphas: ArrayLike, grid: ArrayLike) -> tuple[float, float]:
    """Share of chosen penalties that are the smallest, and the largest, of their grid; (0, 0) for a
    grid of one.
    """
    chosen = np.asarray(alphas, np.float64)
    known = np.unique(np.asarray(grid, np.float64))
    if len(known) < 2 or not len(chosen):
        return 0.0, 0.0
    return float(np.mean(np.isclose(chosen, known[0]))), float(
        np.mean(np.isclose(chosen, known[-1]))
    )


def split_images(splits: Iterable[tuple[Ints, Ints]], images: Ints) -> Ints:
    """Images that have trials in the training and in the validation part of one fold at least,
    ascending.
    """
    torn: set[int] = set()
    for train, test in splits:
        torn |= set(np.intersect1d(images[train], images[test]).tolist())
    return np.array(sorted(torn), np.int64)


# Predictions that were rescaled with statistics of the test set


class Rescaling(NamedTuple):
    """How closely means and standard deviations of predictions over the test items match those of a
    reference.

    Attributes
    ----------
    mean_off : float
        Median over features of ``|mean difference| / (s.d. of predictions / sqrt(n))``: about 0.7
        by chance.
    sd_uneven : float
        Distance of the quartiles over features of (s.d. of predictions / s.d. of reference),
        divided by its median: how differently features are shrunk. By chance alone at least about
        ``1 / sqrt(2 n)``.
    sd_ratio : float
        That median: below 1, because ridge shrinks.
    """

    mean_off: float
    sd_uneven: float
    sd_ratio: float


def rescaling(predicted: ArrayLike, mean: ArrayLike, sd: ArrayLike) -> Rescaling:
    """Compare predictions (n, d) with the mean (d,) and standard deviation (d,) of a reference;
    constant ones left out.

    Brain-Diffuser's scripts standardise predictions over the test batch and give them the training
    set's mean and s.d. An honest ridge never gives every feature these moments.
    """
    values, centre, scale = (np.asarray(v, np.float64) for v in (predicted, mean, sd))
    ours = values.std(axis=0)
    varies = (scale > 0) & (ours > 0)
    if varies.sum() < 2:
        return Rescaling(np.nan, np.nan, np.nan)
    values = values[:, varies]
    centre = centre[varies]
    scale = scale[varies]
    ours = ours[varies]
    off = np.abs(values.mean(axis=0) - centre) / (ours / np.sqrt(len(values)))
    low, middle, high = np.percentile(ours / scale, (25, 50, 75))
    return Rescaling(float(np.median(off)), float((high - low) / middle), float(middle))


# Clusters held out


def clusters(
    features: ArrayLike, n_clusters: int, n_components: int, seed: int
) -> tuple[Doubles, Ints]:
    """Reduce features (n, d) to principal components and find clusters in them.

    Returns
    -------
    components : ndarray of float64, (n, k)
        Scores on the first k <= n_components components, centred.
    labels : ndarray of int, (n,)
        k-means, best of ten starts.
    """
    rows = np.asarray(features, np.float32)
    k = min(n_components, len(rows) - 1, rows.shape[1])
    reduced = np.asarray(
        PCA(k, svd_solver="randomized", random_state=seed).fit_transform(rows), np.float64
    )
    labels = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(reduced)
    return reduced, labels.astype(np.int64)


def same_sizes(labels: Ints, rng: np.random.Generator) -> Ints:
    """Random sets of the same sizes as the clusters."""
    return np.asarray(rng.permutation(labels))


def held_out(fit_predict: FitPredict, targets: Doubles, labels: Ints) -> Doubles:
    """Predict every row by a model that never saw its set.

    Parameters
    ----------
    fit_predict : callable
        ``fit_predict(train, test)`` gives predictions (n_test, k).
    targets : ndarray, (n, k)
    labels : ndarray of int, (n,)
        Set of every row.

    Returns
    -------
    ndarray of float64, (n, k)
        Less the mean that each model was taught: that mean lies away from a cluster that was left
        out, which would count against it whatever was decoded.
    """
    found = np.empty_like(targets)
    for label in np.unique(labels):
        test = labels == label
        rest = np.flatnonzero(~test)
        here = np.flatnonzero(test)
        found[here] = fit_predict(rest, here) - targets[rest].mean(axis=0)
    return found


def first_names(names: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    """Tell which pairs of pictures have the same first name, that of the largest thing: (n, n); no
    name equals none.
    """
    first = np.array([some[0] if len(some) else "" for some in names])
    return np.asarray((first[:, None] == first) & (first[:, None] != ""))
