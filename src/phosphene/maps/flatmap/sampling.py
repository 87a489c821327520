"""From the scan's voxels to the vertices of fsaverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene import disk
from phosphene.data.opening import NO_VOLUME, check_unzipped, load_volume
from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    import pandas as pd

HEMISPHERES = {"lh": "left", "rh": "right"}
# resolution -> its name in NSD's transform files
GRIDS = {
    "func1pt8mm": "func1pt8",
    "func1mm": "func1pt0",
}
N_FSAVERAGE5 = 10242  # vertices of a hemisphere
N_FSAVERAGE = 163842  # the first are those of fsaverage5
INVALID = 9999  # NSD's coordinate of a vertex outside the grid
OUTSIDE = -1  # NSD's label of what is not cortex

Vertices = Mapping[str, NDArray[Any]]
"""Values of the vertices of "lh" and "rh", each of shape (n_vertices,)."""


@dataclass(frozen=True)
class Transforms:
    """The way from a functional grid to fsaverage.

    Attributes
    ----------
    layers : dict of ndarray of float32, shape (3, n_vertices, 3)
        Per hemisphere ("lh", "rh") where the vertices of the subject's own surface lie at 25, 50
        and 75 % of the cortical depth: 0-based voxel coordinates (x, y, z), NaN outside the grid.
    nearest : dict of ndarray of int64, shape (163842,) or (10242,)
        Per hemisphere the native vertex (0-based) nearest to each vertex of fsaverage, or of
        fsaverage5.
    """

    layers: dict[str, NDArray[np.float32]]
    nearest: dict[str, NDArray[np.int64]]


def read_transforms(folder: str | Path, resolution: str = "func1pt8mm") -> Transforms:
    """Read a subject's transforms.

    Parameters
    ----------
    folder : path
        In NSD ``nsddata/ppdata/subj01/transforms``.
    resolution : {"func1pt8mm", "func1mm"}
        The grid of the volumes that will be mapped.

    Raises
    ------
    PhospheneError
        When a file is missing, damaged or does not fit the others.
    """
    layers = {}
    nearest = {}
    for hemisphere in HEMISPHERES:
        *depths, index = transform_paths(folder, hemisphere, resolution)
        layers[hemisphere] = _read_layers(depths)
        nearest[hemisphere] = _read_nearest(index, layers[hemisphere].shape[1])
    return Transforms(layers, nearest)


def transform_paths(
    folder: str | Path, hemisphere: str, resolution: str = "func1pt8mm"
) -> list[Path]:
    """The files with the coordinates at three depths, and the one that leads to fsaverage."""
    if resolution not in GRIDS:
        raise PhospheneError(
            f"resolution: unknown grid {resolution!r}; expected {' or '.join(map(repr, GRIDS))}"
        )
    names = [f"{GRIDS[resolution]}-to-layerB{depth}" for depth in (1, 2, 3)]
    return [
        disk.expand_home(folder) / f"{hemisphere}.{name}.mgz"
        for name in (*names, "white-to-fsaverage")
    ]


def _read_mgz(path: Path) -> NDArray[np.float32]:
    if not disk.exists(path):
        raise PhospheneError(
            f"{path}: no such file; a flat map needs all of the subject's transforms, copy it there"
        )
    check_unzipped(path)
    try:
        return np.squeeze(np.asarray(load_volume(path).dataobj, np.float32))
    except PhospheneError:
        raise
    except NO_VOLUME as error:
        raise PhospheneError(
            f"{path}: could not be read as MGZ ({error}); copy or download it again"
        ) from error


def _read_layers(paths: Sequence[Path]) -> NDArray[np.float32]:
    layers = [_read_mgz(path) for path in paths]
    for path, layer in zip(paths, layers, strict=True):
        if layer.shape != (*layers[0].shape[:1], 3):
            raise PhospheneError(
                f"{path}: holds an array of shape {layer.shape}; expected (n_vertices, 3), with "
                "the vertices of "
                f"{paths[0].name}; take all files from one subject"
            )
    coordinates = np.array(layers)
    coordinates[(coordinates == INVALID).any(2)] = np.nan
    return coordinates - 1  # the files count from 1


def _read_nearest(path: Path, n_vertices: int) -> NDArray[np.int64]:
    index = _read_mgz(path)
    if index.shape not in ((N_FSAVERAGE,), (N_FSAVERAGE5,)):
        raise PhospheneError(
            f"{path}: holds an array of shape {index.shape}; expected {N_FSAVERAGE} vertices of "
            "fsaverage or "
            f"{N_FSAVERAGE5} of fsaverage5"
        )
    if not ((index >= 1) & (index <= n_vertices) & (index % 1 == 0)).all():
        raise PhospheneError(
            f"{path}: holds {index.min():g} to {index.max():g}; expected whole numbers from 1 to "
            f"{n_vertices}, the "
            "vertices of the subject's own surface; take all files from one subject"
        )
    return index.astype(np.int64) - 1


def to_native(
    volume: NDArray[Any], transforms: Transforms, kind: Literal["values", "labels"] = "values"
) -> dict[str, NDArray[Any]]:
    """Sample a volume on the subject's own surface.

    Parameters
    ----------
    volume : ndarray, shape (X, Y, Z)
        On the grid of `transforms`. Values may be NaN where nothing was measured or computed.
    transforms : Transforms
    kind : {"values", "labels"}
        "values" are interpolated linearly between those of the eight voxels around a point that are
        finite, then averaged over the depths that have a value. A point whose own voxel is not
        finite has none, so values never leave a mask. "labels" are those of the nearest voxel: the
        label that two depths agree on, else that of the middle depth.

    Returns
    -------
    dict of ndarray, shape (n_vertices,)
        "lh" and "rh": float64, NaN where there is no value; or int64 labels, -1 outside the grid.
    """
    check_volume(volume)
    if kind not in ("values", "labels"):
        raise PhospheneError(
            f"kind: unknown kind of volume {kind!r}; expected 'values' or 'labels'"
        )
    sample = _sample_values if kind == "values" else _sample_labels
    return {
        hemisphere: sample(np.asarray(volume, float), layers)
        for hemisphere, layers in transforms.layers.items()
    }


def _at(
    volume: NDArray[Any], layers: NDArray[np.float32], order: int, outside: float = 0
) -> NDArray[np.float64]:
    """Interpolate at every vertex and depth, shape (3, n_vertices)."""
    from scipy.ndimage import map_coordinates

    # -1 is outside every grid
    points = np.nan_to_num(np.moveaxis(layers, -1, 0).astype(float), nan=-1)
    return np.asarray(map_coordinates(volume, points, order=order, mode="constant", cval=outside))


def _sample_values(volume: NDArray[Any], layers: NDArray[np.float32]) -> NDArray[np.float64]:
    finite = np.isfinite(volume)
    weight = _at(finite.astype(float), layers, 1)
    weighted = _at(np.where(finite, volume, 0), layers, 1)
    inside = _at(finite.astype(float), layers, 0) > 0
    total = np.divide(weighted, weight, out=np.zeros_like(weight), where=inside).sum(0)
    n_depths = inside.sum(0)
    return np.where(n_depths > 0, total / np.maximum(n_depths, 1), np.nan)


def _sample_labels(volume: NDArray[Any], layers: NDArray[np.float32]) -> NDArray[np.int64]:
    outer, middle, inner = _at(
        np.nan_to_num(np.rint(volume), nan=OUTSIDE), layers, 0, OUTSIDE
    ).astype(np.int64)
    return np.asarray(np.where(outer == inner, outer, middle))


def check_volume(volume: NDArray[Any]) -> None:
    if np.ndim(volume) != 3:
        raise PhospheneError(
            f"volume: has shape {np.shape(volume)}; expected the three axes (x, y, z)"
        )


def check_shapes(arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> None:
    for name, array in arrays.items():
        if np.shape(array) != shape:
            raise PhospheneError(f"{name}: has shape {np.shape(array)}; expected {shape}")


def to_fsaverage5(native: Vertices, transforms: Transforms) -> dict[str, NDArray[Any]]:
    """Carry what :func:`to_native` gave to fsaverage5, from the nearest vertex: "lh" and "rh",
    shape (10242,).
    """
    return {
        hemisphere: native[hemisphere][index[:N_FSAVERAGE5]]
        for hemisphere, index in transforms.nearest.items()
    }


def to_fsaverage(native: Vertices, transforms: Transforms) -> dict[str, NDArray[Any]]:
    """Carry what :func:`to_native` gave to fsaverage, all vertices that the subject's file names:
    163842, or 10242.
    """
    return {
        hemisphere: native[hemisphere][index] for hemisphere, index in transforms.nearest.items()
    }


def to_volume(
    values: NDArray[Any], voxels: pd.DataFrame, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Put one value per voxel where the voxels lie, NaN elsewhere.

    Parameters
    ----------
    values : ndarray, shape (n_voxels,)
    voxels : DataFrame
        With columns x, y, z, as ``data.voxels(rois)`` gives for the columns of
        ``data.betas(rois)``.
    shape : (X, Y, Z)
        Grid of the scans: ``data.shape``.
    """
    if np.shape(values) != (len(voxels),):
        raise PhospheneError(
            f"values: found shape {np.shape(values)}, expected one for each of {len(voxels)} voxels"
        )
    volume = np.full(shape, np.nan)
    volume[tuple(voxels[["x", "y", "z"]].to_numpy().T)] = values
    return volume
