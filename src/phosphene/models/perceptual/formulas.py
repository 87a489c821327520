"""Feature spaces that need no network: pixels, Gabor energy, colour."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GRAY = (0.2125, 0.7154, 0.0721)  # as scikit-image's rgb2gray
# 0.25 cycles per pixel of each level
GABOR_LEVELS = 4
GABOR_ORIENTATIONS = 8
GABOR_FREQUENCY = 0.25
GRID = 8
# all of sRGB in CIELAB
COLOUR_BINS = (8, 16, 16)
COLOUR_RANGE = ((0, 100), (-110, 110), (-110, 110))


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
