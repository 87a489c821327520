"""Pictures of a lab's own data."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from phosphene import disk
from phosphene.data import pictures
from phosphene.data.opening import NO_PICTURE, open_image
from phosphene.data.pictures import CLEAR, bits, conversions
from phosphene.data.trials import same_text
from phosphene.errors import PhospheneError

MUCH_SMALLER = 4  # times: a picture this much smaller than most is a mistake
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def find_pictures(folder: Path, names: Sequence[str]) -> list[Path]:
    """Find the file ``name.png``, ``.jpg``, ... of every image."""
    found: dict[str, list[Path]] = {}
    for path in disk.list_files(folder):
        if path.suffix.lower() in PICTURES:
            found.setdefault(same_text(path.stem), []).append(path)
    if missing := [name for name in names if name not in found]:
        raise PhospheneError(
            f"{folder}: no picture for {len(missing)} of {len(names)} image_ids of trials.csv, "
            f"such as {missing[0]!r}; "
            f"expected a file with that name and the ending {', '.join(PICTURES)}"
        )
    for name in names:
        if len(found[name]) > 1:
            raise PhospheneError(
                f"{folder}: found {' and '.join(path.name for path in found[name])}; expected one "
                f"picture of {name!r}"
            )
    return [found[name][0] for name in names]


@contextmanager
def _open_picture(path: Path) -> Iterator[Image.Image]:
    try:
        with open_image(path) as picture:
            yield picture
    except PhospheneError:
        raise
    except NO_PICTURE as error:
        raise PhospheneError(
            f"{path}: could not be read as a picture ({error}); save or copy it again"
        ) from error


def conversion_notes(paths: Sequence[Path]) -> list[str]:
    """What is done to pictures that are not plain RGB, one sentence for each kind."""
    words = []
    for path in paths:
        with _open_picture(path):
            kinds = conversions(path)
        # pictures that are transparent in places are refused, others only have the channel
        words.append([kind for kind in kinds if kind != CLEAR])
    return pictures.conversion_notes([path.name for path in paths], words)


def picture_side(path: Path) -> int:
    """Shorter side of a picture in pixels, from its header."""
    with _open_picture(path) as picture:
        return min(picture.size)


def common_side(paths: Sequence[Path], largest: int) -> int:
    """Return the side in pixels to which all pictures are made: the shortest, at most `largest`.

    Raises
    ------
    PhospheneError
        When one is so much smaller than most that all would be spoilt for it.
    """
    sides = [min(largest, picture_side(path)) for path in paths]
    usual = int(statistics.median_low(sides))
    if min(sides) * MUCH_SMALLER <= usual:
        smallest = sides.index(min(sides))
        raise PhospheneError(
            f"{paths[smallest]}: its shorter side has {min(sides)} pixels, those of most pictures "
            f"{usual} or more, and all are made as small as the smallest; save it in full size, or "
            "remove its trials"
        )
    return min(sides)


def read_picture(path: Path, side: int) -> NDArray[np.uint8]:
    """Read a picture as (side, side, 3), cropped to the square at its centre and resized
    (Lanczos).
    """
    with _open_picture(path) as picture:
        if picture.mode.startswith(("I", "F")):
            raise PhospheneError(
                f"{path}: has pixels of type {picture.mode}; save it with 8 bits per channel"
            )
        if (depth := bits(path, picture)) > 8:
            raise PhospheneError(
                f"{path}: has {depth} bits per channel; save it with 8 bits per channel"
            )
        if (
            picture.has_transparency_data
            and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255
        ):
            raise PhospheneError(
                f"{path}: is transparent in places; save it on the background that was shown"
            )
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        return np.asarray(ImageOps.fit(upright, (side, side), Image.Resampling.LANCZOS))
