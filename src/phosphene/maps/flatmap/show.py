"""Draw a volume in the way that the subject's files allow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene import disk
from phosphene.errors import PhospheneError
from phosphene.maps.flatmap.flat import draw
from phosphene.maps.flatmap.pycortex import Pycortex, draw_pycortex
from phosphene.maps.flatmap.sampling import (
    HEMISPHERES,
    Transforms,
    check_shapes,
    read_transforms,
    to_fsaverage5,
    to_native,
    transform_paths,
)
from phosphene.maps.flatmap.slices import draw_slices
from phosphene.maps.flatmap.style import NO_OUTLINES, PLAIN, Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def show(
    volume: NDArray[Any],
    transforms: Transforms | Pycortex | str | Path | None,
    outlines: Mapping[str, NDArray[Any]] = NO_OUTLINES,
    title: str = "",
    scale: Scale = PLAIN,
    path: str | Path | None = None,
    background: NDArray[Any] | None = None,
) -> Figure:
    """Draw a volume as a flat map, or, with a warning, as slices when there are no transforms.

    Parameters
    ----------
    volume : ndarray, shape (X, Y, Z)
        NaN where there is nothing to show.
    transforms : Transforms, Pycortex, path or None
        What :func:`read_transforms` gave, or the folder that it reads for volumes at 1.8 mm; or a
        subject of your own pycortex store.
    outlines : dict of ndarray of bool, shape (X, Y, Z)
        Regions by name.
    title : str
    scale : Scale
    path : path, optional
        Where to write the figure; the suffix is its format.
    background : ndarray, shape (X, Y, Z), optional
        Shown in grey behind slices: a mask or the mean image.

    Raises
    ------
    PhospheneError
        When some transforms are there and others are not, when one is damaged, or when there is
        nothing to show.
    """
    for name, region in outlines.items():
        if not np.isin(region, (0, 1)).all():
            raise PhospheneError(
                f"outlines: {name!r} holds more than 0 and 1; give a mask, such as `atlas == 1`"
            )
    if isinstance(transforms, Pycortex):
        return draw_pycortex(volume, transforms, outlines, title, scale, path)
    if isinstance(transforms, str | Path):
        if not Path(transforms).is_dir():
            raise PhospheneError(
                f"{transforms}: no such folder; give the folder of the transforms, or None for "
                "slices"
            )
        there = any(
            disk.exists(file)
            for hemisphere in HEMISPHERES
            for file in transform_paths(transforms, hemisphere)
        )
        if not there:
            warnings.warn(
                f"{transforms}: no surface registration found; slices are drawn instead",
                stacklevel=2,
            )
        transforms = read_transforms(transforms) if there else None
    if transforms is None:
        return draw_slices(volume, outlines, title, scale, path, background)
    check_shapes(outlines, np.shape(volume))
    values = to_fsaverage5(to_native(volume, transforms), transforms)
    regions = {
        name: to_fsaverage5(to_native(region, transforms, "labels"), transforms)
        for name, region in outlines.items()
    }
    return draw(values, regions, title, scale, path)
