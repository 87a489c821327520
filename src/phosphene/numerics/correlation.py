"""How well predictions agree with measurements: correlation, R² and the noise ceiling of NSD."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phosphene.errors import PhospheneError

_EPS = np.finfo(np.float64).eps
# relative difference below which two scores count as equal; rounding makes some 1e-16
TIE_TOLERANCE = 1e-10


def as_floats(values: ArrayLike) -> NDArray[np.float64]:
    """Convert to float64; masked entries become NaN, because np.asarray would pass on what the mask
    hides.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(values, dtype=np.float64)


def merge_ties(
    values: ArrayLike, scale: float, tolerance: float = TIE_TOLERANCE
) -> NDArray[np.float64]:
    """Make values equal that differ by rounding alone, so that they get one rank.

    Values that follow one another within ``tolerance * scale`` become the smallest of them.
    (Rounding to decimals would still split two values on either side of a rounding boundary.)

    Parameters
    ----------
    values : array_like, (n,)
        Without NaN.
    scale : float
        Size of the numbers that the values were computed from, such as the largest score of a
        difference of scores.
    tolerance : float
        Relative.

    Returns
    -------
    ndarray of float64, (n,)

    Examples
    --------
    >>> merge_ties([0.1 + 0.2, 0.3, 0.4], scale=1.0)
    array([0.3, 0.3, 0.4])
    """
    x = as_floats(values)
    order = np.argsort(x, kind="stable")
    starts = np.diff(x[order], prepend=-np.inf) > tolerance * scale
    merged = np.empty_like(x)
    merged[order] = x[order][starts][np.cumsum(starts) - 1]
    return merged


def correlation(a: ArrayLike, b: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """Pearson correlation of ``a`` and ``b`` along one axis.

    Parameters
    ----------
    a, b : array_like, same shape
        ``axis=0`` on (n_trials, n_voxels) gives one r per voxel, ``axis=1`` one r per trial.
    axis : int
        The axis that is correlated away.

    Returns
    -------
    ndarray of float64
        The shape of ``a`` without ``axis``. NaN where either side is constant or holds a NaN: there
        r is undefined.

    Raises
    ------
    PhospheneError
        When the shapes differ.
    """
    x, y = _pair(a, b, "correlation")
    x, x_constant = _deviations(x, axis)
    y, y_constant = _deviations(y, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (x * y).sum(axis) / (np.sqrt((x * x).sum(axis)) * np.sqrt((y * y).sum(axis)))
    r = np.clip(r, -1.0, 1.0)  # rounding can end at 1 + 1e-16
    return np.asarray(np.where(x_constant | y_constant, np.nan, r), dtype=np.float64)


def r2(y_true: ArrayLike, y_pred: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """Coefficient of determination, 1 - SSE / SST, along one axis.

    Parameters
    ----------
    y_true, y_pred : array_like, same shape
        Measurements and predictions, for example (n_trials, n_voxels).
    axis : int
        The axis of the observations.

    Returns
    -------
    ndarray of float64
        The shape of ``y_true`` without ``axis``; NaN where ``y_true`` is constant.

    Raises
    ------
    PhospheneError
        When the shapes differ.
    """
    x, y = _pair(y_true, y_pred, "r2")
    deviations, constant = _deviations(x, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        score = 1.0 - ((x - y) ** 2).sum(axis) / (deviations**2).sum(axis)
    return np.asarray(np.where(constant, np.nan, score), dtype=np.float64)


def noise_ceiling(ncsnr: ArrayLike, repeats: ArrayLike = 3) -> NDArray[np.float64]:
    """Noise ceiling in percent of variance, from NSD's noise-ceiling signal-to-noise ratio.

    ``100 s² / (s² + 1/n)`` for responses averaged over n trials (Allen et al. 2022, Methods;
    export_noiseceiling.m).

    Parameters
    ----------
    ncsnr : array_like
        Signal s.d. divided by noise s.d., per voxel. NaN (outside the mask) stays NaN.
    repeats : int or array_like of int, (n_images,)
        Trials averaged per image: one number for all images, or one for each, for which ``1/n``
        becomes its mean over images (NSD's ``(A/3 + B/2 + C) / (A + B + C)`` for A, B and C images
        with 3, 2 and 1 trials).

    Returns
    -------
    ndarray of float64
        0 to 100, the shape of ``ncsnr``.

    Raises
    ------
    PhospheneError
        When ``ncsnr`` is negative or ``repeats`` holds anything but whole numbers of 1 or more.

    Examples
    --------
    >>> noise_ceiling(0.5, [1, 1, 1, 4, 4, 4])
    array(28.57142857)
    """
    snr = as_floats(ncsnr)
    if np.any(snr < 0):
        raise PhospheneError(
            f"noise_ceiling: ncsnr must be zero or more, found {np.nanmin(snr):g}."
        )
    with np.errstate(divide="ignore"):
        return np.asarray(100.0 / (1.0 + _inverse_repeats(repeats) / snr**2), dtype=np.float64)


def max_correlation(ncsnr: ArrayLike, repeats: ArrayLike = 3) -> NDArray[np.float64]:
    """Correlation that a perfect model would reach, ``sqrt(noise_ceiling / 100)``: same parameters,
    0 to 1.
    """
    return np.sqrt(noise_ceiling(ncsnr, repeats) / 100.0)


def _inverse_repeats(repeats: ArrayLike) -> float:
    """Mean over images of 1 / trials: the share of the noise variance that averages keep."""
    trials = as_floats(repeats)
    if (
        trials.ndim > 1
        or not trials.size
        or not np.all((trials >= 1) & (trials == np.floor(trials)))
    ):
        raise PhospheneError(
            "noise_ceiling: repeats must be a number of trials (1 or more), or that number for "
            "each test image, found "
            f"{repeats!r}."
        )
    return float(np.mean(1.0 / trials))


def _pair(a: ArrayLike, b: ArrayLike, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = as_floats(a)
    y = as_floats(b)
    if x.shape != y.shape or x.ndim == 0:
        raise PhospheneError(
            f"{name}: both arrays must have one shape of at least 1-d, found {x.shape} and "
            f"{y.shape}."
        )
    return x, y


def _deviations(x: NDArray[np.float64], axis: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Differences from the mean, and which series are constant up to the rounding of that mean."""
    n = x.shape[axis]
    mean = x.mean(axis, keepdims=True)
    deviations = x - mean
    constant = np.abs(deviations).max(axis) <= n * _EPS * np.abs(mean.squeeze(axis))
    return deviations, constant
