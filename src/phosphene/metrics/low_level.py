"""Measures of pixels: PixCorr and SSIM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.metrics.presets import Metric
from phosphene.models.preparing import Pictures, picture_at, prepare

# Wang et al. 2004: Gaussian windows 11 pixels wide
SIGMA = 1.5
TRUNCATE = 3.5
K1 = 0.01
K2 = 0.03


def pixcorr(recons: Pictures, originals: Pictures, metric: Metric) -> NDArray[np.float64]:
    """Pearson correlation of the pixels of all three channels together.

    Parameters
    ----------
    recons, originals : Pictures
        n pictures each, in the same order.
    metric : Metric
        Of kind "pixcorr"; says how they are resized.

    Returns
    -------
    ndarray of float64, (n,)
        NaN where a picture has one colour only.
    """
    values = []
    for recon, original in _pairs(recons, originals, metric):
        with np.errstate(invalid="ignore", divide="ignore"):
            values.append(np.corrcoef(recon.ravel(), original.ravel())[0, 1])
    return np.array(values, np.float64)


def ssim(recons: Pictures, originals: Pictures, metric: Metric) -> NDArray[np.float64]:
    """Structural similarity of gray pictures.

    Parameters
    ----------
    recons, originals : Pictures
        n pictures each, in the same order.
    metric : Metric
        Of kind "ssim"; says how they are resized, and whether columns are taken by themselves.

    Returns
    -------
    ndarray of float64, (n,)
    """
    from skimage import color, metrics

    similarity: Any = metrics.structural_similarity  # untyped
    values = []
    for recon, original in _pairs(recons, originals, metric):
        gray = [color.rgb2gray(picture) for picture in (recon, original)]
        if metric.columns:
            values.append(_ssim_of_columns(*gray))
        else:
            values.append(
                similarity(
                    *gray,
                    gaussian_weights=True,
                    sigma=SIGMA,
                    use_sample_covariance=False,
                    data_range=1.0,
                )
            )
    return np.array(values, np.float64)


def _pairs(
    recons: Pictures, originals: Pictures, metric: Metric
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Prepared pairs of pictures, float64 (height, width, 3), one at a time."""
    if len(recons) != len(originals):
        raise PhospheneError(
            f"{metric.name}: found {len(recons)} reconstructions and {len(originals)} originals."
        )
    if metric.preparation is None:
        raise PhospheneError(
            f"{metric.name}: found a metric of kind {metric.kind!r}, expected one of pixels."
        )
    for k in range(len(recons)):
        recon, original = (
            prepare(picture_at(pictures, k), metric.preparation) for pictures in (recons, originals)
        )
        yield recon.permute(1, 2, 0).double().numpy(), original.permute(1, 2, 0).double().numpy()


def _ssim_of_columns(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean of the one-dimensional SSIM of every column: scikit-image's with columns for channels,
    in one go.
    """
    from scipy.ndimage import gaussian_filter1d

    def smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = gaussian_filter1d(
            x, SIGMA, axis=0, truncate=TRUNCATE, mode="reflect"
        )
        return result

    mean_a = smooth(a)
    mean_b = smooth(b)
    var_a = smooth(a * a) - mean_a**2
    var_b = smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1 = K1**2
    c2 = K2**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = numerator / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    edge = int(TRUNCATE * SIGMA + 0.5)  # windows that reach over the edge do not count
    return float(similarity[edge:-edge].mean())
