"""Pictures of a lab's own data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from phosphene import disk
from phosphene.data.arrays.betas import UNREADABLE
from phosphene.data.opening import open_image
from phosphene.errors import PhospheneError

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")


def find_pictures(folder: Path, names: Sequence[str]) -> list[Path]:
    """Find the file ``name.png``, ``.jpg``, ... of every image."""
    found: dict[str, list[Path]] = {}
    for path in disk.list_files(folder):
        if path.suffix.lower() in PICTURES:
            found.setdefault(path.stem, []).append(path)
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
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise PhospheneError(
            f"{path}: could not be read as a picture ({error}); save or copy it again"
        ) from error


def picture_side(path: Path) -> int:
    """Shorter side of a picture in pixels, from its header."""
    with _open_picture(path) as picture:
        return min(picture.size)


def read_picture(path: Path, side: int) -> NDArray[np.uint8]:
    """Read a picture as (side, side, 3), cropped to the square at its centre and resized
    (Lanczos).
    """
    with _open_picture(path) as picture:
        if picture.mode.startswith(("I", "F")):
            raise PhospheneError(
                f"{path}: has pixels of type {picture.mode}; save it with 8 bits per channel"
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
