"""Slices of the scan's own grid, for scans that no surface is known for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene.maps.flatmap.sampling import check_shapes, check_volume
from phosphene.maps.flatmap.style import (
    BORDER,
    NO_OUTLINES,
    PLAIN,
    SOFT,
    WIDTH,
    Scale,
    finite_of,
    framed,
    write_name,
    written,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_SLICES = 12
N_COLUMNS = 6  # of a page
N_NARROW = 3  # columns of a narrow page


def draw_slices(
    volume: NDArray[Any],
    outlines: Mapping[str, NDArray[Any]] = NO_OUTLINES,
    title: str = "",
    scale: Scale = PLAIN,
    path: str | Path | None = None,
    background: NDArray[Any] | None = None,
) -> Figure:
    """Draw up to 12 slices of a volume, z constant in each; the parameters are those of
    :func:`show`.
    """
    check_volume(volume)
    drawn = finite_of(volume)
    finite = np.isfinite(volume)
    grey = finite if background is None else np.nan_to_num(np.asarray(background, float))
    check_shapes({"background": grey, **outlines}, np.shape(volume))
    note = (
        "No surface registration was found: these are slices of the scan's own grid, x to the "
        "right, y upwards."
    )
    filled = np.flatnonzero(finite.any((0, 1)))
    planes = filled[np.unique(np.linspace(0, len(filled) - 1, N_SLICES).round().astype(int))]
    used = (finite | (grey > 0)).any(2)
    x = np.flatnonzero(used.any(1))
    y = np.flatnonzero(used.any(0))
    box = np.s_[x[0] : x[-1] + 1, y[0] : y[-1] + 1, planes]
    values, width, height = mosaic(np.asarray(volume)[box], np.nan)
    figure, axes, norm = framed(
        min(4.3, WIDTH * values.shape[0] / values.shape[1]), title, note, scale, drawn
    )
    axes.imshow(mosaic(grey[box], 0)[0], cmap="Greys", vmin=0, vmax=3 * grey.max())
    axes.imshow(values, cmap=scale.colours, norm=norm)
    for k, z in enumerate(planes):
        row, column = divmod(k, values.shape[1] // width)
        axes.text(
            (column + 0.5) * width,
            row * height,
            f"z = {z}",
            fontsize=8.5,
            color=SOFT,
            ha="center",
            va="top",
        )
    for name, region in outlines.items():
        outline_tiles(axes, name, mosaic(np.asarray(region)[box] > 0, 0)[0])
    return written(figure, path)


def outline_tiles(axes: Axes, name: str, region: NDArray[np.float64], size: float = 1) -> None:
    """Draw a region's border along the edges of its voxels, its name where it is widest."""
    from scipy.ndimage import distance_transform_edt

    if not region.any():
        return
    fine = region.repeat(8, axis=0).repeat(8, axis=1)
    x, y = ((np.arange(n) + 0.5) / 8 - 0.5 for n in fine.shape[::-1])
    for colour, width in BORDER:
        axes.contour(x, y, fine, levels=[0.5], colors=colour, linewidths=0.6 * size * width)
    row, column = np.unravel_index(distance_transform_edt(region).argmax(), region.shape)
    write_name(axes, float(column), float(row), name, size)


def mosaic(
    planes: NDArray[Any], empty: float, most: int = N_COLUMNS
) -> tuple[NDArray[np.float64], int, int]:
    """Lay out planes (x, y, n) in rows, x to the right and y upwards; returns width and height of a
    tile too.
    """
    n_columns = min(most, planes.shape[2])
    n_rows = -(-planes.shape[2] // n_columns)
    margins = ((1, 1), (1, 2 + planes.shape[1] // 8), (0, n_rows * n_columns - planes.shape[2]))
    tiles = np.pad(planes.astype(float), margins, constant_values=empty)[:, ::-1]
    width, height, _ = tiles.shape
    rows = tiles.reshape(width, height, n_rows, n_columns).transpose(2, 1, 3, 0)
    return rows.reshape(n_rows * height, n_columns * width), width, height


class SliceGround:
    """What maps are painted on where no surface is known: slices of the scan's own grid.

    Parameters
    ----------
    mask : ndarray of bool, (X, Y, Z)
        The voxels that maps may have; shown in grey.
    shown : ndarray of bool, (X, Y, Z)
        Those that some map has: up to 12 planes are spread over them.
    most : int
        Slices beside each other.
    """

    flat = False
    note = (
        "No surface registration was found: slices of the scan's own grid, x to the right, y "
        "upwards."
    )

    def __init__(
        self, mask: NDArray[np.bool_], shown: NDArray[np.bool_], most: int = N_COLUMNS
    ) -> None:
        self.most = most
        planes = np.flatnonzero((shown if shown.any() else mask).any((0, 1)))
        self.planes = planes[
            np.unique(np.linspace(0, len(planes) - 1, N_SLICES).round().astype(int))
        ]
        x = np.flatnonzero(mask.any((1, 2)))
        y = np.flatnonzero(mask.any((0, 2)))
        self._box = np.s_[x[0] : x[-1] + 1, y[0] : y[-1] + 1, self.planes]
        self._mask, self.width, self.height = mosaic(mask[self._box], 0, most)
        rows, columns = self._mask.shape
        self.extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)

    def shade(self) -> NDArray[np.float64]:
        """The mask in light grey, (height, width, 4), transparent elsewhere."""
        grey = np.full(self._mask.shape, 0.88)
        return np.dstack([grey, grey, grey, self._mask > 0])

    def values(self, volume: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lay out the planes of a volume (X, Y, Z)."""
        return mosaic(np.asarray(volume)[self._box], np.nan, self.most)[0]

    def labels(self, volume: NDArray[np.float64]) -> NDArray[np.int64]:
        """Lay out the planes of a volume of whole numbers from 1 on, 0 where there is none."""
        return np.nan_to_num(self.values(volume)).astype(np.int64)

    def outline(self, axes: Axes, name: str, region: NDArray[np.bool_], size: float = 1) -> None:
        """Draw the border of a region (X, Y, Z) and its name."""
        outline_tiles(axes, name, mosaic(region[self._box], 0, self.most)[0], size)

    def marks(self, axes: Axes) -> None:
        """Say which plane each slice is."""
        for k, z in enumerate(self.planes):
            row, column = divmod(k, self._mask.shape[1] // self.width)
            x = (column + 0.5) * self.width
            y = row * self.height
            axes.text(x, y, f"z = {z}", fontsize=7.5, color=SOFT, ha="center", va="top")
