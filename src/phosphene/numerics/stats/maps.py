"""Statistics of whole-brain maps: one number per voxel, from predictions and measurements of the
same test images.

Predictions and measurements (n_images, n_voxels) may be arrays, memory maps or zarr arrays of any
real type. They are read in blocks of voxels and only a block at a time becomes float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc
from scipy.stats import t as student_t

from phosphene.errors import PhospheneError
from phosphene.numerics import correlation

Floats = NDArray[np.float64]
Columns = Any  # (n_images, n_voxels) with a shape and ``[:, start:stop]``
READ = 8192  # voxels read at a time, in the type they are stored in
WORK = 128  # voxels worked on at a time, in float64
ROUNDING = 1e-12  # by which two correlations of the same numbers in another order may differ


def correlation_map(prediction: Columns, truth: Columns) -> Floats:
    """Pearson r over images of every voxel, (n_voxels,); NaN where either side is constant or not
    finite.

    Parameters
    ----------
    prediction, truth : (n_images, n_voxels)
    """
    prediction = as_columns(prediction)
    truth = as_columns(truth)
    r = np.empty(checked_shape("correlation_map", prediction, truth)[1])
    for columns, (x, y) in unit_blocks(prediction, truth):
        r[columns] = dot(x, y)
    return r


def correlation_p(r: ArrayLike, n: int, *, two_sided: bool = False) -> Floats:
    """p of correlations over `n` images, from the exact distribution of r between independent
    Gaussian vectors.

    ``(1 + r) / 2`` is Beta(n/2 - 1, n/2 - 1), the same as Student's t with n - 2 degrees of
    freedom. This is what the paper draws by simulation ("pairs of independent Gaussian vectors of
    the test length"), without the error of a finite simulation. It is exact if one of the two
    vectors is Gaussian with independent entries; the other may be anything.

    Parameters
    ----------
    r : array_like
        -1 to 1; NaN stays NaN.
    n : int
        Independent images that r was computed over, 3 or more.
    two_sided : bool
        Test for any correlation; otherwise for one above zero.

    Returns
    -------
    ndarray of float64
        The shape of `r`.

    Raises
    ------
    PhospheneError
        When `n` is below 3 or a value lies outside -1 to 1.
    """
    values = correlation.as_floats(r)
    if n < 3 or np.any(np.abs(values) > 1 + ROUNDING):
        raise PhospheneError(
            "correlation_p: correlations within -1 to 1 over 3 or more images are needed, found "
            f"n = {n} and up to "
            f"{np.nanmax(np.abs(values), initial=0):g}."
        )
    values = np.clip(values, -1.0, 1.0)
    tail = betainc(n / 2 - 1, n / 2 - 1, (1 - (np.abs(values) if two_sided else values)) / 2)
    return np.asarray(2 * tail if two_sided else tail, dtype=np.float64)


def permuted_correlation_p(
    prediction: Columns,
    truth: Columns,
    *,
    n_permutations: int = 1000,
    rng: np.random.Generator | int = 0,
) -> Floats:
    """One-sided p of Pearson r by permuting the images of the predictions: needs no Gaussian
    measurement.

    One permutation serves all voxels, so that what neighbours share stays as it is.

    Parameters
    ----------
    prediction, truth : (n_images, n_voxels)
    n_permutations : int
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    ndarray of float64, (n_voxels,)
        ``(1 + #{permuted >= observed}) / (1 + n_permutations)``: never 0 (Phipson & Smyth 2010), so
        that a map with few significant voxels cannot pass a false discovery rate unless there are
        many permutations (:func:`correlation_p` has no such floor). NaN where r is.

    Raises
    ------
    PhospheneError
        When the shapes differ or `n_permutations` is below 1.
    """
    prediction = as_columns(prediction)
    truth = as_columns(truth)
    n, v = checked_shape("permuted_correlation_p", prediction, truth)
    if n_permutations < 1:
        raise PhospheneError(
            f"permuted_correlation_p: n_permutations must be 1 or more, found {n_permutations}."
        )
    generator = np.random.default_rng(rng)
    orders = [generator.permutation(n) for _ in range(n_permutations)]
    p = np.empty(v)
    for columns, (x, y) in unit_blocks(prediction, truth):
        observed = dot(x, y)
        reached = np.zeros(x.shape[1], dtype=np.int64)
        moved = np.empty_like(x)
        for order in orders:
            np.take(x, order, axis=0, out=moved, mode="clip")
            reached += np.einsum("ij,ij->j", moved, y) >= observed - ROUNDING
        p[columns] = np.where(np.isnan(observed), np.nan, (1 + reached) / (1 + n_permutations))
    return p


@dataclass(frozen=True)
class MapDifference:
    """Difference of two maps of correlations, each (n_voxels,), see
    :func:`difference_of_correlations`.
    """

    difference: Floats
    ci_low: Floats
    ci_high: Floats
    p: Floats
    p_t: Floats


def difference_of_correlations(
    pred_a: Columns,
    pred_b: Columns,
    truth: Columns,
    *,
    n_bootstrap: int = 2000,
    rng: np.random.Generator | int = 0,
) -> MapDifference:
    """Compare two models of the same measurements voxel by voxel: r of `pred_a` minus r of
    `pred_b`.

    Images are resampled, for both models and for all voxels alike. A resample is a vector of
    counts, so all resamples of a block of voxels are a few matrix products.

    Parameters
    ----------
    pred_a, pred_b, truth : (n_images, n_voxels)
    n_bootstrap : int
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    MapDifference
        ``difference``; ``ci_low, ci_high`` the 95 % percentile interval; ``p`` two-sided by
        counting, twice the smaller share of resamples on one side of zero, each share as ``(1 + k)
        / (1 + n_bootstrap)``; ``p_t`` two-sided from the difference over its bootstrap standard
        error, Student's t with n - 1 degrees of freedom. ``p`` cannot fall below ``2 / (1 +
        n_bootstrap)``, too coarse for corrections over a whole brain: give ``p_t`` to
        :func:`fdr_bh` there. Among voxels where both models are equal (r 0.1), 0.10 % have ``p_t``
        below 0.001 at 982 images, 0.18 % at 100. NaN where either r, or that of a resample, is
        undefined. All of it is about other images for these fitted models.

    Raises
    ------
    PhospheneError
        When the shapes differ or `n_bootstrap` is below 2.
    """
    pred_a = as_columns(pred_a)
    pred_b = as_columns(pred_b)
    truth = as_columns(truth)
    n, v = checked_shape("difference_of_correlations", pred_a, pred_b, truth)
    counts = resample_counts(n, n_bootstrap, rng)
    out = np.empty((5, v))
    for columns, (a, b, y) in unit_blocks(pred_a, pred_b, truth):
        of_y = moments(counts, y)
        draws = resampled_correlations(counts, a, y, of_y)
        draws -= resampled_correlations(counts, b, y, of_y)
        out[:, columns] = _summary(dot(a, y) - dot(b, y), draws, n)
    return MapDifference(*out)


def normalised_correlation(
    r: ArrayLike, ncsnr: ArrayLike, repeats: ArrayLike = 3, *, floor: float = 0.2
) -> Floats:
    """Correlation in units of what a perfect model would reach, ``r /
    scoring.max_correlation(ncsnr, repeats)``.

    Parameters
    ----------
    r, ncsnr : array_like, same shape
    repeats : int or array_like of int, (n_images,)
        Trials averaged per test image, as in :func:`phosphene.numerics.correlation.noise_ceiling`.
    floor : float
        NaN where a perfect model would not reach this r, as there the error of r is divided by
        nearly nothing. 0.2 is a noise ceiling of 4 % of variance, and multiplies the standard error
        of r (0.03 at 982 images) by five.

    Returns
    -------
    ndarray of float64
        Above 1 where noise has it so: clipping would bias means over voxels.

    Raises
    ------
    PhospheneError
        When the shapes differ or `floor` lies outside 0 to 1.
    """
    values = correlation.as_floats(r)
    best = correlation.max_correlation(ncsnr, repeats)
    if values.shape != best.shape or not 0 < floor <= 1:
        raise PhospheneError(
            "normalised_correlation: r and ncsnr of one shape and a floor within 0 to 1 are "
            "needed, found "
            f"{values.shape}, {best.shape} and {floor:g}."
        )
    return np.asarray(
        np.divide(values, best, out=np.full(values.shape, np.nan), where=best >= floor)
    )


def as_columns(values: ArrayLike | Columns) -> Columns:
    """Lists and tables as arrays; arrays, also those on disk, as they are."""
    if isinstance(values, np.ndarray) or (hasattr(values, "shape") and not hasattr(values, "iloc")):
        return cast(Columns, values)
    return np.asarray(values)


def checked_shape(what: str, *arrays: Columns) -> tuple[int, int]:
    shapes = [tuple(array.shape) for array in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2 or shapes[0][0] < 3:
        raise PhospheneError(
            f"{what}: predictions and measurements must all be (n_images, n_voxels) with 3 or "
            "more images, found "
            f"{', '.join(map(str, shapes))}."
        )
    return shapes[0]


def unit_blocks(*arrays: Columns) -> Iterator[tuple[slice, list[Floats]]]:
    """Blocks of voxels, with mean 0 and length 1 over images, or NaN where that cannot be."""
    for columns, block in blocks(*arrays):
        yield columns, [_unit(values) for values in block]


def blocks(*arrays: Columns) -> Iterator[tuple[slice, list[NDArray[Any]]]]:
    """Blocks of voxels, the last axis, as they are stored."""
    v = arrays[0].shape[-1]
    for start in range(0, v, READ):
        held = [np.asanyarray(array[..., start : start + READ]) for array in arrays]
        for inner in range(0, held[0].shape[-1], WORK):
            stop = min(inner + WORK, held[0].shape[-1])
            yield slice(start + inner, start + stop), [values[..., inner:stop] for values in held]


def _unit(values: NDArray[Any]) -> Floats:
    x = np.ascontiguousarray(correlation.as_floats(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = x.mean(axis=0)
        x = x - mean
        constant = np.abs(x).max(axis=0) <= len(x) * np.finfo(np.float64).eps * np.abs(mean)
        return np.asarray(x / np.where(constant, np.nan, np.sqrt(dot(x, x))))


def dot(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->j", x, y))


def resample_counts(n: int, n_bootstrap: int, rng: np.random.Generator | int) -> Floats:
    """How often each image is in each resample, (n_bootstrap, n)."""
    if n_bootstrap < 2:
        raise PhospheneError(f"n_bootstrap must be 2 or more, found {n_bootstrap}.")
    return (
        np.random.default_rng(rng)
        .multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
        .astype(np.float64)
    )


def moments(counts: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Sums and sums of squares around the mean in every resample, (n_bootstrap, n_voxels) each."""
    sums = counts @ x
    squares = counts @ (x * x) - sums**2 / counts.shape[1]
    squares[squares <= ROUNDING] = np.nan  # one image over and over
    return sums, squares


def resampled_correlations(
    counts: Floats, x: Floats, y: Floats, of_y: tuple[Floats, Floats]
) -> Floats:
    """Pearson r in every resample, (n_bootstrap, n_voxels)."""
    sums, squares = moments(counts, x)
    products = counts @ (x * y)
    products -= sums * of_y[0] / counts.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(products / np.sqrt(squares * of_y[1]))


def _summary(difference: Floats, draws: Floats, n: int) -> Floats:
    """Difference, interval and both p of one block, (5, n_voxels)."""
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    fewer = np.minimum((draws <= ROUNDING).sum(axis=0), (draws >= -ROUNDING).sum(axis=0))
    p = np.minimum(1.0, 2.0 * (1 + fewer) / (1 + len(draws)))
    error = draws.std(axis=0, ddof=1) * np.sqrt(n / (n - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        p_t = np.where(difference == 0, 1.0, 2 * student_t.sf(np.abs(difference) / error, n - 1))
    found = np.stack([difference, low, high, p, p_t])
    found[:, np.isnan(difference) | np.isnan(error)] = np.nan
    return found
