"""Principal components of rows that fit in memory at float16 but not, together with their
components, at more.

Arrays in, arrays out. Nothing as large as all components (n_components x d) is ever made: where
there are fewer rows than columns, scores come from the dot products of rows alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, eigh

from phosphene.errors import PhospheneError

BLOCK = 1024  # columns, or rows, that are worked on at a time in float64
_NULL = 1e-12  # share of the largest eigenvalue below which one is rounding error

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Rows as principal components see them.

    Attributes
    ----------
    values : ndarray of float64, shape (n, k)
        Of all rows, also those that the components were not fitted on; not whitened.
    mean : ndarray of float64, shape (d,)
        Of the rows fitted on.
    variance, ratio : ndarray of float64, shape (k,)
        Variance of each component over the rows fitted on (n - 1 in the denominator), and its share
        of the total.
    """

    values: Doubles
    mean: Doubles
    variance: Doubles
    ratio: Doubles


def n_possible(n_fitted: int, d: int, asked: int) -> int:
    """Return how many of the components asked for there are: never more than columns, or rows but
    one.
    """
    return min(asked, d, n_fitted - 1)


def principal_components(
    rows: NDArray[np.floating], fitted: NDArray[np.bool_], n_components: int
) -> Scores:
    """Fit principal components on some rows, and return the scores of all.

    Equal to ``sklearn.decomposition.PCA(k).fit(rows[fitted]).transform(rows)`` up to the signs of
    components; here the largest absolute score of the fitted rows is positive. Work is done in
    float64, in blocks: beside `rows` it needs 24 n (m + k + 1024) bytes, m the smaller of n_fitted
    and d.

    Parameters
    ----------
    rows : ndarray of float16, float32 or float64, shape (n, d)
    fitted : ndarray of bool, shape (n,)
        Which rows the mean and the components are taken from.
    n_components : int
        At most; see :func:`n_possible`.
    """
    n = int(fitted.sum())
    d = rows.shape[1]
    k = n_possible(n, d, n_components)
    mean = _mean(rows, fitted)
    values, total, scores = (_by_columns if d <= n else _by_rows)(rows, fitted, mean, k)
    ours = scores[fitted]
    scores *= np.where(ours[np.abs(ours).argmax(0), np.arange(k)] < 0, -1.0, 1.0)
    return Scores(scores, mean, values / (n - 1), values / total if total > 0 else values)


def _mean(rows: NDArray[np.floating], fitted: NDArray[np.bool_]) -> Doubles:
    total = np.zeros(rows.shape[1])
    for some in _blocks(np.flatnonzero(fitted)):
        total += rows[some].sum(0, dtype=np.float64)
    return np.asarray(total / fitted.sum())


def _blocks(indices: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return np.split(indices, range(BLOCK, len(indices), BLOCK))


def _by_rows(
    rows: NDArray[np.floating], fitted: NDArray[np.bool_], mean: Doubles, k: int
) -> tuple[Doubles, float, Doubles]:
    """Eigenvectors u of X X' for the fitted rows X: the scores of rows a are a X' u /
    sqrt(eigenvalue).
    """
    products = np.zeros((len(rows), int(fitted.sum())))
    for start in range(0, rows.shape[1], BLOCK):
        columns = slice(start, start + BLOCK)
        some = rows[:, columns].astype(np.float64) - mean[columns]
        products += some @ some[fitted].T
    kernel = products[fitted]
    total = float(np.trace(kernel))
    values, vectors = _largest(kernel, k)
    vectors *= np.where(values > 0, np.maximum(values, np.finfo(float).tiny) ** -0.5, 0.0)
    return values, total, products @ vectors


def _by_columns(
    rows: NDArray[np.floating], fitted: NDArray[np.bool_], mean: Doubles, k: int
) -> tuple[Doubles, float, Doubles]:
    """Eigenvectors of X' X are the components themselves."""
    d = rows.shape[1]
    products = np.zeros((d, d))
    for some in _blocks(np.flatnonzero(fitted)):
        centred = rows[some].astype(np.float64) - mean
        products += centred.T @ centred
    total = float(np.trace(products))
    values, vectors = _largest(products, k)
    blocks = _blocks(np.arange(len(rows)))
    return (
        values,
        total,
        np.concatenate([(rows[some].astype(np.float64) - mean) @ vectors for some in blocks]),
    )


def _largest(products: Doubles, k: int) -> tuple[Doubles, Doubles]:
    """Return the k largest eigenvalues, those that are rounding errors as 0, and their vectors;
    spoils `products`.
    """
    m = len(products)
    try:
        values, vectors = eigh(
            products, subset_by_index=(m - k, m - 1), overwrite_a=True, check_finite=False
        )
    except LinAlgError as error:
        raise PhospheneError(
            "principal components: the eigendecomposition does not converge; look for features of "
            "extreme size."
        ) from error
    values = values[::-1]
    vectors = np.ascontiguousarray(vectors[:, ::-1])
    return np.where(values > _NULL * values[0], values, 0.0), vectors
