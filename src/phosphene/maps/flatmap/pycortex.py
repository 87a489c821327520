"""Flat maps of a subject of your own pycortex store: hand-cut flattenings, at the resolution of the
cortex itself.

pycortex (Gao, Huth, Lescroart and Gallant 2015) is optional: ``pip install 'phosphene[flatmaps]'``.
Its store holds, by subject, surfaces and transforms from scans to them; where it lies stands in
pycortex's own options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene.errors import PhospheneError
from phosphene.maps.flatmap.raster import GREYS
from phosphene.maps.flatmap.style import (
    BORDER,
    NO_OUTLINES,
    PLAIN,
    Scale,
    finite_of,
    framed,
    write_name,
    written,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 1024  # pixels of a map
SHARPNESS = 8.0  # of the change from gyri to sulci, per 1/mm of curvature
DEPTHS = 8  # at which a value is sampled between white matter and pial surface
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pycortex:
    """A subject of the pycortex store, and the transform that leads from the scans to it.

    Attributes
    ----------
    subject : str
        A folder of the store.
    transform : str
        One of the subject's transforms; its reference has the grid of the scans.
    """

    subject: str
    transform: str


class PycortexGround:
    """What maps are painted on: the subject's own flattened cortex
    (:class:`phosphene.maps.flatmap.raster.FlatGround`).
    """

    flat = True

    def __init__(self, place: Pycortex) -> None:
        self.place = place
        self._cortex = _cortex(place)
        self.shape = tuple(
            int(n) for n in self._cortex.db.get_xfm(place.subject, place.transform).shape[::-1]
        )
        self.note = (
            f"Flattened cortex of {place.subject}, from pycortex; dark grey lies in the sulci."
        )
        depth, extent = self._picture(self._cortex.db.get_surfinfo(place.subject, "curvature"))
        # pycortex's curvature is positive on gyri
        self._depth = -depth
        self.extent = extent

    def shade(self) -> Floats:
        """Curvature in light grey, (height, width, 4), transparent outside cortex."""
        gyrus, sulcus = GREYS
        grey = gyrus + (sulcus - gyrus) * (1 + np.tanh(SHARPNESS * np.nan_to_num(self._depth))) / 2
        return np.dstack([grey, grey, grey, np.isfinite(self._depth)])

    def values(self, volume: Floats) -> Floats:
        """Carry a volume (X, Y, Z) to the pixels: mean over the depths of the cortex that have a
        value.
        """
        return self._sampled(volume, thick=DEPTHS)

    def labels(self, volume: Floats) -> NDArray[np.int64]:
        """Carry whole numbers from 1 on, those of the middle of the cortex; 0 where there are
        none.
        """
        return np.nan_to_num(np.rint(self._sampled(np.nan_to_num(volume), thick=1))).astype(
            np.int64
        )

    def _sampled(self, volume: Floats, thick: int) -> Floats:
        if np.shape(volume) != self.shape:
            raise PhospheneError(
                f"volume: has shape {np.shape(volume)}; expected {self.shape}, that of transform "
                f"{self.place.transform!r} of pycortex's subject {self.place.subject!r}"
            )
        # pycortex's volumes are (z, y, x)
        data = self._cortex.Volume(
            np.asarray(volume, float).T, self.place.subject, self.place.transform
        )
        return self._picture(data, thick=thick, sampler="nearest")[0]

    def _picture(self, data: Any, **how: Any) -> tuple[Floats, tuple[float, float, float, float]]:
        picture, extent = self._cortex.quickflat.utils.make_flatmap_image(
            data, height=HEIGHT, **how
        )
        left, right, bottom, top = (float(edge) for edge in extent)
        return np.asarray(picture, float), (left, right, bottom, top)

    def outline(self, axes: Axes, name: str, region: NDArray[np.bool_], size: float = 1) -> None:
        """Draw the border of a region (X, Y, Z), and its name on both hemispheres."""
        from scipy.ndimage import distance_transform_edt

        inside = self.labels(region.astype(float)) > 0
        if not inside.any():
            return
        left, right, bottom, top = self.extent
        rows, columns = inside.shape
        x = left + (right - left) * (np.arange(columns) + 0.5) / columns
        y = top - (top - bottom) * (np.arange(rows) + 0.5) / rows
        for colour, width in BORDER:
            axes.contour(x, y, inside, levels=[0.5], colors=colour, linewidths=size * width)
        for half in (np.s_[: columns // 2], np.s_[columns // 2 :]):
            away = np.zeros(inside.shape)
            away[:, half] = distance_transform_edt(inside[:, half])
            if away.any():
                row, column = np.unravel_index(away.argmax(), away.shape)
                write_name(axes, float(x[column]), float(y[row]), name, size)

    def marks(self, axes: Axes) -> None:
        """Nothing: left and right are said once, by the figure."""


@lru_cache(maxsize=4)
def pycortex_ground(place: Pycortex) -> PycortexGround:
    """Open a subject of the store; once per process."""
    return PycortexGround(place)


def draw_pycortex(
    volume: NDArray[Any],
    place: Pycortex,
    outlines: Mapping[str, NDArray[Any]] = NO_OUTLINES,
    title: str = "",
    scale: Scale = PLAIN,
    path: str | Path | None = None,
) -> Figure:
    """Draw a volume (X, Y, Z) on a subject of the pycortex store; the other parameters are those of
    :func:`show`.
    """
    drawn = finite_of(volume)
    ground = pycortex_ground(place)
    picture = ground.values(np.asarray(volume, float))
    rows, columns = picture.shape
    figure, axes, norm = framed(11.0 * rows / columns, title, ground.note, scale, drawn)
    axes.imshow(ground.shade(), extent=ground.extent)
    axes.imshow(
        picture, cmap=scale.colours, norm=norm, extent=ground.extent, interpolation="nearest"
    )
    for name, region in outlines.items():
        ground.outline(axes, name, np.asarray(region) > 0)
    return written(figure, path)


def _cortex(place: Pycortex) -> Any:
    """The package, and a check that its store has what is asked for."""
    try:
        import cortex
        import cortex.quickflat
    except ImportError as error:
        raise PhospheneError(
            f"pycortex could not be imported ({error}); install it with pip install "
            "'phosphene[flatmaps]', or draw "
            "on fsaverage, which needs no store"
        ) from error
    known = cortex.db.subjects
    if place.subject not in known:
        raise PhospheneError(
            f"{cortex.db.filestore}: holds no subject {place.subject!r}, only "
            f"{', '.join(sorted(known)) or 'none'}; "
            "import it into pycortex, or set `filestore` in pycortex's options to the store that "
            "has it"
        )
    transforms = dir(known[place.subject].transforms)
    if place.transform not in transforms:
        raise PhospheneError(
            f"{cortex.db.filestore}: subject {place.subject!r} has no transform "
            f"{place.transform!r}, only "
            f"{', '.join(transforms) or 'none'}; align the scans with pycortex first"
        )
    return cortex
