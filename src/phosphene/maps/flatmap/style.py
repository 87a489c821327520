"""What all figures of this package share: sizes, inks, the scale, the frame, writing the file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene import disk
from phosphene.errors import PhospheneError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

# inches
WIDTH = 11.0  # of figures
MARGIN = 1.0  # above and below what is drawn
INK = "#1c2126"
SOFT = "#5c6670"
BORDER = (("white", 2.6), (INK, 1.1))  # dark on light: seen on every colour


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


def finite_of(values: NDArray[Any]) -> NDArray[Any]:
    finite: NDArray[Any] = np.asarray(values)[np.isfinite(values)]
    if not len(finite):
        raise PhospheneError(
            "values: none of those to draw is finite; is the volume on the grid of the transforms?"
        )
    return finite


def framed(
    height: float, title: str, note: str, scale: Scale, values: NDArray[Any]
) -> tuple[Figure, Axes, Normalize]:
    """A figure with all but the map, whose height is given in inches: title, explanation, colour
    bar; empty axes.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    low, high = np.percentile(values, [1, 99])
    norm = Normalize(
        low if scale.low is None else scale.low, high if scale.high is None else scale.high
    )
    beyond = values.min() < norm.vmin, values.max() > norm.vmax
    extend = {
        (False, False): "neither",
        (True, False): "min",
        (False, True): "max",
        (True, True): "both",
    }[beyond]
    total = height + 2 * MARGIN
    figure = Figure(figsize=(WIDTH, total))
    figure.text(
        0.02, 1 - 0.34 / total, title, fontsize=15, fontweight="bold", color=INK, va="center"
    )
    figure.text(0.02, 1 - 0.64 / total, note, fontsize=9.5, color=SOFT, va="center")
    axes = figure.add_axes((0.01, MARGIN / total, 0.98, height / total), aspect="equal")
    axes.set_axis_off()
    strip = figure.add_axes((0.35, 0.62 / total, 0.3, 0.13 / total))
    bar = figure.colorbar(
        ScalarMappable(norm, scale.colours), cax=strip, orientation="horizontal", extend=extend
    )
    bar.set_label(scale.label, fontsize=10, color=INK)
    bar.outline.set_visible(False)
    strip.tick_params(labelsize=9, length=2, colors=INK)
    return figure, axes, norm


def written(figure: Figure, path: str | Path | None) -> Figure:
    """Write the whole file or nothing."""
    if path is not None:
        path = disk.expand_home(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            figure.savefig(half, format=path.suffix[1:], dpi=160, facecolor="white")
            os.replace(half, path)
        finally:
            half.unlink(missing_ok=True)
    return figure


def write_name(axes: Axes, x: float, y: float, name: str, size: float = 1) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2.5, foreground="white")]
    axes.text(
        x, y, name, fontsize=8.5 * size, color=INK, ha="center", va="center", path_effects=halo
    )
