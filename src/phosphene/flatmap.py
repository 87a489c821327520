"""From the scan's voxels to a map of flattened cortex.

A volume (X, Y, Z) is sampled at three depths of the subject's own cortex, carried to fsaverage and drawn on the flat
fsaverage5 mesh that nilearn ships; NSD's transform files say where each vertex lies in the scan. A scan without them is
drawn as slices: its header does not register it with any surface, so a map made from it would be wrong.
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.tri import Triangulation

HEMISPHERES = {"lh": "left", "rh": "right"}
GRIDS = {"func1pt8mm": "func1pt8", "func1mm": "func1pt0"}  # resolution -> its name in NSD's transform files
N_FSAVERAGE5, N_FSAVERAGE = 10242, 163842  # vertices of a hemisphere; fsaverage begins with those of fsaverage5
INVALID, OUTSIDE = 9999, -1  # NSD's coordinate of a vertex outside the grid; NSD's label of what is not cortex
WIDTH, MARGIN, GAP = 11.0, 1.0, 6.0  # of figures, inches; above and below what is drawn, inches; of hemispheres, mm
N_SLICES, N_COLUMNS = 12, 6
INK, SOFT = "#1c2126", "#5c6670"
BORDER = (("white", 2.6), (INK, 1.1))  # dark on light: seen on every colour

Vertices = Mapping[str, NDArray[Any]]
"""Values of the vertices of "lh" and "rh", each of shape (n_vertices,)."""


@dataclass(frozen=True)
class Transforms:
    """The way from a functional grid to fsaverage.

    Attributes
    ----------
    layers : dict of ndarray of float32, shape (3, n_vertices, 3)
        Per hemisphere ("lh", "rh") where the vertices of the subject's own surface lie at 25, 50 and 75 % of the
        cortical depth: 0-based voxel coordinates (x, y, z), NaN outside the grid.
    nearest : dict of ndarray of int64, shape (163842,) or (10242,)
        Per hemisphere the native vertex (0-based) nearest to each vertex of fsaverage, or of fsaverage5.
    """

    layers: dict[str, NDArray[np.float32]]
    nearest: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Scale:
    """How values become colours.

    Attributes
    ----------
    label : str
        What is shown, with its unit; stands at the colour bar.
    low, high : float, optional
        Ends of the colour bar; without them the 1st and 99th percentile of the values.
    colours : str
        A matplotlib colour map. The default can be read by colour-blind people and in grey.
    """

    label: str = ""
    low: float | None = None
    high: float | None = None
    colours: str = "viridis"


PLAIN = Scale()
NO_OUTLINES: Mapping[str, Any] = MappingProxyType({})


# ---- from voxels to vertices ---------------------------------------------------------------------------------------


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
    layers, nearest = {}, {}
    for hemisphere in HEMISPHERES:
        *depths, index = _paths(folder, hemisphere, resolution)
        layers[hemisphere] = _read_layers(depths)
        nearest[hemisphere] = _read_nearest(index, layers[hemisphere].shape[1])
    return Transforms(layers, nearest)


def _paths(folder: str | Path, hemisphere: str, resolution: str = "func1pt8mm") -> list[Path]:
    """The files with the coordinates at three depths, and the one that leads to fsaverage."""
    if resolution not in GRIDS:
        raise PhospheneError(f"resolution: unknown grid {resolution!r}; expected {' or '.join(map(repr, GRIDS))}")
    names = [f"{GRIDS[resolution]}-to-layerB{depth}" for depth in (1, 2, 3)]
    return [Path(folder).expanduser() / f"{hemisphere}.{name}.mgz" for name in (*names, "white-to-fsaverage")]


def _read_mgz(path: Path) -> NDArray[np.float32]:
    import nibabel as nib

    if not path.is_file():
        raise PhospheneError(f"{path}: no such file; a flat map needs all of the subject's transforms, copy it there")
    try:
        return np.squeeze(np.asarray(nib.load(path).dataobj, np.float32))  # type: ignore[attr-defined]
    except (OSError, EOFError, ValueError, zlib.error, nib.filebasedimages.ImageFileError) as error:
        raise PhospheneError(f"{path}: could not be read as MGZ ({error}); copy or download it again") from error


def _read_layers(paths: Sequence[Path]) -> NDArray[np.float32]:
    layers = [_read_mgz(path) for path in paths]
    for path, layer in zip(paths, layers, strict=True):
        if layer.shape != (*layers[0].shape[:1], 3):
            raise PhospheneError(
                f"{path}: holds an array of shape {layer.shape}; expected (n_vertices, 3), with the vertices of "
                f"{paths[0].name}; take all files from one subject"
            )
    coordinates = np.array(layers)
    coordinates[(coordinates == INVALID).any(2)] = np.nan
    return coordinates - 1  # the files count from 1


def _read_nearest(path: Path, n_vertices: int) -> NDArray[np.int64]:
    index = _read_mgz(path)
    if index.shape not in ((N_FSAVERAGE,), (N_FSAVERAGE5,)):
        raise PhospheneError(
            f"{path}: holds an array of shape {index.shape}; expected {N_FSAVERAGE} vertices of fsaverage or "
            f"{N_FSAVERAGE5} of fsaverage5"
        )
    if not ((index >= 1) & (index <= n_vertices) & (index % 1 == 0)).all():
        raise PhospheneError(
            f"{path}: holds {index.min():g} to {index.max():g}; expected whole numbers from 1 to {n_vertices}, the "
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
        "values" are interpolated linearly between those of the eight voxels around a point that are finite, then
        averaged over the depths that have a value. A point whose own voxel is not finite has none, so values never
        leave a mask. "labels" are those of the nearest voxel: the label that two depths agree on, else that of the
        middle depth.

    Returns
    -------
    dict of ndarray, shape (n_vertices,)
        "lh" and "rh": float64, NaN where there is no value; or int64 labels, -1 outside the grid.
    """
    _check_volume(volume)
    if kind not in ("values", "labels"):
        raise PhospheneError(f"kind: unknown kind of volume {kind!r}; expected 'values' or 'labels'")
    sample = _sample_values if kind == "values" else _sample_labels
    return {hemisphere: sample(np.asarray(volume, float), layers) for hemisphere, layers in transforms.layers.items()}


