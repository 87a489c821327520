"""The flattened cortex as a picture: any number of values, or labels, for every pixel, to be
coloured at will.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from phosphene.maps.flatmap.flat import flat_mesh, outline
from phosphene.maps.flatmap.sampling import (
    HEMISPHERES,
    N_FSAVERAGE5,
    Transforms,
    to_fsaverage5,
    to_native,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PIXEL = 0.4  # mm
MOST = 0.5  # share of a pixel's three corners, weighted by nearness, that must have a value
GREYS = 0.93, 0.81  # of gyri and sulci: light, so that no colour of a map is taken for cortex


class Pixels(NamedTuple):
    """Where the pixels of the picture lie, row 0 at the top.

    Attributes
    ----------
    corners : ndarray of int, (height, width, 3)
        Vertices of the triangle that a pixel lies in, those of the right hemisphere after those of
        the left.
    weights : ndarray, (height, width, 3)
        Barycentric coordinates; all 0 outside cortex.
    extent : tuple of float
        Left, right, bottom, top in mm.
    """

    corners: NDArray[np.int64]
    weights: NDArray[np.float64]
    extent: tuple[float, float, float, float]


@lru_cache(maxsize=1)
def pixels() -> Pixels:
    """Find the triangle of every pixel, both hemispheres side by side."""
    meshes = [flat_mesh(hemisphere)[0] for hemisphere in HEMISPHERES]
    half = PIXEL * np.ceil(max(np.abs(mesh.x).max() for mesh in meshes) / PIXEL)
    bottom = min(float(mesh.y.min()) for mesh in meshes)
    n_rows = int((max(float(mesh.y.max()) for mesh in meshes) - bottom) / PIXEL) + 1
    extent = (-half, half, bottom, bottom + n_rows * PIXEL)
    y, x = np.indices((n_rows, round(2 * half / PIXEL))) * PIXEL + PIXEL / 2
    x = x - half
    y = extent[3] - y
    corners = np.zeros((*x.shape, 3), np.int64)
    weights = np.zeros((*x.shape, 3))
    for k, mesh in enumerate(meshes):
        triangle = np.asarray(mesh.get_trifinder()(x, y))
        at = triangle >= 0
        found = mesh.triangles[triangle[at]]
        weights[at] = _barycentric(mesh.x[found], mesh.y[found], x[at], y[at])
        corners[at] = found + k * N_FSAVERAGE5
    return Pixels(corners, weights, extent)


def _barycentric(
    a: NDArray[np.float64], b: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights (n, 3) of the corners `a`, `b` (n, 3) of triangles that points lie in."""
    (x1, x2, x3) = a.T
    (y1, y2, y3) = b.T
    area = (y2 - y3) * (x1 - x3) + (x3 - x2) * (y1 - y3)
    first = ((y2 - y3) * (x - x3) + (x3 - x2) * (y - y3)) / area
    second = ((y3 - y1) * (x - x3) + (x1 - x3) * (y - y3)) / area
    return np.asarray(np.clip(np.column_stack([first, second, 1 - first - second]), 0, 1))


class FlatGround:
    """What maps of one subject are painted on: cortex laid flat, the left hemisphere on the
    left.
    """

    flat = True
    note = (
        "Flattened cortex of fsaverage, the back of the head in the middle; dark grey lies in "
        "the sulci."
    )

    def __init__(self, transforms: Transforms) -> None:
        self.transforms = transforms
        self.extent = pixels().extent

    def shade(self) -> NDArray[np.float64]:
        """Curvature in light grey, (height, width, 4), transparent outside cortex."""
        _, weights, _ = found = pixels()
        depth = np.concatenate([flat_mesh(hemisphere)[1] for hemisphere in HEMISPHERES])
        gyrus, sulcus = GREYS
        share = (1 + np.tanh(2.5 * (depth[found.corners] * weights).sum(-1))) / 2
        grey = gyrus + (sulcus - gyrus) * share
        return np.dstack([grey, grey, grey, weights.sum(-1) > 0])

    def values(self, volume: NDArray[np.float64]) -> NDArray[np.float64]:
        """Carry a volume (X, Y, Z) to the pixels: NaN where it is, or where most of the nearest
        vertices have none.
        """
        corners, weights, _ = pixels()
        there = self._vertices(to_native(volume, self.transforms))[corners]
        weights = weights * np.isfinite(there)
        total = weights.sum(-1)
        mean = np.divide(
            (np.nan_to_num(there) * weights).sum(-1),
            total,
            out=np.zeros_like(total),
            where=total > 0,
        )
        return np.where(total > MOST, mean, np.nan)

    def labels(self, volume: NDArray[np.float64]) -> NDArray[np.int64]:
        """Carry whole numbers from 1 on: for a pixel that of most of the nearest vertices, 0 where
        they have none.
        """
        corners, weights, _ = pixels()
        there = self._vertices(to_native(volume, self.transforms, "labels"))[corners]
        best = np.full(weights.shape[:2], 1e-9)
        found = np.zeros(weights.shape[:2], np.int64)
        for label in np.unique(there):
            share = (weights * (there == label)).sum(-1)
            better = share > best
            best[better], found[better] = share[better], max(label, 0)
        return found

    def _vertices(self, native: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        carried = to_fsaverage5(native, self.transforms)
        return np.concatenate([carried[hemisphere] for hemisphere in HEMISPHERES])

    def outline(self, axes: Axes, name: str, region: NDArray[np.bool_], size: float = 1) -> None:
        """Draw the border of a region (X, Y, Z) and its name on both hemispheres."""
        found = to_fsaverage5(to_native(region, self.transforms, "labels"), self.transforms)
        for hemisphere in HEMISPHERES:
            outline(axes, flat_mesh(hemisphere)[0], name, found[hemisphere] > 0, size)

    def marks(self, axes: Axes) -> None:
        """Nothing: left and right are said once, by the figure."""
