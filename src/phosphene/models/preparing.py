"""Pictures, read one at a time, and how they are prepared for a network or a formula."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    from torch import Tensor

Channels = tuple[float, float, float]
IMAGENET: tuple[Channels, Channels] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP: tuple[Channels, Channels] = (
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
Pictures = Sequence[NDArray[Any]]
"""n pictures (height, width, 3) of any sizes, each uint8, or float32 from 0 to 1; also a uint8
array (n, h, w, 3).
"""


@dataclass(frozen=True)
class Resize:
    """One resizing step.

    Attributes
    ----------
    side : int
        Pixels.
    interpolation : {"bilinear", "bicubic"}
    by : {"pillow", "tensor", "tensor antialiased"}
        Pillow works on 8 bits and always antialiases; tensors stay float from 0 to 1.
    shorter_edge : bool
        `side` is that of the shorter edge and the other follows; else the picture is squeezed into
        a square.
    """

    side: int
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    by: Literal["pillow", "tensor", "tensor antialiased"] = "pillow"
    shorter_edge: bool = False


@dataclass(frozen=True)
class Preparation:
    """What is done to a picture before a network, or a formula, sees it.

    Attributes
    ----------
    resizes : tuple of Resize
        One after the other.
    crop : {None, "round", "floor"}
        Square in the centre, of the last side. Where an odd number of pixels is cut: as torchvision
        places it (half of it, rounded to even) or as transformers does (rounded down).
    normalisation : (mean, standard deviation), or None
        Subtracted and divided by, per channel, of values from 0 to 1.
    """

    resizes: tuple[Resize, ...]
    crop: Literal["round", "floor"] | None = None
    normalisation: tuple[Channels, Channels] | None = None


AT_64 = Preparation((Resize(64, by="tensor antialiased"),))
AT_128 = Preparation((Resize(128, by="tensor antialiased"),))


def picture_at(pictures: Pictures, index: int) -> NDArray[Any]:
    """Read one picture and check what it is.

    Raises
    ------
    PhospheneError
        When it is not uint8 or float32 of shape (height, width, 3), or floats leave 0 to 1.
    """
    picture = np.ascontiguousarray(pictures[index])
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype not in (np.uint8, np.float32):
        raise PhospheneError(
            f"picture {index}: found an array of shape {picture.shape} and type {picture.dtype}, "
            "expected uint8 (height, width, 3), or float32 from 0 to 1."
        )
    # refuses NaN as well
    if picture.dtype == np.float32 and not (picture.min() >= 0 and picture.max() <= 1):
        raise PhospheneError(
            f"picture {index}: found values from {picture.min():.4g} to {picture.max():.4g}, "
            "expected 0 to 1; "
            "scale or clip them."
        )
    return picture


def digest(picture: NDArray[Any]) -> str:
    """Hash of a picture's pixels, type and shape."""
    said = hashlib.blake2b(f"{picture.dtype} {picture.shape}".encode(), digest_size=16)
    said.update(picture.tobytes())
    return said.hexdigest()


def prepare(picture: NDArray[Any], preparation: Preparation) -> Tensor:
    """Resize, crop and normalise one picture.

    Parameters
    ----------
    picture : ndarray, (height, width, 3)
        uint8, or float32 from 0 to 1. Where Pillow resizes, floats are rounded to 8 bits first, as
        by saving them.
    preparation : Preparation

    Returns
    -------
    Tensor of float32, (3, height, width)
        From 0 to 1, where it is not normalised.
    """
    import torch
    from torchvision.transforms import functional as tv

    if any(step.by == "pillow" for step in preparation.resizes):
        eight_bits = (
            picture
            if picture.dtype == np.uint8
            else np.rint(picture * np.float32(255)).astype(np.uint8)
        )
        x = tv.to_tensor(_resized(Image.fromarray(eight_bits), preparation.resizes))
    else:
        tensor = torch.tensor(picture).permute(2, 0, 1).float()
        x = _resized(tensor / 255 if picture.dtype == np.uint8 else tensor, preparation.resizes)
    if preparation.crop:
        x = _cropped(x, preparation.resizes[-1].side, preparation.crop == "round")
    if preparation.normalisation is not None:
        mean, std = preparation.normalisation
        x = tv.normalize(x, list(mean), list(std))
    result: Tensor = x.contiguous()
    return result


def _resized(picture: Any, resizes: Sequence[Resize]) -> Any:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as tv

    for step in resizes:
        size = [step.side] if step.shorter_edge else [step.side, step.side]
        # the last argument is for tensors only: Pillow always antialiases
        picture = tv.resize(
            picture, size, InterpolationMode(step.interpolation), antialias=step.by != "tensor"
        )
    return picture


def _cropped(x: Tensor, side: int, to_even: bool) -> Tensor:
    """Take the square in the centre; half an odd margin is rounded to even, or down."""
    height, width = x.shape[-2:]
    top, left = ((extent - side) / 2 for extent in (height, width))
    first = (round(top), round(left)) if to_even else (int(top), int(left))
    return x[:, first[0] : first[0] + side, first[1] : first[1] + side]


def resize(
    pictures: NDArray[np.uint8], side: int, how: Image.Resampling = Image.Resampling.LANCZOS
) -> NDArray[np.uint8]:
    """Resize pictures, uint8 (n, height, width, 3), to squares of `side` pixels."""
    if pictures.shape[1:3] == (side, side):
        return pictures
    return np.stack([np.asarray(Image.fromarray(p).resize((side, side), how)) for p in pictures])