def _at(volume: NDArray[Any], layers: NDArray[np.float32], order: int, outside: float = 0) -> NDArray[np.float64]:
    """Interpolate at every vertex and depth, shape (3, n_vertices)."""
    from scipy.ndimage import map_coordinates

    points = np.nan_to_num(np.moveaxis(layers, -1, 0).astype(float), nan=-1)  # -1 is outside every grid
    return np.asarray(map_coordinates(volume, points, order=order, mode="constant", cval=outside))


def _sample_values(volume: NDArray[Any], layers: NDArray[np.float32]) -> NDArray[np.float64]:
    finite = np.isfinite(volume)
    weight, weighted = _at(finite.astype(float), layers, 1), _at(np.where(finite, volume, 0), layers, 1)
    inside = _at(finite.astype(float), layers, 0) > 0
    total = np.divide(weighted, weight, out=np.zeros_like(weight), where=inside).sum(0)
    n_depths = inside.sum(0)
    return np.where(n_depths > 0, total / np.maximum(n_depths, 1), np.nan)


def _sample_labels(volume: NDArray[Any], layers: NDArray[np.float32]) -> NDArray[np.int64]:
    outer, middle, inner = _at(np.nan_to_num(np.rint(volume), nan=OUTSIDE), layers, 0, OUTSIDE).astype(np.int64)
    return np.asarray(np.where(outer == inner, outer, middle))


def _check_volume(volume: NDArray[Any]) -> None:
    if np.ndim(volume) != 3:
        raise PhospheneError(f"volume: has shape {np.shape(volume)}; expected the three axes (x, y, z)")


def _check_shapes(arrays: Mapping[str, NDArray[Any]], shape: tuple[int, ...]) -> None:
    for name, array in arrays.items():
        if np.shape(array) != shape:
            raise PhospheneError(f"{name}: has shape {np.shape(array)}; expected {shape}")


