"""Legends: a ramp, a square of two scales, a table of layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from phosphene.brain_maps import colours
from phosphene.brain_maps.page import Legend
from phosphene.flatmap.raster import GREYS
from phosphene.flatmap.style import INK, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Colour = Callable[[list[Floats]], Floats]
"""From the pictures of a panel to colours (height, width, 3)."""
HEIGHTS = {"ramp": 0.85, "square": 2.05}  # inches


def _axes(figure: Figure, place: Legend, corner: tuple[float, float], size: tuple[float, float]) -> Axes:
    """Axes of a size with the upper left corner so far right of and below the legend's own, inches."""
    x, y = place.left + corner[0], place.top - corner[1] - size[1]
    axes = figure.add_axes((x / place.width, y / place.height, size[0] / place.width, size[1] / place.height))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=2.5, color=SOFT, labelcolor=INK, labelsize=8.5)
    return axes


def _text(figure: Figure, place: Legend, corner: tuple[float, float], text: str, **more: Any) -> None:
    x, y = (place.left + corner[0]) / place.width, (place.top - corner[1]) / place.height
    figure.text(x, y, text, **{"fontsize": 9.5, "color": INK, "va": "center", **more})


def ramp(figure: Figure, place: Legend, top: float, label: str, lowest: float) -> None:
    """Draw the scale of accuracy, grey below the lowest value that is shown."""
    _text(figure, place, (0, 0.1), label)
    axes = _axes(figure, place, (0, 0.27), (3.6, 0.16))
    share = np.linspace(0, 1, 512)
    picture = colours.ramp(share, colours.ACCURACY)
    if np.isfinite(lowest):
        picture[share * top < lowest] = sum(GREYS) / 2
    axes.imshow(picture[None], extent=(0, top, 0, 1), aspect="auto")
    axes.set_yticks([])
    ticks = _ticks(top)
    axes.set_xticks(ticks, [f"{'≥ ' if t == ticks[-1] else ''}{t:g}" for t in ticks])
    if np.isfinite(lowest):
        _text(figure, place, (3.9, 0.35), f"grey: below {lowest:.2f}, the lowest r shown", fontsize=8.5, color=SOFT)


def square(figure: Figure, place: Legend, top: float, names: tuple[str, str], label: str) -> None:
    """Draw the square of colours of two scales, the first to the right, the second upwards."""
    side = 1.35
    axes = _axes(figure, place, (0.62, 0.1), (side, side))
    second, first = np.indices((64, 64)) / 63
    axes.imshow(colours.bivariate(first, second), extent=(0, top, 0, top), origin="lower", interpolation="bilinear")
    for axis, name, colour in ((axes.xaxis, names[0], colours.FIRST), (axes.yaxis, names[1], colours.SECOND)):
        axis.set_ticks([0, top / 2, top], ["0", f"{top / 2:g}", f"≥ {top:g}"])
        axis.set_label_text(name, fontsize=10, fontweight="bold", color=colour)
    axes.yaxis.label.set(rotation=0, ha="right", va="center")
    x = 0.62 + side + 0.45
    _text(figure, place, (x, 0.2), label)
    words = {colours.FIRST: f"{names[0]} alone", colours.SECOND: f"{names[1]} alone",
             colours.BOTH: "each, beside the other",
             colours.NEITHER: "neither: what they explain, they share"}  # fmt: skip
    for k, (colour, text) in enumerate(words.items()):
        patch = _axes(figure, place, (x, 0.4 + 0.25 * k), (0.2, 0.15))
        patch.set(facecolor=colour, xticks=[], yticks=[])
        _text(figure, place, (x + 0.3, 0.475 + 0.25 * k), text, fontsize=9)


def height_of_kinds(n_panels: int) -> float:
    """Inches that :func:`kinds` needs."""
    return 1.0 + 0.2 * n_panels


def kinds(figure: Figure, place: Legend, top: float, names: Sequence[str], shares: dict[str, Floats]) -> None:
    """Show layers side by side, each with its colours from no margin to a full one and its share of voxels by panel."""
    first, own = 1.55, colours.palette(len(names))
    step = min((place.width - 2 * place.left - first) / len(names), 1.5)
    strength = np.linspace(0, 1, 64)
    for k, name in enumerate(names):
        x = first + k * step
        _text(figure, place, (x, 0.1), name)
        axes = _axes(figure, place, (x, 0.23), (0.8 * step, 0.16))
        axes.imshow(colours.categorical(np.full(64, k), strength, own)[None], aspect="auto", extent=(0, top, 0, 1))
        axes.set_yticks([])
        axes.set_xticks([0, top] if k == 0 else [], ["0", f"≥ {top:g}"] if k == 0 else [])
        for row, share in enumerate(shares.values()):
            at = (x + 0.4 * step, 0.76 + 0.2 * row)
            bold = "bold" if share[k] == share.max() > 0 else "normal"
            _text(figure, place, at, f"{100 * share[k]:.0f} %", fontsize=9, ha="center", fontweight=bold)
    _text(figure, place, (0, 0.1), "best layer")
    _text(figure, place, (0, 0.31), "r over second best", fontsize=8.5, color=SOFT)
    for row, panel in enumerate(shares):
        _text(figure, place, (0, 0.76 + 0.2 * row), panel, fontsize=8.5, color=SOFT)


def _ticks(top: float) -> list[float]:
    """Round numbers from 0 on, and the end of the scale."""
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if top / s <= 6 or s == 0.5)
    inner = [round(k * step, 6) for k in range(int(top / step) + 1)]
    return [t for t in inner if top - t > 0.4 * step] + [top]
