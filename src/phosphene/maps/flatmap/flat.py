"""The flattened cortex of fsaverage5."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from phosphene.maps.flatmap.sampling import HEMISPHERES, N_FSAVERAGE5, Vertices, check_shapes
from phosphene.maps.flatmap.style import (
    BORDER,
    NO_OUTLINES,
    PLAIN,
    SOFT,
    Scale,
    finite_of,
    framed,
    write_name,
    written,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.tri import Triangulation

GAP = 6.0  # of hemispheres, mm


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
        check_shapes({"values": values[hemisphere]}, (N_FSAVERAGE5,))
        check_shapes(
            {name: region[hemisphere] for name, region in outlines.items()}, (N_FSAVERAGE5,)
        )
    drawn = finite_of(np.concatenate([values[hemisphere] for hemisphere in HEMISPHERES]))
    note = (
        "Flattened cortex of fsaverage. The back of the head is in the middle; dark grey lies "
        "in the sulci."
    )
    figure, axes, norm = framed(4.3, title, note, scale, drawn)
    for hemisphere, side in HEMISPHERES.items():
        mesh, sulci = flat_mesh(hemisphere)
        axes.tripcolor(
            mesh, sulci, cmap="Greys", vmin=-3, vmax=4, shading="gouraud", rasterized=True
        )
        finite = np.isfinite(values[hemisphere])
        shown = Triangulation(mesh.x, mesh.y, mesh.triangles, ~finite[mesh.triangles].all(1))
        filled = np.where(finite, values[hemisphere], 0)
        axes.tripcolor(
            shown, filled, cmap=scale.colours, norm=norm, shading="gouraud", rasterized=True
        )
        for name, region in outlines.items():
            outline(axes, mesh, name, region[hemisphere] > 0)
        x = 0.01 if hemisphere == "lh" else 0.99
        axes.text(
            x,
            0.98,
            f"{side} hemisphere",
            fontsize=9.5,
            color=SOFT,
            ha=side,
            va="top",
            transform=axes.transAxes,
        )
    return written(figure, path)


@lru_cache(maxsize=2)
def flat_mesh(hemisphere: str) -> tuple[Triangulation, NDArray[np.float32]]:
    """The flat fsaverage5 mesh at its place in the figure, and how deep its vertices lie in
    sulci.
    """
    import nibabel as nib
    from matplotlib.tri import Triangulation
    from nilearn.datasets import fetch_surf_fsaverage

    files = fetch_surf_fsaverage("fsaverage5")
    side = HEMISPHERES[hemisphere]
    points, faces = (array.data for array in nib.load(files[f"flat_{side}"]).darrays)  # type: ignore[attr-defined]
    x, y, _ = points.T.astype(float)
    # the medial wall was cut away: its vertices are in no face and not flat
    used = x[np.unique(faces)]
    x = x - used.max() - GAP if hemisphere == "lh" else x - used.min() + GAP
    return Triangulation(x, y, faces), nib.load(files[f"sulc_{side}"]).darrays[0].data  # type: ignore[attr-defined]


def outline(
    axes: Axes, mesh: Triangulation, name: str, region: NDArray[np.bool_], size: float = 1
) -> None:
    """Draw a region's border where half of a vertex and its neighbours belong to it, its name where
    it is widest.
    """
    from scipy.spatial import cKDTree

    if not region[mesh.triangles].any():
        return
    here, there = np.concatenate([mesh.edges, mesh.edges[:, ::-1]]).T
    share = (region + np.bincount(here, region[there], len(region))) / (
        1 + np.bincount(here, minlength=len(region))
    )
    level = min(0.5, share.max() / 2)  # a region of a few vertices stays visible
    for colour, width in BORDER:
        axes.tricontour(mesh, share, levels=[level], colors=colour, linewidths=size * width)
    triangle, side = np.nonzero(mesh.neighbors == -1)
    rim = mesh.triangles[triangle, side]
    inside = np.unique(here[share[here] > level])
    outside = np.concatenate([rim, here[share[here] <= level]])
    points = np.column_stack([mesh.x, mesh.y])
    away, _ = cKDTree(points[outside]).query(points[inside])
    x, y = points[inside[away.argmax()]]
    write_name(axes, x, y, name, size)
