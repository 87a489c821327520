"""Maps by regions of interest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import PhospheneError
from phosphene.numerics.correlation import as_floats
from phosphene.numerics.stats.intervals import resampled
from phosphene.numerics.stats.maps import (
    Columns,
    Floats,
    as_columns,
    blocks,
    checked_shape,
    dot,
    moments,
    resample_counts,
    resampled_correlations,
    unit_blocks,
)


def roi_draws(
    prediction: Columns,
    truth: Columns,
    labels: ArrayLike,
    *,
    n_bootstrap: int = 2000,
    rng: np.random.Generator | int = 0,
) -> pd.DataFrame:
    """Mean Pearson r of every region in resamples of the images, for :func:`roi_summary`.

    Parameters
    ----------
    prediction, truth : (n_images, n_voxels)
    labels : array_like, (n_voxels,)
        As in :func:`roi_summary`.
    n_bootstrap : int
    rng : Generator or int
        Source of randomness, or its seed. One seed gives the same resamples to several models: the
        difference of two tables is the paired bootstrap of their difference.

    Returns
    -------
    DataFrame, (n_bootstrap, n_rois)
        Voxels without an r are left out.

    Raises
    ------
    PhospheneError
        When the shapes differ or `n_bootstrap` is below 2.
    """
    prediction = as_columns(prediction)
    truth = as_columns(truth)
    n, v = checked_shape("roi_draws", prediction, truth)
    names, index = _regions(labels, v)
    counts = resample_counts(n, n_bootstrap, rng)
    sums = np.zeros((n_bootstrap, len(names)))
    known = np.zeros(len(names))
    for columns, (x, y) in unit_blocks(prediction, truth):
        inside = np.flatnonzero((index[columns] >= 0) & ~np.isnan(dot(x, y)))
        if len(inside):
            member = np.eye(len(names))[index[columns][inside]]
            sums += (
                resampled_correlations(
                    counts, x[:, inside], y[:, inside], moments(counts, y[:, inside])
                )
                @ member
            )
            known += member.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return pd.DataFrame(sums / known, columns=names)


def unique_draws(
    prediction: Columns,
    without: Any,
    truth: Columns,
    members: ArrayLike,
    *,
    n_bootstrap: int = 2000,
    rng: np.random.Generator | int = 0,
) -> Floats:
    """Mean R² that every region loses without a feature space, in resamples of the images.

    Parameters
    ----------
    prediction, truth : (n_images, n_voxels)
    without : (n_spaces, n_images, n_voxels)
        What is predicted without each space.
    members : array_like of bool, (n_regions, n_voxels)
        Regions may overlap.
    n_bootstrap : int
    rng : Generator or int
        As for :func:`roi_draws`; one seed, the same resamples.

    Returns
    -------
    ndarray of float64, (n_spaces, n_bootstrap, n_regions)
        Voxels with values that are not finite, or the same response to all images, are left out.

    Raises
    ------
    PhospheneError
        When the shapes differ or `n_bootstrap` is below 2.
    """
    n, v = checked_shape("unique_draws", prediction, truth)
    inside = np.asarray(members, bool)
    if tuple(without.shape[1:]) != (n, v) or inside.ndim != 2 or inside.shape[1] != v:
        raise PhospheneError(
            f"unique_draws: found without {tuple(without.shape)} and members {inside.shape}, "
            f"expected (n_spaces, {n}, "
            f"{v}) and (n_regions, {v})."
        )
    counts = resample_counts(n, n_bootstrap, rng)
    sums = np.zeros((without.shape[0], n_bootstrap, len(inside)))
    known = np.zeros(len(inside))
    for columns, block in blocks(truth, prediction, without):
        y, p, rest = (as_floats(values) for values in block)
        usable = (
            np.isfinite(y).all(axis=0)
            & np.isfinite(p).all(axis=0)
            & np.isfinite(rest).all(axis=(0, 1))
        )
        usable &= np.ptp(y, axis=0) > 0
        member = inside[:, columns][:, usable].T.astype(np.float64)
        known += member.sum(axis=0)
        y = y[:, usable]
        squared_error = (y - p[:, usable]) ** 2
        squares = moments(counts, y - y.mean(axis=0))[1]
        for space, predicted in enumerate(rest[..., usable]):
            sums[space] += (counts @ ((y - predicted) ** 2 - squared_error) / squares) @ member
    with np.errstate(invalid="ignore"):
        return sums / known


def roi_summary(
    values: ArrayLike,
    labels: ArrayLike,
    *,
    q: ArrayLike | None = None,
    draws: pd.DataFrame | None = None,
    n_bootstrap: int = 2000,
    rng: np.random.Generator | int = 0,
) -> pd.DataFrame:
    """Summarise a map by regions.

    Parameters
    ----------
    values : array_like, (n_voxels,)
        NaN is left out.
    labels : array_like, (n_voxels,)
        Name of each voxel's region, "" for none; or numbers, 0 and below for none. Atlases that
        overlap are summarised one after the other.
    q : array_like, (n_voxels,), optional
        False discovery rates, see :func:`fdr_bh`.
    draws : DataFrame, optional
        Means of the regions in resamples of the images, from :func:`roi_draws` or made of such
        tables, for an interval that tells what other images would have given. Without it **voxels**
        are resampled. Voxels are not independent (noise, smoothness and the images are common to
        them), so that this interval is too narrow, often by far: it describes how much voxels
        differ, and is no ground for a test.
    n_bootstrap : int
        Resamples of voxels.
    rng : Generator or int
        Source of randomness, or its seed.

    Returns
    -------
    DataFrame
        ``roi, mean, median, ci_low, ci_high`` (95 % percentile interval of the mean), ``n_voxels,
        resampled`` ("voxels" or "images") and, given `q`, ``significant``, the share of voxels with
        q <= 0.05.

    Raises
    ------
    PhospheneError
        When the shapes differ or `draws` lacks a region.
    """
    x = as_floats(values)
    rates = None if q is None else as_floats(q)
    if x.ndim != 1 or (rates is not None and rates.shape != x.shape):
        raise PhospheneError(
            "roi_summary: values and q must hold one number per voxel each, (n_voxels,)."
        )
    names, index = _regions(labels, len(x))
    if draws is not None and set(names) - set(draws):
        raise PhospheneError(
            f"roi_summary: draws lack {sorted(set(names) - set(draws))}; make them with the same "
            "labels."
        )
    generator = np.random.default_rng(rng)
    rows = []
    for number, name in enumerate(names):
        inside = (index == number) & ~np.isnan(x)
        own = x[inside]
        row = {"roi": name, "mean": np.nan, "median": np.nan, "ci_low": np.nan, "ci_high": np.nan}
        if len(own):
            means = (
                resampled(own, None, n_bootstrap, generator)
                if draws is None
                else draws[name].to_numpy()
            )
            row |= {"mean": own.mean(), "median": np.median(own)}
            row |= dict(zip(["ci_low", "ci_high"], np.quantile(means, [0.025, 0.975]), strict=True))
        row |= {"n_voxels": len(own), "resampled": "voxels" if draws is None else "images"}
        rows.append(row if rates is None else row | {"significant": _share(rates[inside])})
    columns = ["roi", "mean", "median", "ci_low", "ci_high", "n_voxels", "resampled"]
    return pd.DataFrame(rows, columns=columns if rates is None else [*columns, "significant"])


def _share(q: Floats) -> float:
    return float((q <= 0.05).mean()) if len(q) else float("nan")


def _regions(labels: ArrayLike, v: int) -> tuple[list[Any], NDArray[np.intp]]:
    """Names of the regions, and which of them each voxel is in, -1 for none."""
    given = np.asarray(labels)
    if given.shape != (v,):
        raise PhospheneError(f"labels must hold one region per voxel, ({v},), found {given.shape}.")
    names, index = np.unique(
        given if given.dtype.kind in "iu" else given.astype(str), return_inverse=True
    )
    none = names <= 0 if names.dtype.kind in "iu" else names == ""
    number = np.where(none, -1, np.cumsum(~none) - 1)
    return names[~none].tolist(), number[index]
