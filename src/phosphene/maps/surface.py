"""Maps on a cortex that can be turned: one HTML page that holds everything, drawn by the plotly
that nilearn ships.

nilearn's own ``view_surf`` gives a page of about four megabytes for every map; here all maps share
one mesh of fsaverage5, and colours come from the same panels as the figures'.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.maps import flatmap
from phosphene.maps.flatmap.flat import flat_mesh
from phosphene.maps.flatmap.raster import GREYS
from phosphene.maps.panels import Floats, Panel, Panels

GAP = 6.0  # of hemispheres, mm
UNIT = 0.01  # mm, of coordinates in the page
STEP = 1e-3  # of values in the page
NONE = -32768  # stands for no value
LIFT = 1.004  # how far outlines lie above the cortex


@dataclass(frozen=True)
class Legend:
    """What a map's colours mean: a ramp from one end to the other, or patches with words."""

    title: str
    ramp: Sequence[str] = ()
    ends: tuple[str, str] = ("", "")
    patches: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Turned:
    """One map of the page.

    Attributes
    ----------
    subject, name : str
        What the reader chooses.
    colours : ndarray, (n_vertices, 3)
        0 to 1, both hemispheres.
    there : ndarray of bool, (n_vertices,)
        Where they are shown; elsewhere the cortex is grey.
    values : dict of ndarray, (n_vertices,)
        Numbers told at a vertex, by name.
    legend : Legend
    """

    subject: str
    name: str
    colours: Floats
    there: NDArray[np.bool_]
    values: Mapping[str, Floats]
    legend: Legend


class Cortex:
    """Carries volumes to the vertices of fsaverage5, those of the right hemisphere after those of
    the left.
    """

    def __init__(self, transforms: flatmap.Transforms) -> None:
        self.transforms = transforms

    def values(self, volume: Floats) -> Floats:
        """Numbers, NaN where there is none."""
        return self._carried(flatmap.to_native(volume, self.transforms))

    def labels(self, volume: Floats) -> NDArray[np.int64]:
        """Whole numbers from 1 on, 0 where there is none."""
        carried = self._carried(flatmap.to_native(volume, self.transforms, "labels"))
        return np.asarray(np.maximum(carried, 0), np.int64)

    def _carried(self, native: flatmap.Vertices) -> NDArray[Any]:
        found = flatmap.to_fsaverage5(native, self.transforms)
        return np.concatenate([found[hemisphere] for hemisphere in flatmap.HEMISPHERES])


def turned(
    subject: str, shown: Panels, panel: Panel, name: str, said: tuple[Sequence[str], Legend]
) -> Turned:
    """Make a map of a panel that :class:`Cortex` carried; `said` names its values and explains its
    colours.
    """
    names, legend = said
    values = dict(zip(names, panel.pictures, strict=False))
    return Turned(subject, name, shown.colour(panel.pictures), panel.there, values, legend)