def to_fsaverage5(native: Vertices, transforms: Transforms) -> dict[str, NDArray[Any]]:
    """Carry what :func:`to_native` gave to fsaverage5, from the nearest vertex: "lh" and "rh", shape (10242,)."""
    return {hemisphere: native[hemisphere][index[:N_FSAVERAGE5]] for hemisphere, index in transforms.nearest.items()}


def to_volume(values: NDArray[Any], voxels: pd.DataFrame, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Put one value per voxel where the voxels lie, NaN elsewhere.

    Parameters
    ----------
    values : ndarray, shape (n_voxels,)
    voxels : DataFrame
        With columns x, y, z, as ``data.voxels(rois)`` gives for the columns of ``data.betas(rois)``.
    shape : (X, Y, Z)
        Grid of the scans: ``data.shape``.
    """
    if np.shape(values) != (len(voxels),):
        raise PhospheneError(f"values: found shape {np.shape(values)}, expected one for each of {len(voxels)} voxels")
    volume = np.full(shape, np.nan)
    volume[tuple(voxels[["x", "y", "z"]].to_numpy().T)] = values
    return volume


# ---- drawing -------------------------------------------------------------------------------------------------------


def show(
    volume: NDArray[Any],
    transforms: Transforms | str | Path | None,
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
    transforms : Transforms, path or None
        What :func:`read_transforms` gave, or the folder that it reads for volumes at 1.8 mm.
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
        When some transforms are there and others are not, when one is damaged, or when there is nothing to show.
    """
    for name, region in outlines.items():
        if not np.isin(region, (0, 1)).all():
            raise PhospheneError(f"outlines: {name!r} holds more than 0 and 1; give a mask, such as `atlas == 1`")
    if isinstance(transforms, str | Path):
        if not Path(transforms).is_dir():
            raise PhospheneError(f"{transforms}: no such folder; give the folder of the transforms, or None for slices")
        there = any(file.is_file() for hemisphere in HEMISPHERES for file in _paths(transforms, hemisphere))
        if not there:
            warnings.warn(f"{transforms}: no surface registration found; slices are drawn instead", stacklevel=2)
        transforms = read_transforms(transforms) if there else None
    if transforms is None:
        return draw_slices(volume, outlines, title, scale, path, background)
    _check_shapes(outlines, np.shape(volume))
    values = to_fsaverage5(to_native(volume, transforms), transforms)
    regions = {
        name: to_fsaverage5(to_native(region, transforms, "labels"), transforms) for name, region in outlines.items()
    }
    return draw(values, regions, title, scale, path)


def draw(
    values: Vertices,
    outlines: Mapping[str, Vertices] = NO_OUTLINES,
    title: str = "",
    scale: Scale = PLAIN,
    path: str | Path | None = None,
) -> Figure:
    """Draw values of fsaverage5 on the flattened cortex, the left hemisphere on the left.

    Parameters
    ----------
    values : dict of ndarray, shape (10242,)
        "lh" and "rh"; where a value is NaN the grey cortex shows.
    outlines : dict of dict of ndarray, shape (10242,)
        Regions by name: larger than 0 at their vertices.
    title, scale, path
        As in :func:`show`.
    """
    from matplotlib.tri import Triangulation

    for hemisphere in HEMISPHERES:
        _check_shapes({"values": values[hemisphere]}, (N_FSAVERAGE5,))
        _check_shapes({name: region[hemisphere] for name, region in outlines.items()}, (N_FSAVERAGE5,))
    drawn = _finite(np.concatenate([values[hemisphere] for hemisphere in HEMISPHERES]))
    note = "Flattened cortex of fsaverage. The back of the head is in the middle; dark grey lies in the sulci."
    figure, axes, norm = _figure(4.3, title, note, scale, drawn)
    for hemisphere, side in HEMISPHERES.items():
        mesh, sulci = _flat_mesh(hemisphere)
        axes.tripcolor(mesh, sulci, cmap="Greys", vmin=-3, vmax=4, shading="gouraud", rasterized=True)
        finite = np.isfinite(values[hemisphere])
        shown = Triangulation(mesh.x, mesh.y, mesh.triangles, ~finite[mesh.triangles].all(1))
        filled = np.where(finite, values[hemisphere], 0)
        axes.tripcolor(shown, filled, cmap=scale.colours, norm=norm, shading="gouraud", rasterized=True)
        for name, region in outlines.items():
            _outline(axes, mesh, name, region[hemisphere] > 0)
        x = 0.01 if hemisphere == "lh" else 0.99
        axes.text(x, 0.98, f"{side} hemisphere", fontsize=9.5, color=SOFT, ha=side, va="top", transform=axes.transAxes)
    return _written(figure, path)


@lru_cache(maxsize=2)
def _flat_mesh(hemisphere: str) -> tuple[Triangulation, NDArray[np.float32]]:
    """The flat fsaverage5 mesh at its place in the figure, and how deep its vertices lie in sulci."""
    import nibabel as nib
    from matplotlib.tri import Triangulation
    from nilearn.datasets import fetch_surf_fsaverage

    files, side = fetch_surf_fsaverage("fsaverage5"), HEMISPHERES[hemisphere]
    points, faces = (array.data for array in nib.load(files[f"flat_{side}"]).darrays)  # type: ignore[attr-defined]
    x, y, _ = points.T.astype(float)
    used = x[np.unique(faces)]  # the medial wall was cut away: its vertices are in no face and not flat
    x = x - used.max() - GAP if hemisphere == "lh" else x - used.min() + GAP
    return Triangulation(x, y, faces), nib.load(files[f"sulc_{side}"]).darrays[0].data  # type: ignore[attr-defined]


def _outline(axes: Axes, mesh: Triangulation, name: str, region: NDArray[np.bool_]) -> None:
    """Draw a region's border where half of a vertex and its neighbours belong to it, its name where it is widest."""
    from scipy.spatial import cKDTree

    if not region[mesh.triangles].any():
        return
    here, there = np.concatenate([mesh.edges, mesh.edges[:, ::-1]]).T
    share = (region + np.bincount(here, region[there], len(region))) / (1 + np.bincount(here, minlength=len(region)))
    level = min(0.5, share.max() / 2)  # a region of a few vertices stays visible
    for colour, width in BORDER:
        axes.tricontour(mesh, share, levels=[level], colors=colour, linewidths=width)
    triangle, side = np.nonzero(mesh.neighbors == -1)
    rim = mesh.triangles[triangle, side]
    inside, outside = np.unique(here[share[here] > level]), np.concatenate([rim, here[share[here] <= level]])
    points = np.column_stack([mesh.x, mesh.y])
    away, _ = cKDTree(points[outside]).query(points[inside])
    x, y = points[inside[away.argmax()]]
    _name(axes, x, y, name)


def _name(axes: Axes, x: float, y: float, name: str) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="white")]
    axes.text(x, y, name, fontsize=8.5, color=INK, ha="center", va="center", path_effects=halo)


