"""Measures of pixels, PixCorr and SSIM, and feature spaces that need no network: pixels, Gabor
energy, colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from phosphene.errors import PhospheneError
from phosphene.perceptual.preparing import Pictures, picture_at, prepare
from phosphene.perceptual.presets import Metric

# Wang et al. 2004: Gaussian windows 11 pixels wide
SIGMA = 1.5
TRUNCATE = 3.5
K1 = 0.01
K2 = 0.03
GRAY = (0.2125, 0.7154, 0.0721)  # as scikit-image's rgb2gray
# 0.25 cycles per pixel of each level
GABOR_LEVELS = 4
GABOR_ORIENTATIONS = 8
GABOR_FREQUENCY = 0.25
GRID = 8
# all of sRGB in CIELAB
COLOUR_BINS = (8, 16, 16)
COLOUR_RANGE = ((0, 100), (-110, 110), (-110, 110))


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


def pixel_values(pictures: Tensor) -> Tensor:
    """The picture itself, (n, 3, side, side)."""
    return pictures


def gabor_energy(pictures: Tensor) -> Tensor:
    """Energy of oriented waves in luminance: where a picture has edges and textures, how coarse and
    in which direction.

    Quadrature pairs of Gabor filters in 8 orientations on 4 levels, each half as large as the one
    before; energies are averaged over 8 x 8 fields, so that small shifts matter little. Brightness
    drops out; contrast only scales.

    Parameters
    ----------
    pictures : Tensor, (n, 3, side, side)
        From 0 to 1; the side is a multiple of 64, from 128 on.

    Returns
    -------
    Tensor, (n, 4, 8, 8, 8)
        Level (fine to coarse), orientation of the wave (0, 22.5, ... degrees from horizontal),
        field.
    """
    kernels = _gabor_kernels().to(pictures.device)
    gray = (pictures * torch.tensor(GRAY, device=pictures.device)[:, None, None]).sum(
        1, keepdim=True
    )
    levels = []
    for level in range(GABOR_LEVELS):
        if level:
            gray = F.avg_pool2d(gray, 2)
        edge = kernels.shape[-1] // 2
        real, imaginary = F.conv2d(F.pad(gray, (edge,) * 4, mode="reflect"), kernels).chunk(
            2, dim=1
        )
        energy = torch.sqrt(real**2 + imaginary**2)
        levels.append(F.avg_pool2d(energy, energy.shape[-1] // GRID))
    return torch.stack(levels, 1)


@lru_cache
def _gabor_kernels() -> Tensor:
    """Real parts, then imaginary parts: (16, 1, side, side), without any response to flat light."""
    from skimage import filters

    gabor_kernel: Any = filters.gabor_kernel  # untyped
    angles = np.arange(GABOR_ORIENTATIONS) * np.pi / GABOR_ORIENTATIONS
    waves = [gabor_kernel(GABOR_FREQUENCY, theta=angle, bandwidth=1) for angle in angles]
    side = max(max(wave.shape) for wave in waves)
    padded = [
        np.pad(wave, [((side - extent) // 2,) * 2 for extent in wave.shape]) for wave in waves
    ]
    flat = [wave - np.abs(wave) * wave.sum() / np.abs(wave).sum() for wave in padded]
    parts = np.concatenate([np.real(flat), np.imag(flat)])
    return torch.from_numpy(parts[:, None]).float()


def colour_histogram(pictures: Tensor) -> Tensor:
    """How much of each colour a picture holds, wherever it is.

    Square roots of a histogram in CIELAB (8 x 16 x 16 bins), smoothed by one bin so that near
    colours are near.

    Parameters
    ----------
    pictures : Tensor, (n, 3, height, width)
        From 0 to 1.

    Returns
    -------
    Tensor, (n, 8, 16, 16)
        Lightness, green to red, blue to yellow.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.color import rgb2lab

    rows = []
    for picture in pictures.permute(0, 2, 3, 1).cpu().double().numpy():
        shares, _ = np.histogramdd(rgb2lab(picture).reshape(-1, 3), COLOUR_BINS, COLOUR_RANGE)
        shares /= picture.shape[0] * picture.shape[1]
        rows.append(np.sqrt(gaussian_filter(shares, 1.0, mode="reflect")))
    return torch.from_numpy(np.stack(rows)).float()


FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "pixels": pixel_values,
    "gabor": gabor_energy,
    "colour": colour_histogram,
}