def surface_page(
    title: str, maps: Sequence[Turned], regions: Mapping[str, Mapping[str, NDArray[np.bool_]]]
) -> str:
    """Write the page.

    Parameters
    ----------
    title : str
    maps : sequence of Turned
        The first one is shown first.
    regions : dict of dict of ndarray of bool, (n_vertices,)
        Subject -> region -> its vertices; outlined, and named at a vertex.

    Returns
    -------
    str
        HTML that loads nothing from anywhere: about 2 MB, and 0.2 MB for each map.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if not maps:
        raise PhospheneError("surface: found no map, expected one or more.")
    meshes = {hemisphere: _mesh(hemisphere) for hemisphere in flatmap.HEMISPHERES}
    content = {
        "sides": [_side(hemisphere, *mesh) for hemisphere, mesh in meshes.items()],
        "maps": [_map(one) for one in maps],
        "regions": {
            subject: _outlines(known, list(meshes.values())) for subject, known in regions.items()
        },
        "unit": UNIT,
        "step": STEP,
        "none": NONE,
    }
    environment = Environment(
        loader=PackageLoader("phosphene.maps"), autoescape=True, undefined=StrictUndefined
    )
    template = environment.get_template("surface.html")
    return template.render(title=title, content=content, plotly=_plotly()).strip() + "\n"


def _side(hemisphere: str, points: Floats, faces: NDArray[np.int64]) -> dict[str, Any]:
    """One hemisphere, for the page."""
    return {
        "name": flatmap.HEMISPHERES[hemisphere],
        "points": _packed(points / UNIT, np.int16),
        "faces": _packed(faces, np.uint16),
        "grey": _packed(255 * _grey(hemisphere), np.uint8),
    }


def _map(one: Turned) -> dict[str, Any]:
    """One map, for the page."""
    values = [
        {"name": name, "data": _packed(_steps(np.where(one.there, v, np.nan)), np.int16)}
        for name, v in one.values.items()
    ]
    return {
        "subject": one.subject,
        "name": one.name,
        "colours": _packed(255 * np.clip(one.colours, 0, 1), np.uint8),
        "values": values,
        "there": _packed(one.there, np.uint8),
        "legend": {
            "title": one.legend.title,
            "ramp": list(one.legend.ramp),
            "ends": list(one.legend.ends),
            "patches": list(one.legend.patches.items()),
        },
    }


def _outlines(known: Mapping[str, NDArray[np.bool_]], meshes: Sequence[Any]) -> dict[str, Any]:
    """Regions of one subject, for the page."""
    n = len(meshes[0][0])
    return {
        "names": list(known),
        "labels": _packed(_labels(known, 2 * n), np.uint8),
        "lines": [_packed(_border(known, k, meshes) / UNIT, np.int16) for k in range(2)],
    }


def _packed(values: NDArray[Any], kind: Any) -> str:
    """Little-endian bytes, as base64."""
    whole = np.rint(np.nan_to_num(np.asarray(values, float))).astype(
        np.dtype(kind).newbyteorder("<")
    )
    return base64.b64encode(whole.tobytes()).decode()


def _steps(values: Floats) -> Floats:
    return np.where(np.isfinite(values), np.clip(np.nan_to_num(values) / STEP, -32767, 32767), NONE)


def _labels(regions: Mapping[str, NDArray[np.bool_]], n: int) -> NDArray[np.int64]:
    """Number of the region of every vertex, from 1 on, 0 for none."""
    found = np.zeros(n, np.int64)
    for k, region in enumerate(regions.values(), start=1):
        found[region] = k
    return found


@lru_cache(maxsize=2)
def _mesh(hemisphere: str) -> tuple[Floats, NDArray[np.int64]]:
    """Inflated cortex: points (n, 3) in mm, hemispheres side by side, and triangles."""
    from nilearn.datasets import fetch_surf_fsaverage
    from nilearn.surface import load_surf_mesh

    mesh = load_surf_mesh(
        fetch_surf_fsaverage("fsaverage5")[f"infl_{flatmap.HEMISPHERES[hemisphere]}"]
    )
    points = np.array(mesh.coordinates, float)
    faces = np.asarray(mesh.faces, np.int64)
    points[:, 1:] -= (points[:, 1:].max(0) + points[:, 1:].min(0)) / 2
    inner = points[:, 0].max() if hemisphere == "lh" else points[:, 0].min()
    points[:, 0] += (-GAP if hemisphere == "lh" else GAP) / 2 - inner
    return points, faces


def _grey(hemisphere: str) -> Floats:
    """Shade of the cortex, dark in the sulci, as of flat maps."""
    gyrus, sulcus = GREYS
    depth = np.asarray(flat_mesh(hemisphere)[1], float)
    return np.asarray(gyrus + (sulcus - gyrus) * (1 + np.tanh(2.5 * depth)) / 2)


def _border(regions: Mapping[str, NDArray[np.bool_]], side: int, meshes: Sequence[Any]) -> Floats:
    """Pairs of points (2 n, 3): lines across the triangles that a region's border cuts."""
    points, faces = meshes[side]
    centre = points.mean(0)
    lines = [np.zeros((0, 2, 3))]
    for region in regions.values():
        inside = region[side * len(points) :][: len(points)][faces]
        alone = inside.sum(1)
        cut = (alone == 1) | (alone == 2)
        # the corner on its own side
        odd = np.where(alone[cut, None] == 1, inside[cut], ~inside[cut]).argmax(1)
        corners = np.take_along_axis(faces[cut], (odd[:, None] + [0, 1, 2]) % 3, 1)
        first, second, third = (points[corners[:, k]] for k in range(3))
        lines.append(np.stack([(first + second) / 2, (first + third) / 2], axis=1))
    return np.asarray((np.concatenate(lines).reshape(-1, 3) - centre) * LIFT + centre)


@lru_cache(maxsize=1)
def _plotly() -> str:
    """The text of the plotly that nilearn ships for its own pages."""
    import nilearn

    found = sorted(Path(nilearn.__file__).parent.rglob("plotly-*.min.js"))
    if not found:
        raise PhospheneError(
            f"{Path(nilearn.__file__).parent}: found no plotly-*.min.js, which nilearn ships "
            "since 0.5; the surface "
            "that can be turned needs it: install another nilearn."
        )
    text = found[0].read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script")
