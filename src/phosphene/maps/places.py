"""Where voxels lie: the subject's grid, its way to the surface, its regions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data.atlas import outlined
from phosphene.maps import flatmap
from phosphene.maps.flatmap.raster import FlatGround
from phosphene.maps.flatmap.slices import N_COLUMNS, N_NARROW, SliceGround

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Grid(Protocol):
    """What maps need of a data set of scans (:class:`phosphene.data.scans.Scans`)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Grid (X, Y, Z)."""

    @property
    def affine(self) -> NDArray[np.float64]:
        """From voxels to mm, (4, 4)."""

    @property
    def rois(self) -> tuple[str, ...]:
        """Names of regions."""

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial: image, split."""

    def select(self, rois: str | Sequence[str]) -> NDArray[np.int64]:
        """Coordinates (n_voxels, 3) of regions."""


class Ground(Protocol):
    """What maps are painted on: flattened cortex or slices."""

    flat: bool
    """Whether it is cortex, the left hemisphere on the left."""
    note: str

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top."""

    def shade(self) -> NDArray[np.float64]:
        """The picture beneath, (height, width, 4)."""

    def values(self, volume: NDArray[np.float64]) -> NDArray[np.float64]:
        """A volume as a picture, NaN where there is nothing."""

    def labels(self, volume: NDArray[np.float64]) -> NDArray[np.int64]:
        """A volume of whole numbers from 1 on as a picture, 0 where there is nothing."""

    def outline(self, axes: Axes, name: str, region: NDArray[np.bool_], size: float = 1) -> None:
        """Draw a region's border and name."""

    def marks(self, axes: Axes) -> None:
        """Write what explains the picture."""


def resolution(data: Grid) -> str:
    """Name the data's grid as the transforms do; only NSD has a choice."""
    return str(getattr(getattr(data, "layout", None), "resolution", "func1pt8mm"))


def transforms_of(data: Grid) -> Path | None:
    """The subject's own folder of transforms; None where there is none, or none of its files."""
    folder = getattr(getattr(data, "layout", None), "transforms", None)
    if folder is None or resolution(data) not in flatmap.GRIDS:
        return None
    paths = [
        path
        for h in flatmap.HEMISPHERES
        for path in flatmap.transform_paths(folder, h, resolution(data))
    ]
    return Path(folder) if any(disk.exists(path) for path in paths) else None


def ground(
    data: Grid,
    transforms: flatmap.Transforms | flatmap.Pycortex | str | Path | None,
    known: NDArray[np.bool_],
    shown: NDArray[np.bool_],
    narrow: bool = False,
) -> Ground:
    """Choose what to paint on: flattened cortex where the way there is known, else slices.

    Parameters
    ----------
    data : Grid
    transforms : Transforms, Pycortex, path or None
        None means the subject's own, if it has any.
    known, shown : ndarray of bool, (X, Y, Z)
        Voxels that were predicted, and those that some map shows.
    narrow : bool
        Slices for a phone.
    """
    found = transforms_of(data) if transforms is None else transforms
    if found is None:
        return SliceGround(known, shown, N_NARROW if narrow else N_COLUMNS)
    if isinstance(found, flatmap.Pycortex):
        return flatmap.pycortex_ground(found)
    if not isinstance(found, flatmap.Transforms):
        found = flatmap.read_transforms(found, resolution(data))
    return FlatGround(found)


def regions(data: Grid, names: Sequence[str] | None) -> dict[str, NDArray[np.bool_]]:
    """Masks (X, Y, Z) of regions by name; without names those of the visual streams that the data
    have.
    """
    if names is None:
        selected = outlined(data)
    else:
        selected = {name: data.select(name) for name in names}
    masks = {}
    for name, voxels in selected.items():
        masks[name] = np.zeros(data.shape, bool)
        masks[name][tuple(voxels.T)] = True
    return masks


def n_test_images(data: Grid) -> int:
    """How many test pictures a correlation is taken over."""
    trials = data.trials
    return int(trials.loc[trials["split"] == "test", "image"].nunique())