def draw_slices(
    volume: NDArray[Any],
    outlines: Mapping[str, NDArray[Any]] = NO_OUTLINES,
    title: str = "",
    scale: Scale = PLAIN,
    path: str | Path | None = None,
    background: NDArray[Any] | None = None,
) -> Figure:
    """Draw up to 12 slices of a volume, z constant in each; the parameters are those of :func:`show`."""
    _check_volume(volume)
    drawn, finite = _finite(volume), np.isfinite(volume)
    grey = finite if background is None else np.nan_to_num(np.asarray(background, float))
    _check_shapes({"background": grey, **outlines}, np.shape(volume))
    note = "No surface registration was found: these are slices of the scan's own grid, x to the right, y upwards."
    filled = np.flatnonzero(finite.any((0, 1)))
    planes = filled[np.unique(np.linspace(0, len(filled) - 1, N_SLICES).round().astype(int))]
    used = (finite | (grey > 0)).any(2)
    x, y = np.flatnonzero(used.any(1)), np.flatnonzero(used.any(0))
    box = np.s_[x[0] : x[-1] + 1, y[0] : y[-1] + 1, planes]
    values, width, height = _mosaic(np.asarray(volume)[box], np.nan)
    figure, axes, norm = _figure(min(4.3, WIDTH * values.shape[0] / values.shape[1]), title, note, scale, drawn)
    axes.imshow(_mosaic(grey[box], 0)[0], cmap="Greys", vmin=0, vmax=3 * grey.max())
    axes.imshow(values, cmap=scale.colours, norm=norm)
    for k, z in enumerate(planes):
        row, column = divmod(k, values.shape[1] // width)
        axes.text((column + 0.5) * width, row * height, f"z = {z}", fontsize=8.5, color=SOFT, ha="center", va="top")
    for name, region in outlines.items():
        _outline_tiles(axes, name, _mosaic(np.asarray(region)[box] > 0, 0)[0])
    return _written(figure, path)


def _outline_tiles(axes: Axes, name: str, region: NDArray[np.float64]) -> None:
    """Draw a region's border along the edges of its voxels, its name where it is widest."""
    from scipy.ndimage import distance_transform_edt

    if not region.any():
        return
    fine = region.repeat(8, axis=0).repeat(8, axis=1)
    x, y = ((np.arange(n) + 0.5) / 8 - 0.5 for n in fine.shape[::-1])
    for colour, width in BORDER:
        axes.contour(x, y, fine, levels=[0.5], colors=colour, linewidths=0.6 * width)
    row, column = np.unravel_index(distance_transform_edt(region).argmax(), region.shape)
    _name(axes, float(column), float(row), name)


def _mosaic(planes: NDArray[Any], empty: float) -> tuple[NDArray[np.float64], int, int]:
    """Lay out planes (x, y, n) in rows, x to the right and y upwards; returns width and height of a tile too."""
    n_columns = min(N_COLUMNS, planes.shape[2])
    n_rows = -(-planes.shape[2] // n_columns)
    margins = ((1, 1), (1, 2 + planes.shape[1] // 8), (0, n_rows * n_columns - planes.shape[2]))
    tiles = np.pad(planes.astype(float), margins, constant_values=empty)[:, ::-1]
    width, height, _ = tiles.shape
    rows = tiles.reshape(width, height, n_rows, n_columns).transpose(2, 1, 3, 0)
    return rows.reshape(n_rows * height, n_columns * width), width, height


# ---- what both figures share ---------------------------------------------------------------------------------------


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    finite: NDArray[Any] = np.asarray(values)[np.isfinite(values)]
    if not len(finite):
        raise PhospheneError("values: none of those to draw is finite; is the volume on the grid of the transforms?")
    return finite


def _figure(height: float, title: str, note: str, scale: Scale, values: NDArray[Any]) -> tuple[Figure, Axes, Normalize]:
    """A figure with all but the map, whose height is given in inches: title, explanation, colour bar; empty axes."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    low, high = np.percentile(values, [1, 99])
    norm = Normalize(low if scale.low is None else scale.low, high if scale.high is None else scale.high)
    beyond = values.min() < norm.vmin, values.max() > norm.vmax
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    total = height + 2 * MARGIN
    figure = Figure(figsize=(WIDTH, total))
    figure.text(0.02, 1 - 0.34 / total, title, fontsize=15, fontweight="bold", color=INK, va="center")
    figure.text(0.02, 1 - 0.64 / total, note, fontsize=9.5, color=SOFT, va="center")
    axes = figure.add_axes((0.01, MARGIN / total, 0.98, height / total), aspect="equal")
    axes.set_axis_off()
    strip = figure.add_axes((0.35, 0.62 / total, 0.3, 0.13 / total))
    bar = figure.colorbar(ScalarMappable(norm, scale.colours), cax=strip, orientation="horizontal", extend=extend)
    bar.set_label(scale.label, fontsize=10, color=INK)
    bar.outline.set_visible(False)
    strip.tick_params(labelsize=9, length=2, colors=INK)
    return figure, axes, norm


def _written(figure: Figure, path: str | Path | None) -> Figure:
    """Write the whole file or nothing."""
    if path is not None:
        path = Path(path).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            figure.savefig(half, format=path.suffix[1:], dpi=160, facecolor="white")
            os.replace(half, path)
        finally:
            half.unlink(missing_ok=True)
    return figure
